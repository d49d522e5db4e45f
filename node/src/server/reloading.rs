use super::reload::Reloader;
use std::future::pending;
use tokio::task::JoinHandle;

/// Looks at certificates in the background: a mount that hangs must not hold up anything else.
#[derive(Default)]
pub(super) struct Reloading {
    idle: Option<Reloader>,
    busy: Option<JoinHandle<(bool, Reloader)>>,
}

impl Reloading {
    /// Begins a look, unless one is under way. `make`: at first, and after one fell over.
    pub(super) fn begin(&mut self, make: impl FnOnce() -> Reloader) {
        if self.busy.is_some() {
            return;
        }
        let mut reloader = self.idle.take().unwrap_or_else(make);
        self.busy = Some(tokio::task::spawn_blocking(move || (reloader.reload(), reloader)));
    }

    /// Waits for the end of the look under way; for ever if there is none. Says whether there was news. May be
    /// dropped and called again.
    pub(super) async fn ended(&mut self) -> bool {
        let Some(busy) = self.busy.as_mut() else { return pending().await };
        let looked = busy.await;
        self.busy = None;
        match looked {
            Ok((news, reloader)) => {
                self.idle = Some(reloader);
                news
            }
            Err(_) => false,
        }
    }
}
