use super::roster;
use super::seats::Seats;
use super::status::LinkPhase;
use super::supervisor::{Parts, Supervisor};
use super::{LinkStatus, LinksConfig, Screener};
use crate::NodeWiring;
use crate::assign;
use crate::lnd::FrontNodeConfig;
use mux_raft::consensus::Consensus;
use mux_raft::types::NodePubkey;
use parking_lot::RwLock;
use std::collections::BTreeMap;
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

/// How often the log is looked at for front nodes that came or went, at most.
const ROSTER_INTERVAL: Duration = Duration::from_millis(200);

/// All links of this replica, running. Clones are handles to the same links.
#[derive(Clone)]
pub struct Links {
    running: Arc<RwLock<BTreeMap<NodePubkey, Running>>>,
    seats: Arc<Seats>,
    draining: watch::Sender<bool>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// One link.
struct Running {
    front: FrontNodeConfig,
    status: Arc<RwLock<LinkStatus>>,
    stop: CancellationToken,
}

/// What every link is given.
struct Shared {
    config: Arc<LinksConfig>,
    consensus: Arc<dyn Consensus>,
    screener: Arc<dyn Screener>,
    wiring: NodeWiring,
}

impl Links {
    /// Starts a supervisor per front node, and the task that assigns links while this replica leads. Front nodes
    /// that the log adds or removes are followed.
    #[must_use]
    pub fn start(config: LinksConfig, consensus: Arc<dyn Consensus>, screener: Arc<dyn Screener>) -> Self {
        Self::start_with(config, consensus, screener, NodeWiring::default())
    }

    /// [`Links::start`] with parts replaced.
    #[must_use]
    pub fn start_with(
        config: LinksConfig,
        consensus: Arc<dyn Consensus>,
        screener: Arc<dyn Screener>,
        wiring: NodeWiring,
    ) -> Self {
        let links = Self {
            running: Arc::default(),
            seats: Arc::default(),
            draining: watch::Sender::new(false),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let shared = Shared { config: Arc::new(config), consensus, screener, wiring };
        let (draining, stop) = (links.draining.subscribe(), links.stop.clone());
        let assign = assign::run(Arc::clone(&shared.config), Arc::clone(&shared.consensus), draining, stop);
        links.tasks.spawn(assign);
        links.follow(&shared);
        let roster = links.clone();
        links.tasks.spawn(async move { roster.keep_roster(shared).await });
        links.tasks.close();
        links
    }

    async fn keep_roster(self, shared: Shared) {
        let mut applied = shared.consensus.state().watch();
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                changed = applied.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
            self.follow(&shared);
            sleep(ROSTER_INTERVAL).await;
        }
    }

    /// Starts and stops links as configuration and log demand.
    fn follow(&self, shared: &Shared) {
        let wanted = shared.consensus.state().read(|state| roster::wanted(&shared.config, state));
        let mut running = self.running.write();
        running.retain(|node, link| {
            let stays = wanted.contains_key(node);
            if !stays {
                tracing::info!(front_node = %link.front.alias, "front node removed: its link ends");
                link.stop.cancel();
            }
            stays
        });
        for (node, front) in wanted {
            let former = running.remove(&node);
            let link = match former {
                Some(link) if roster::is_reached_alike(&link.front, &front) => Running { front, ..link },
                Some(link) => {
                    tracing::info!(front_node = %front.alias, "front node changed: its link starts anew");
                    link.stop.cancel();
                    self.start_link(shared, front)
                }
                None => self.start_link(shared, front),
            };
            running.insert(node, link);
        }
    }

    /// Begins once the node's former link, if there was one, is over.
    fn start_link(&self, shared: &Shared, front: FrontNodeConfig) -> Running {
        let status = Arc::new(RwLock::new(LinkStatus::new(front.node, &front.alias)));
        let stop = self.stop.child_token();
        let parts = Parts {
            front: front.clone(),
            config: Arc::clone(&shared.config),
            consensus: Arc::clone(&shared.consensus),
            screener: Arc::clone(&shared.screener),
            wiring: shared.wiring.clone(),
            status: Arc::clone(&status),
            draining: self.draining.subscribe(),
            stop: stop.clone(),
        };
        let (seats, stopped) = (Arc::clone(&self.seats), stop.clone());
        self.tasks.spawn(async move {
            if let Some(seat) = stopped.run_until_cancelled(seats.take(parts.front.node)).await {
                Supervisor::run(parts, seat).await;
            }
        });
        Running { front, status, stop }
    }

    /// What this replica sees of every front node.
    #[must_use]
    pub fn status(&self) -> Vec<LinkStatus> {
        self.running.read().values().map(|link| link.status.read().clone()).collect()
    }

    /// The front nodes as this replica reaches them.
    #[must_use]
    pub fn front_nodes(&self) -> Vec<FrontNodeConfig> {
        self.running.read().values().map(|link| link.front.clone()).collect()
    }

    /// Gives this replica's links to others (before a shutdown, or to drain it) and goes on giving away what
    /// is assigned to it again. Returns once no stream is open here, or after a few seconds.
    pub async fn handover(&self) {
        self.handover_within(HANDOVER_DEADLINE).await;
    }

    /// [`Self::handover`] with a deadline of its own. Returns the names of the front nodes whose stream is still
    /// open here then.
    pub async fn handover_within(&self, limit: Duration) -> Vec<String> {
        self.draining.send_replace(true);
        let deadline = Instant::now() + limit;
        let owned = || {
            let owning = self.status().into_iter().filter(|status| owns(status.phase));
            owning.map(|status| status.alias).collect()
        };
        loop {
            let owned: Vec<String> = owned();
            if owned.is_empty() || Instant::now() >= deadline {
                return owned;
            }
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
