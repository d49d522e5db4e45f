use serde::{Deserialize, Serialize};

/// What can happen to a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum FaultKind {
    /// A replica is killed, and comes back.
    Kill,
    /// The leader is killed, and comes back.
    KillLeader,
    /// A replica loses its power, and comes back.
    PowerCut,
    /// All replicas lose their power at once, and come back one after the other.
    PowerCutAll,
    /// The cluster is cut in two.
    Partition,
    /// Messages between two replicas pass in one direction only.
    OneWay,
    /// The leader cannot be reached, or reach anybody.
    CutOffLeader,
    /// A replica stands still.
    Pause,
    /// The leader stands still.
    PauseLeader,
    /// Connections break.
    Break,
    /// Messages between two replicas are slow.
    SlowLink,
    /// A replica's wall clock jumps.
    ClockJump,
    /// A replica's disk is slow.
    SlowDisk,
    /// A replica's disk is full, and is given room.
    FullDisk,
    /// A replica's disk fails, and is well after a restart.
    FailingDisk,
    /// An LND node is killed, and comes back with its database; with a standby, the other one does.
    LndKill,
    /// An LND node is stopped and started, in its own order.
    LndRestart,
    /// Connections to an LND node are reset, or stall.
    LndCut,
    /// All peers of an LND node leave and return, several times: it offers all that is held again and again.
    LndStorm,
    /// Answers get no further than an LND node's memory, and are then lost.
    LndLosesAnswers,
    /// A channel goes on chain with everything on it.
    LndForceClose,
    /// An LND node fails a held HTLC by itself, a block before it has to. Blocks come until there is one.
    LndFails,
    /// An LND node stands still.
    LndPause,
    /// A replica cannot reach an LND node, or the other way round, or both; mostly the one that has its link.
    LndCutOff,
    /// Blocks come fast, as long as nothing is decided and not settled.
    Blocks,
    /// The leader is killed in the moment in which a set is decided.
    KillDecider,
    /// A replica dies at a named point of its own code.
    CrashAtPoint,
    /// A replica falls behind, and dies at a named point while it takes a snapshot.
    CrashInInstall,
    /// A replica loses its disk, and is replaced by one with another id.
    Wipe,
    /// A replica that began with the version before this one gets this one. In runs without this fault all have it.
    Upgrade,
    /// The leader is cut off with much that was proposed to it, comes back, and dies when that is being replaced.
    StaleTail,
    /// The owner of a link hears of the log late, and has to open its stream anew.
    LaggingOwner,
    /// Replicas that are well are removed, down to three or fewer, and join again under other ids.
    Shrink,
    /// For a while an LND node tells nobody how HTLCs end, as if each event had come while nobody listened.
    LndDropsFinals,
    /// The chain loses blocks, and finds others, at once or by and by.
    Reorg,
    /// The peers of an LND node take preimages and sign nothing until HTLCs are near their end. In runs with this fault the
    /// cluster may close channels.
    LndStrands,
    /// Blocks come until HTLCs that are held are near their end, and LND fails by itself what nobody has answered.
    LastBlocks,
}

impl FaultKind {
    /// All there are.
    pub const ALL: [Self; 37] = [
        Self::Kill,
        Self::KillLeader,
        Self::PowerCut,
        Self::PowerCutAll,
        Self::Partition,
        Self::OneWay,
        Self::CutOffLeader,
        Self::Pause,
        Self::PauseLeader,
        Self::Break,
        Self::SlowLink,
        Self::ClockJump,
        Self::SlowDisk,
        Self::FullDisk,
        Self::FailingDisk,
        Self::LndKill,
        Self::LndRestart,
        Self::LndCut,
        Self::LndStorm,
        Self::LndLosesAnswers,
        Self::LndForceClose,
        Self::LndFails,
        Self::LndPause,
        Self::LndCutOff,
        Self::Blocks,
        Self::KillDecider,
        Self::CrashAtPoint,
        Self::CrashInInstall,
        Self::Wipe,
        Self::Upgrade,
        Self::StaleTail,
        Self::LaggingOwner,
        Self::Shrink,
        Self::LndDropsFinals,
        Self::Reorg,
        Self::LndStrands,
        Self::LastBlocks,
    ];

    /// Came later than the others, and is drawn beside them, so that seeds without it stay what they were.
    pub(super) const fn is_late(self) -> bool {
        matches!(
            self,
            Self::StaleTail
                | Self::LaggingOwner
                | Self::Shrink
                | Self::LndDropsFinals
                | Self::Reorg
                | Self::LndStrands
                | Self::LastBlocks
        )
    }
}
