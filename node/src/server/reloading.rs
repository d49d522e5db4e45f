use std::future::pending;
use tokio::task::JoinHandle;

/// What looks at files; takes as long as their mounts do.
pub(super) trait Look: Send + 'static {
    /// Looks once.
    fn look(&mut self);
}

/// Looks at files in the background: a mount that hangs must not hold up anything else.
pub(super) struct Reloading<L> {
    idle: Option<L>,
    busy: Option<JoinHandle<L>>,
    /// What changed since the look under way passed it is not seen by it.
    again: bool,
}

impl<L> Default for Reloading<L> {
    fn default() -> Self {
        Self { idle: None, busy: None, again: false }
    }
}

impl<L: Look> Reloading<L> {
    /// Begins a look; if one is under way, as soon as that has ended. `make`: at first, and after one fell over; looks
    /// at no file itself.
    pub(super) fn begin(&mut self, make: impl FnOnce() -> L) {
        if self.busy.is_some() {
            self.again = true;
            return;
        }
        let looking = self.idle.take().unwrap_or_else(make);
        self.start(looking);
    }

    fn start(&mut self, mut looking: L) {
        self.busy = Some(tokio::task::spawn_blocking(move || {
            looking.look();
            looking
        }));
    }

    /// Waits for the end of the look under way; for ever if there is none. May be dropped and called again.
    pub(super) async fn ended(&mut self) {
        let Some(busy) = self.busy.as_mut() else { return pending().await };
        let looked = busy.await;
        self.busy = None;
        // One that fell over is made anew; the panic hook has told of it.
        self.idle = looked.ok();
        if std::mem::take(&mut self.again)
            && let Some(looking) = self.idle.take()
        {
            self.start(looking);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, mpsc};
    use std::time::Duration;

    /// Longer than anything here takes, unless it hangs.
    const PATIENCE: Duration = Duration::from_secs(20);

    /// Looks as long as the test wants.
    struct Mount {
        begun: Arc<AtomicUsize>,
        go_on: mpsc::Receiver<bool>,
    }

    impl Look for Mount {
        fn look(&mut self) {
            self.begun.fetch_add(1, Ordering::SeqCst);
            let sound = self.go_on.recv_timeout(PATIENCE).expect("the test lets it go on");
            assert!(sound, "the test wants it to fall over");
        }
    }

    fn mount(begun: &Arc<AtomicUsize>) -> (Mount, mpsc::Sender<bool>) {
        let (let_go, go_on) = mpsc::channel();
        (Mount { begun: Arc::clone(begun), go_on }, let_go)
    }

    async fn until_begun(begun: &AtomicUsize, times: usize) {
        let all = async {
            while begun.load(Ordering::SeqCst) < times {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, all).await.expect("the look begins");
    }

    // One thread: whatever blocks it holds up the test.
    #[tokio::test]
    async fn a_look_that_hangs_holds_up_nothing_and_what_was_asked_meanwhile_is_one_look_after_it() {
        let begun = Arc::default();
        let (mount, let_go) = mount(&begun);
        let mut reloading = Reloading::default();
        reloading.begin(|| mount);
        until_begun(&begun, 1).await;
        for _ in 0..100 {
            reloading.begin(|| unreachable!("one is under way"));
            assert!(reloading.ended().now_or_never().is_none(), "the mount still hangs");
        }
        let_go.send(true).unwrap();
        tokio::time::timeout(PATIENCE, reloading.ended()).await.expect("it ends");
        until_begun(&begun, 2).await;
        let_go.send(true).unwrap();
        tokio::time::timeout(PATIENCE, reloading.ended()).await.expect("it ends");
        assert!(reloading.busy.is_none(), "one was enough");
        reloading.begin(|| unreachable!("the first is used again"));
        until_begun(&begun, 3).await;
        let_go.send(true).unwrap();
        tokio::time::timeout(PATIENCE, reloading.ended()).await.expect("it ends");
    }

    #[tokio::test]
    async fn after_a_look_that_fell_over_there_is_another() {
        let begun = Arc::default();
        let (mount_1, let_go) = mount(&begun);
        let mut reloading = Reloading::default();
        reloading.begin(|| mount_1);
        let_go.send(false).unwrap();
        tokio::time::timeout(PATIENCE, reloading.ended()).await.expect("it ends");
        let (mount_2, let_go) = mount(&begun);
        reloading.begin(|| mount_2);
        let_go.send(true).unwrap();
        tokio::time::timeout(PATIENCE, reloading.ended()).await.expect("it ends");
        assert_eq!(begun.load(Ordering::SeqCst), 2);
    }
}
