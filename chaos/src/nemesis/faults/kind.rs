//! What can be done to a cluster.

use serde::Serialize;

/// One kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// SIGKILL, and later a start.
    Kill,
    /// SIGSTOP for longer than an election and a lease, then SIGCONT.
    Pause,
    /// SIGTERM and a start, one replica after the other.
    Rolling,
    /// One replica and everything else do not hear each other.
    Partition,
    /// Packets get through from one replica to the others and not back, or the other way round.
    OneWay,
    /// The leader is with a minority, and keeps its LND nodes.
    MinorityLeader,
    /// A replica and an LND node do not hear each other.
    LndCut,
    /// Everything that one replica says and hears is late.
    Delay,
    /// A connection stands, and nothing comes through in one direction.
    HalfOpen,
    /// Connections of one replica are reset, and new ones refused.
    Reset,
    /// No room is left in a data directory; the replica stops, and is started when there is.
    FullDisk,
    /// A replica's disk is slow.
    SlowDisk,
    /// A replica is started again with a wrong wall clock: an offset in the one place where `muxd` reads it
    /// (`mux_raft::clock`; the dates of certificates apart, for which minutes are nothing). Not libfaketime: that also
    /// moves the monotonic clock unless told otherwise, which no wrong clock does, and is not on every machine. What
    /// it would move besides (timestamps of log lines, of files) decides nothing.
    SkewedClock,
    /// All replicas are killed at once: nothing is promised meanwhile but safety.
    Outage,
    /// An LND node stops and starts.
    LndRestart,
    /// An LND node's process is killed and started.
    LndKill,
    /// An LND node cuts its streams, and holds the interceptor's slot for a while.
    StreamCut,
    /// An LND node's peers flap, so that every HTLC is offered again, several times.
    ReplayStorm,
    /// An LND node loses answers that it has not passed on when it restarts.
    LostSettle,
    /// A channel goes to chain with what is on it.
    ForceClose,
    /// A block is found.
    Block,
    /// A new replica is added, then an old one removed.
    Replace,
    /// A replica is started as another version, older or newer.
    OtherVersion,
}

impl Kind {
    /// All of them.
    pub(crate) const ALL: [Self; 23] = [
        Self::Kill,
        Self::Pause,
        Self::Rolling,
        Self::Partition,
        Self::OneWay,
        Self::MinorityLeader,
        Self::LndCut,
        Self::Delay,
        Self::HalfOpen,
        Self::Reset,
        Self::FullDisk,
        Self::SlowDisk,
        Self::SkewedClock,
        Self::Outage,
        Self::LndRestart,
        Self::LndKill,
        Self::StreamCut,
        Self::ReplayStorm,
        Self::LostSettle,
        Self::ForceClose,
        Self::Block,
        Self::Replace,
        Self::OtherVersion,
    ];

    /// As on the command line and in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Pause => "pause",
            Self::Rolling => "rolling",
            Self::Partition => "partition",
            Self::OneWay => "one-way",
            Self::MinorityLeader => "minority-leader",
            Self::LndCut => "lnd-cut",
            Self::Delay => "delay",
            Self::HalfOpen => "half-open",
            Self::Reset => "reset",
            Self::FullDisk => "full-disk",
            Self::SlowDisk => "slow-disk",
            Self::SkewedClock => "skewed-clock",
            Self::Outage => "outage",
            Self::LndRestart => "lnd-restart",
            Self::LndKill => "lnd-kill",
            Self::StreamCut => "stream-cut",
            Self::ReplayStorm => "replay-storm",
            Self::LostSettle => "lost-settle",
            Self::ForceClose => "force-close",
            Self::Block => "block",
            Self::Replace => "replace",
            Self::OtherVersion => "other-version",
        }
    }

    /// The kind of this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// How long it lasts: least and most, milliseconds. What takes its time by itself has none.
    pub(crate) fn lasts_ms(self) -> (u64, u64) {
        match self {
            Self::Kill => (200, 5_000),
            // Longer than the longest election timeout and than the 3 s within which an owner must be heard.
            Self::Pause => (1_000, 8_000),
            Self::Partition | Self::OneWay | Self::MinorityLeader | Self::LndCut => (1_500, 9_000),
            Self::Delay | Self::HalfOpen | Self::SlowDisk => (2_000, 8_000),
            Self::Reset => (300, 3_000),
            Self::FullDisk => (1_500, 5_000),
            Self::SkewedClock => (4_000, 12_000),
            Self::Outage => (300, 4_000),
            Self::LostSettle => (500, 2_000),
            Self::Rolling
            | Self::LndRestart
            | Self::LndKill
            | Self::StreamCut
            | Self::ReplayStorm
            | Self::ForceClose
            | Self::Block
            | Self::Replace
            | Self::OtherVersion => (0, 0),
        }
    }

    /// It can keep payers waiting, so it is of interest for how long.
    pub(crate) fn disturbs(self) -> bool {
        self != Self::Block
    }

    /// It needs zones with their own mounts.
    pub(crate) fn needs_zones(self) -> bool {
        self == Self::FullDisk
    }
}
