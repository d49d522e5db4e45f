//! Front nodes: the LND nodes whose HTLC streams the replicas hold, as the log knows them.
//!
//! A node keeps every policy it ever announced, so that an invoice is judged by the one it was issued with.

use super::FrontNodePolicy;
use crate::machine::command::RequestId;
use crate::types::{BlockHeight, LogTimeMs, NodePubkey, ReplicaId, SessionId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A front node and its link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrontNode {
    /// The LND node.
    pub node: NodePubkey,
    /// For people.
    pub alias: String,
    /// What new invoices announce.
    pub policy: FrontNodePolicy,
    /// What older invoices announced; honoured all the same.
    pub former_policies: Vec<FrontNodePolicy>,
    /// Who shall hold its stream.
    pub assigned: Option<ReplicaId>,
    /// Log time of the last assignment.
    pub assigned_at_ms: LogTimeMs,
    /// Last session number given.
    pub last_session: SessionId,
    /// The session, unless the stream is down.
    pub session: Option<Session>,
    /// Last tip reported, and when.
    pub tip: Option<Tip>,
    /// Further than [`super::HEIGHT_DEVIATION_MAX`] from the median.
    pub height_flagged: bool,
}

impl FrontNode {
    /// The policy that an HTLC over this virtual scid is judged by.
    #[must_use]
    pub fn policy_of(&self, scid: u64) -> Option<&FrontNodePolicy> {
        std::iter::once(&self.policy).chain(&self.former_policies).find(|policy| policy.scid == scid)
    }
}

/// A front node's stream as the log knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Its number.
    pub id: SessionId,
    /// Who holds the stream.
    pub owner: ReplicaId,
    /// See [`crate::machine::Command::LinkUp`].
    pub stream: RequestId,
    /// Term in which the owner last confirmed it.
    pub confirmed_term: u64,
    /// Log time at which the owner was last heard from.
    pub heard_at_ms: LogTimeMs,
    /// Channels with held HTLCs that are not active.
    pub inactive_channels: BTreeSet<u64>,
}

/// A reported chain tip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tip {
    /// Height.
    pub height: BlockHeight,
    /// Block hash.
    pub hash: [u8; 32],
    /// LND's `synced_to_chain`.
    pub synced: bool,
    /// Log time of the last report of it.
    pub confirmed_at_ms: LogTimeMs,
}
