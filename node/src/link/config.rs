use crate::lnd::FrontNodeConfig;
use mux_raft::types::{BlockHeight, ReplicaId};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// What links and their assignment need to know.
#[derive(Clone, Debug, Default)]
pub struct LinksConfig {
    /// The front nodes of this replica's configuration. Those that the log says how to reach come on top.
    pub front_nodes: Vec<FrontNodeConfig>,
    /// What relative paths of macaroons in the log are relative to.
    pub dir: PathBuf,
    /// LND's name of the cluster's network (`mainnet`, `testnet`, `testnet4`, `signet`, `simnet`, `regtest`).
    pub network: String,
    /// Times, all local to a replica.
    pub timing: LinkTiming,
    /// What happens to decided HTLCs that do not become final.
    pub rescue: RescueConfig,
    /// How the leader assigns links.
    pub assign: AssignConfig,
}

/// Times of a link. Safety does not depend on them.
#[derive(Clone, Copy, Debug)]
pub struct LinkTiming {
    /// Without quorum contact for this long the stream is closed, so that a majority side can take it.
    pub quorum_patience: Duration,
    /// Nobody took it for this long: it is opened again, degraded.
    pub degraded_after: Duration,
    /// How long a degraded stream stays open before it frees the slot.
    pub degraded_hold: Duration,
    /// How long it then frees the slot.
    pub degraded_pause: Duration,
    /// How often the link reports into the log.
    pub report_interval: Duration,
    /// A node that answers nothing for this long counts as unreachable and its stream as dead.
    pub node_patience: Duration,
    /// How often a refused slot is tried again, at least.
    pub slot_retry: Duration,
    /// First back-off after a connection or stream ended; doubles up to [`Self::backoff_max`].
    pub backoff_min: Duration,
    /// Longest back-off.
    pub backoff_max: Duration,
    /// How often every HTLC without a known end is looked up.
    pub lookup_interval: Duration,
}

impl Default for LinkTiming {
    fn default() -> Self {
        Self {
            quorum_patience: Duration::from_secs(3),
            degraded_after: Duration::from_secs(10),
            degraded_hold: Duration::from_secs(28),
            degraded_pause: Duration::from_secs(2),
            report_interval: Duration::from_secs(1),
            node_patience: Duration::from_secs(5),
            slot_retry: Duration::from_millis(100),
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(5),
            lookup_interval: Duration::from_secs(30),
        }
    }
}

/// See "Rescue": a SETTLE alone does not make LND go on chain for the money.
#[derive(Clone, Copy, Debug)]
pub struct RescueConfig {
    /// Blocks before `incoming_expiry - 16` at which the alarm is raised.
    pub margin_blocks: BlockHeight,
    /// Also force-close the channel (needs the `CloseChannel` permission).
    pub force_close: bool,
}

impl Default for RescueConfig {
    fn default() -> Self {
        Self { margin_blocks: 4, force_close: false }
    }
}

/// How the leader assigns links to replicas.
#[derive(Clone, Debug)]
pub struct AssignConfig {
    /// Zones of replicas; one that is not named is nowhere special.
    pub zones: BTreeMap<ReplicaId, String>,
    /// How often the leader looks.
    pub interval: Duration,
    /// A replica whose acknowledgements are this much overdue is gone.
    pub gone_after: Duration,
    /// The same for one that has never acknowledged this leader.
    pub never_heard_after: Duration,
    /// In a quiet log the leader proposes a tick this often, to see who acknowledges it.
    pub probe_interval: Duration,
    /// A link that its owner reports down for this long is given to another replica.
    pub down_after: Duration,
    /// A session not reported on for this long is given to another replica.
    pub silent_after: Duration,
    /// At most one move per node in this time (the first is immediate).
    pub move_interval: Duration,
    /// How long an imbalance of more than one link must last before a link is moved for it.
    pub balance_after: Duration,
}

impl Default for AssignConfig {
    fn default() -> Self {
        Self {
            zones: BTreeMap::new(),
            interval: Duration::from_millis(50),
            gone_after: Duration::from_millis(600),
            never_heard_after: Duration::from_millis(300),
            probe_interval: Duration::from_millis(200),
            down_after: Duration::from_secs(2),
            silent_after: Duration::from_secs(3),
            move_interval: Duration::from_secs(10),
            balance_after: Duration::from_secs(30),
        }
    }
}
