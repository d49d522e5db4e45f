use mux_raft::machine::command::ChainTip;
use mux_raft::types::{NodePubkey, SessionId};

/// What this replica sees of one front node. For people and for the choice of route hints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkStatus {
    /// The front node.
    pub node: NodePubkey,
    /// Its name.
    pub alias: String,
    /// Where the link stands here.
    pub phase: LinkPhase,
    /// `host:port` connected to.
    pub endpoint: Option<String>,
    /// The session that this replica holds.
    pub session: Option<SessionId>,
    /// HTLCs of ours offered and unanswered on this replica's stream.
    pub held: usize,
    /// The node's tip, if it told it lately.
    pub tip: Option<ChainTip>,
    /// What the node can still receive over its active channels, if known.
    pub receivable_msat: Option<u64>,
    /// Why it is not better than it is.
    pub last_error: Option<String>,
}

/// Where a link stands at one replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkPhase {
    /// No connection.
    Disconnected,
    /// LND must not be used as it is; an operator has to act.
    Refused,
    /// Connected and ready; another replica owns the link.
    Standby,
    /// This replica's to hold; the stream is being opened, or the slot is taken.
    Opening,
    /// Stream held, session not confirmed yet.
    Joining,
    /// Stream held, session up.
    Up,
    /// Stream held without a quorum: only safe answers are given.
    Degraded,
    /// Without a quorum the slot is left to others.
    Yielding,
    /// Stopped.
    Stopped,
}

impl LinkPhase {
    /// For people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disconnected => "disconnected",
            Self::Refused => "refused",
            Self::Standby => "standby",
            Self::Opening => "opening",
            Self::Joining => "joining",
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::Yielding => "yielding",
            Self::Stopped => "stopped",
        }
    }
}

impl LinkStatus {
    pub(super) fn new(node: NodePubkey, alias: &str) -> Self {
        Self {
            node,
            alias: alias.to_owned(),
            phase: LinkPhase::Disconnected,
            endpoint: None,
            session: None,
            held: 0,
            tip: None,
            receivable_msat: None,
            last_error: None,
        }
    }

    /// One line for an operator.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = self.phase.as_str().to_owned();
        if let Some(endpoint) = &self.endpoint {
            text = format!("{text} at {endpoint}");
        }
        if let Some(session) = self.session {
            text = format!("{text}, session {session}, {} held", self.held);
        }
        if let Some(error) = &self.last_error {
            text = format!("{text}: {error}");
        }
        text
    }
}
