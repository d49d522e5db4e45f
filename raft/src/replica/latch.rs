use std::sync::Arc;
use tokio::sync::watch;

/// Remembers why the replica cannot go on. The first reason stays; everybody who holds a clone sees it.
#[derive(Clone, Debug)]
pub struct Latch {
    reason: Arc<watch::Sender<Option<String>>>,
}

impl Latch {
    pub(crate) fn new() -> Self {
        Self { reason: Arc::new(watch::channel(None).0) }
    }

    /// Stops the replica, unless it has stopped already.
    pub fn trip(&self, reason: impl Into<String>) {
        let reason = reason.into();
        self.reason.send_if_modified(|current| {
            let first = current.is_none();
            if first {
                tracing::error!(%reason, "the replica stops: it cannot go on safely");
                *current = Some(reason);
            }
            first
        });
    }

    /// Why the replica stopped, if it did.
    pub(crate) fn reason(&self) -> Option<String> {
        self.reason.borrow().clone()
    }

    /// Waits until the replica stops, and says why.
    pub(crate) async fn tripped(&self) -> String {
        let mut receiver = self.reason.subscribe();
        let reason = receiver.wait_for(Option::is_some).await.map(|reason| reason.clone());
        reason.ok().flatten().unwrap_or_default()
    }
}
