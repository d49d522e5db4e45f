//! The state itself and how it is read. [`State::apply`] is the only writer.
//!
//! What is stored is in `Core`; `Index` follows from it, is kept along with it and rebuilt when a snapshot
//! is read.

use super::archive::ArchiveTip;
use super::command::RequestId;
use super::index::Index;
use super::level;
use super::model::{
    Event, FrontNode, FrontNodeExtra, FrontNodeMode, Htlc, Invoice, InvoiceState, Settings, Verdict,
};
use super::recall::Recalled;
use super::reply::Reply;
use super::restoring::Restored;
use super::stores::Stores;
use crate::types::{CircuitKey, LogIndex, LogTimeMs, NodePubkey, PaymentHash, Preimage, ReplicaId};
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub(super) core: Core,
    pub(super) more: More,
    pub(super) index: Index,
    /// What the entry being applied needs from the archive; empty between entries.
    pub(super) recalled: Recalled,
}

/// What a snapshot stores at every feature level. Frozen: this is the layout of level 1; what is new goes into
/// [`More`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Core {
    pub(super) applied: LogPosition,
    pub(super) time_ms: LogTimeMs,
    /// Accept and mpp timers do not fire before.
    pub(super) grace_until_ms: LogTimeMs,
    pub(super) settings: Settings,
    pub(super) front_nodes: BTreeMap<NodePubkey, FrontNode>,
    /// Streams that once had a session, newest last; see `links`.
    pub(super) former_streams: BTreeMap<NodePubkey, VecDeque<RequestId>>,
    pub(super) invoices: BTreeMap<PaymentHash, Invoice>,
    pub(super) htlcs: BTreeMap<CircuitKey, Htlc>,
    /// Preimages that came with a settle intent nothing has decided yet: no reader shows them.
    pub(super) intents: BTreeMap<PaymentHash, Preimage>,
    pub(super) last_add_index: u64,
    pub(super) last_decision_index: u64,
    pub(super) last_settle_index: u64,
    pub(super) last_event: u64,
    pub(super) events: VecDeque<Event>,
    pub(super) requests: BTreeMap<RequestId, (LogTimeMs, Reply)>,
    pub(super) chain_hash: [u8; 32],
}

/// What a snapshot stores from feature level 2 on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct More {
    /// 0 before it was ever raised.
    pub(super) level: u16,
    pub(super) archive: ArchiveTip,
    /// Invoices of each state that are archived and not forgotten.
    pub(super) archived_counts: BTreeMap<InvoiceState, u64>,
    /// `None`: for ever.
    pub(super) keep_finished_ms: Option<LogTimeMs>,
    pub(super) restored: Option<Restored>,
    pub(super) stores: Stores,
    /// Front nodes that were added, disabled or removed at run time.
    pub(super) front_nodes: BTreeMap<NodePubkey, FrontNodeExtra>,
    pub(super) retired_replicas: BTreeSet<ReplicaId>,
}

impl State {
    /// The last entry applied.
    #[must_use]
    pub fn applied(&self) -> LogPosition {
        self.core.applied
    }

    /// Log time.
    #[must_use]
    pub fn time_ms(&self) -> LogTimeMs {
        self.core.time_ms
    }

    /// What operators set.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.core.settings
    }

    /// The feature level: which commands may be proposed and which rules apply, see [`super::level`].
    #[must_use]
    pub fn feature_level(&self) -> u16 {
        self.more.level.max(level::FIRST)
    }

    /// What has left memory for the archive.
    #[must_use]
    pub fn archive_tip(&self) -> &ArchiveTip {
        &self.more.archive
    }

    /// How long finished invoices are kept after their end; `None`: for ever.
    #[must_use]
    pub fn keep_finished_ms(&self) -> Option<LogTimeMs> {
        self.more.keep_finished_ms
    }

    /// Replicas that were removed, or are about to be: these ids never come back.
    #[must_use]
    pub fn retired_replicas(&self) -> &BTreeSet<ReplicaId> {
        &self.more.retired_replicas
    }

    /// Rolling hash over everything applied so far.
    #[must_use]
    pub fn chain_hash(&self) -> [u8; 32] {
        self.core.chain_hash
    }

    /// An invoice that is in memory: every unfinished one. Finished ones are in the archive.
    #[must_use]
    pub fn invoice(&self, hash: &PaymentHash) -> Option<&Invoice> {
        self.core.invoices.get(hash)
    }

    /// Invoices in memory whose add_index is greater, in that order. Tombstones of unseen stateless invoices have no
    /// add_index and are not among them.
    pub fn invoices_after(&self, add_index: u64) -> impl DoubleEndedIterator<Item = &Invoice> {
        let numbers = self.index.by_add_index.range(add_index.saturating_add(1)..);
        numbers.filter_map(|(_, hash)| self.core.invoices.get(hash))
    }

    /// Decided invoices in memory from this decision_index on, in that order.
    pub fn decided_from(&self, decision_index: u64) -> impl DoubleEndedIterator<Item = &Invoice> {
        let numbers = self.index.by_decision_index.range(decision_index..);
        numbers.filter_map(|(_, hash)| self.core.invoices.get(hash))
    }

    /// SETTLED and PARTIAL invoices in memory whose settle_index is greater, in that order.
    pub fn settled_after(&self, settle_index: u64) -> impl DoubleEndedIterator<Item = &Invoice> {
        let numbers = self.index.by_settle_index.range(settle_index.saturating_add(1)..);
        numbers.filter_map(|(_, hash)| self.core.invoices.get(hash))
    }

    /// An HTLC.
    #[must_use]
    pub fn htlc(&self, key: &CircuitKey) -> Option<&Htlc> {
        self.core.htlcs.get(key)
    }

    /// The recorded verdict of an HTLC.
    #[must_use]
    pub fn verdict(&self, key: &CircuitKey) -> Option<Verdict> {
        self.core.htlcs.get(key).and_then(|htlc| htlc.verdict)
    }

    /// All HTLCs of a front node that the state knows.
    pub fn htlcs_of(&self, node: &NodePubkey) -> impl Iterator<Item = &Htlc> {
        let first = CircuitKey { node: *node, chan_id: 0, htlc_id: 0 };
        let last = CircuitKey { node: *node, chan_id: u64::MAX, htlc_id: u64::MAX };
        self.core.htlcs.range(first..=last).map(|(_, htlc)| htlc)
    }

    /// A front node, unless it was removed.
    #[must_use]
    pub fn front_node(&self, node: &NodePubkey) -> Option<&FrontNode> {
        self.core.front_nodes.get(node).filter(|_| self.front_node_mode(node) != FrontNodeMode::Removed)
    }

    /// All front nodes that were not removed.
    pub fn front_nodes(&self) -> impl Iterator<Item = &FrontNode> {
        self.all_front_nodes().filter(|front| self.front_node_mode(&front.node) != FrontNodeMode::Removed)
    }

    /// All front nodes that ever were: also those that were removed may have HTLCs.
    pub fn all_front_nodes(&self) -> impl Iterator<Item = &FrontNode> {
        self.core.front_nodes.values()
    }

    /// The sequence number of the oldest event in memory; one past the last if there is none. Older ones are in
    /// the archive.
    #[must_use]
    pub fn first_event_in_memory(&self) -> u64 {
        self.core
            .events
            .front()
            .map_or_else(|| self.core.last_event.saturating_add(1), |event| event.sequence)
    }

    /// Events in memory after a sequence number, oldest first.
    pub fn events_after(&self, sequence: u64) -> impl Iterator<Item = &Event> {
        let first = self.core.events.front().map_or(0, |event| event.sequence);
        let skipped = sequence.saturating_add(1).saturating_sub(first);
        let skipped = usize::try_from(skipped).unwrap_or(usize::MAX).min(self.core.events.len());
        self.core.events.range(skipped..)
    }

    /// The last event's sequence number; 0 before the first.
    #[must_use]
    pub fn event_sequence(&self) -> u64 {
        self.core.last_event
    }
}
