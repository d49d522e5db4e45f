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

/// What the cluster does with a front node. Level 2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum FrontNodeMode {
    /// New invoices name it.
    #[default]
    Active,
    /// No new invoice names it; its link goes on, so that what is held or promised is still received.
    Disabled,
    /// No link. Its record stays: its virtual scids are never used again, and its sessions are counted on if it
    /// comes back.
    Removed,
}

/// How every replica reaches a front node that was added at run time. Level 2.
///
/// No secret: the macaroon itself never goes into the log, only the name of its file on every replica.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrontNodeAccess {
    /// Where its gRPC API answers; several with LND's own leader election.
    pub endpoints: Vec<FrontNodeEndpoint>,
    /// Path of the file with its macaroon, on every replica; if it is relative, to the directory of the replica's
    /// configuration.
    pub macaroon: String,
    /// Where the node runs; empty: nowhere special.
    pub zone: String,
}

/// One listener of a front node. Level 2.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrontNodeEndpoint {
    /// `host:port`.
    pub address: String,
    /// Its certificate in PEM; exactly this one is trusted.
    pub tls_cert: String,
}

/// What the log knows of a front node beyond [`FrontNode`], whose layout is that of level 1. Level 2.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrontNodeExtra {
    /// What the cluster does with it.
    pub mode: FrontNodeMode,
    /// How it is reached; `None`: only replicas whose configuration names it know.
    pub access: Option<FrontNodeAccess>,
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
