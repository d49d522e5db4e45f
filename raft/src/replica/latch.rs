use std::sync::Arc;
use tokio::sync::watch;

/// Remembers why the replica cannot go on. The first reason stays; everybody who holds a clone sees it.
#[derive(Clone, Debug)]
pub struct Latch {
    reason: Arc<watch::Sender<Option<String>>>,
    /// Follows every reason that is given here.
    advice: Option<Arc<str>>,
}

impl Latch {
    pub(crate) fn new() -> Self {
        Self { reason: Arc::new(watch::channel(None).0), advice: None }
    }

    /// The same for a part that knows what failed, but not what the operator is to do.
    pub(crate) fn with_advice(&self, advice: &str) -> Self {
        Self { reason: Arc::clone(&self.reason), advice: Some(advice.into()) }
    }

    /// Stops the replica, unless it has stopped already.
    pub fn trip(&self, reason: impl Into<String>) {
        let mut reason = reason.into();
        if let Some(advice) = &self.advice {
            reason = format!("{reason}: {advice}");
        }
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
