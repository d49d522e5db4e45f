use super::status::LinkPhase;
use super::supervisor::{Parts, Supervisor};
use super::{LinkStatus, LinksConfig, Screener};
use crate::assign;
use mux_raft::consensus::Consensus;
use parking_lot::RwLock;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a handover may take before the shutdown goes on without it.
const HANDOVER_DEADLINE: Duration = Duration::from_secs(5);

/// How often a handover looks whether it is done.
const HANDOVER_POLL: Duration = Duration::from_millis(20);

/// How long the tasks have to end once they are told to.
const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// All links of this replica, running. Clones are handles to the same links.
#[derive(Clone)]
pub struct Links {
    statuses: Arc<[Arc<RwLock<LinkStatus>>]>,
    draining: watch::Sender<bool>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Links {
    /// Starts a supervisor per front node, and the task that assigns links while this replica leads.
    #[must_use]
    pub fn start(config: LinksConfig, consensus: Arc<dyn Consensus>, screener: Arc<dyn Screener>) -> Self {
        let statuses: Arc<[_]> = config
            .front_nodes
            .iter()
            .map(|front| Arc::new(RwLock::new(LinkStatus::new(front.node, &front.alias))))
            .collect();
        let links = Self {
            statuses,
            draining: watch::Sender::new(false),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let config = Arc::new(config);
        for (front, status) in config.front_nodes.iter().zip(links.statuses.iter()) {
            links.tasks.spawn(Supervisor::run(Parts {
                front: front.clone(),
                config: Arc::clone(&config),
                consensus: Arc::clone(&consensus),
                screener: Arc::clone(&screener),
                status: Arc::clone(status),
                draining: links.draining.subscribe(),
                stop: links.stop.clone(),
            }));
        }
        links.tasks.spawn(assign::run(config, consensus, links.draining.subscribe(), links.stop.clone()));
        links.tasks.close();
        links
    }

    /// What this replica sees of every front node.
    #[must_use]
    pub fn status(&self) -> Vec<LinkStatus> {
        self.statuses.iter().map(|status| status.read().clone()).collect()
    }

    /// Gives this replica's links to others (before a shutdown, or to drain it) and goes on giving away what
    /// is assigned to it again. Returns once no stream is open here, or after a few seconds.
    pub async fn handover(&self) {
        self.draining.send_replace(true);
        let deadline = Instant::now() + HANDOVER_DEADLINE;
        while self.statuses.iter().any(|status| owns(status.read().phase)) && Instant::now() < deadline {
            sleep(HANDOVER_POLL).await;
        }
    }

    /// Whether links are given away, by a [`Self::handover`] that was not taken back.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// Takes links again after a [`Self::handover`].
    pub fn resume(&self) {
        self.draining.send_replace(false);
    }

    /// Closes the streams and ends all tasks.
    pub async fn stop(&self) {
        self.stop.cancel();
        if tokio::time::timeout(STOP_DEADLINE, self.tasks.wait()).await.is_err() {
            tracing::warn!("links did not stop in time");
        }
    }
}

fn owns(phase: LinkPhase) -> bool {
    match phase {
        LinkPhase::Opening | LinkPhase::Joining | LinkPhase::Up | LinkPhase::Degraded => true,
        LinkPhase::Disconnected
        | LinkPhase::Refused
        | LinkPhase::Standby
        | LinkPhase::Yielding
        | LinkPhase::Stopped => false,
    }
}
