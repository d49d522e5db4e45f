//! The state itself and how it is read. `apply` is the only writer.

use super::command::{Envelope, RequestId};
use super::model::{Event, FrontNode, Htlc, Invoice, Settings, Verdict};
use super::reply::{Applied, Reply};
use crate::types::{BlockHeight, CircuitKey, LogIndex, LogTimeMs, NodePubkey, PaymentHash};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Where an entry stands in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LogPosition {
    /// Term of the leader that proposed it.
    pub term: u64,
    /// Its index.
    pub index: LogIndex,
}

/// The replicated state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    pub(super) applied: LogPosition,
    pub(super) time_ms: LogTimeMs,
    pub(super) grace_until_ms: LogTimeMs,
    pub(super) settings: Settings,
    pub(super) front_nodes: BTreeMap<NodePubkey, FrontNode>,
    pub(super) invoices: BTreeMap<PaymentHash, Invoice>,
    pub(super) htlcs: BTreeMap<CircuitKey, Htlc>,
    pub(super) by_add_index: BTreeMap<u64, PaymentHash>,
    pub(super) by_decision_index: BTreeMap<u64, PaymentHash>,
    pub(super) by_settle_index: BTreeMap<u64, PaymentHash>,
    pub(super) events: VecDeque<Event>,
    pub(super) requests: BTreeMap<RequestId, (LogTimeMs, Reply)>,
    pub(super) timers: BTreeSet<(LogTimeMs, PaymentHash)>,
    pub(super) chain_hash: [u8; 32],
}

impl State {
    /// Applies one entry. `None` stands for an entry without a command (a new leader's first, a membership
    /// change): it moves the position and the term all the same.
    pub fn apply(&mut self, at: LogPosition, _entry: Option<&Envelope>) -> Applied {
        self.applied = at;
        Applied::default()
    }

    /// The last entry applied.
    #[must_use]
    pub fn applied(&self) -> LogPosition {
        self.applied
    }

    /// Log time.
    #[must_use]
    pub fn time_ms(&self) -> LogTimeMs {
        self.time_ms
    }

    /// What operators set.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Rolling hash over everything applied so far.
    #[must_use]
    pub fn chain_hash(&self) -> [u8; 32] {
        self.chain_hash
    }

    /// An invoice.
    #[must_use]
    pub fn invoice(&self, hash: &PaymentHash) -> Option<&Invoice> {
        self.invoices.get(hash)
    }

    /// Invoices whose add_index is greater, in that order.
    pub fn invoices_after(&self, add_index: u64) -> impl DoubleEndedIterator<Item = &Invoice> {
        self.by_add_index.range(add_index.saturating_add(1)..).filter_map(|(_, hash)| self.invoices.get(hash))
    }

    /// Decided invoices from this decision_index on, in that order.
    pub fn decided_from(&self, decision_index: u64) -> impl DoubleEndedIterator<Item = &Invoice> {
        self.by_decision_index.range(decision_index..).filter_map(|(_, hash)| self.invoices.get(hash))
    }

    /// An HTLC.
    #[must_use]
    pub fn htlc(&self, key: &CircuitKey) -> Option<&Htlc> {
        self.htlcs.get(key)
    }

    /// The recorded verdict of an HTLC.
    #[must_use]
    pub fn verdict(&self, key: &CircuitKey) -> Option<Verdict> {
        self.htlcs.get(key).and_then(|htlc| htlc.verdict)
    }

    /// All HTLCs of a front node that the state knows.
    pub fn htlcs_of(&self, node: &NodePubkey) -> impl Iterator<Item = &Htlc> {
        let first = CircuitKey { node: *node, chan_id: 0, htlc_id: 0 };
        let last = CircuitKey { node: *node, chan_id: u64::MAX, htlc_id: u64::MAX };
        self.htlcs.range(first..=last).map(|(_, htlc)| htlc)
    }

    /// A front node.
    #[must_use]
    pub fn front_node(&self, node: &NodePubkey) -> Option<&FrontNode> {
        self.front_nodes.get(node)
    }

    /// All front nodes.
    pub fn front_nodes(&self) -> impl Iterator<Item = &FrontNode> {
        self.front_nodes.values()
    }

    /// The height that HTLCs of this node are judged by: the greater of its own and the median of the
    /// nodes whose height is fresh and plausible. `None`: none is known.
    #[must_use]
    pub fn height_for(&self, node: &NodePubkey) -> Option<BlockHeight> {
        self.front_nodes.get(node).and_then(|front| front.tip).map(|tip| tip.height)
    }

    /// Events after a sequence number, oldest first.
    pub fn events_after(&self, sequence: u64) -> impl Iterator<Item = &Event> {
        self.events.iter().filter(move |event| event.sequence > sequence)
    }

    /// The last event's sequence number; 0 before the first.
    #[must_use]
    pub fn event_sequence(&self) -> u64 {
        self.events.back().map_or(0, |event| event.sequence)
    }
}
