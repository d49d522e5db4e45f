//! `apply`: the only writer of the state.
//!
//! The order within an entry is part of what replicas must agree on: time passes first (heights go stale,
//! deadlines, timers and expiries fall due), then the command acts, then whatever it made due, then gates
//! that it may have opened, then forgetting; last the entry goes into the rolling hash.

use super::archive::{ArchiveLookup, ArchiveUnreadable, NewRecord};
use super::command::{COMMAND_FORMAT, Command, Envelope, FINALS_PER_ENTRY_MAX, OFFERS_PER_ENTRY_MAX};
use super::level;
use super::model::{Event, GAP_GRACE_MS, GAP_MS, Settings};
use super::recall::Recalled;
use super::reply::{Alarm, Applied, Rejection, Reply};
use super::state::{LogPosition, State};
use crate::mutant::{Mutant, planted};
use crate::types::{LogTimeMs, NodePubkey};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;

/// Why a replica must stop: going on would make it differ from the others, or from what it acknowledged.
/// Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FatalApply {
    /// A newer version wrote the entry.
    #[error(
        "log entry of feature level {found}; muxd {} knows up to {COMMAND_FORMAT}: upgrade this replica",
        env!("CARGO_PKG_VERSION")
    )]
    UnknownFormat {
        /// The entry's.
        found: u16,
    },
    /// The cluster has moved on to a feature level of a newer version.
    #[error(
        "the cluster is at feature level {level}, which needs muxd {version} or later; this is {}, which knows \
         up to {COMMAND_FORMAT}: upgrade this replica",
        env!("CARGO_PKG_VERSION")
    )]
    NeedsVersion {
        /// The cluster's level.
        level: u16,
        /// The first version that knows it.
        version: String,
    },
    /// The entry does not come after the one applied last.
    #[error("log entry {found:?} cannot follow {applied:?}")]
    OutOfOrder {
        /// The entry's position.
        found: LogPosition,
        /// The last applied.
        applied: LogPosition,
    },
    /// The archive does not say what the entry must know.
    #[error(transparent)]
    Archive(#[from] ArchiveUnreadable),
}

/// What applying one entry gathers on its way.
#[derive(Debug, Default)]
pub(super) struct Step {
    pub(super) nodes: BTreeSet<NodePubkey>,
    pub(super) events: bool,
    /// For the chain hash: the archive may take them out of the state in the same entry.
    pub(super) emitted: Vec<Event>,
    pub(super) alarms: Vec<Alarm>,
    pub(super) archived: Vec<NewRecord>,
}

/// Whose gates an entry may have opened, beyond those its command already tried.
enum GateScope {
    None,
    Node(NodePubkey),
    All,
}

impl State {
    /// Applies one entry. `None` stands for an entry without a command (a new leader's first, a membership
    /// change): it moves the position and the term all the same. `archive` must hold every record that this
    /// state says is archived; what it holds beyond is not looked at.
    ///
    /// # Errors
    /// [`FatalApply`]: the replica must stop.
    pub fn apply(
        &mut self,
        at: LogPosition,
        entry: Option<&Envelope>,
        archive: &dyn ArchiveLookup,
    ) -> Result<Applied, FatalApply> {
        self.check_applicable(at, entry)?;
        self.recalled = entry.map_or(Ok(Recalled::default()), |envelope| self.recall(envelope, archive))?;
        if let Some(envelope) = entry {
            self.forget_archived(&envelope.command, archive)?;
        }
        let mut step = Step::default();
        if at.term != self.core.applied.term {
            step.nodes.extend(self.core.front_nodes.keys());
        }
        self.core.applied = at;
        let reply = entry.map(|envelope| self.apply_envelope(&mut step, envelope));
        self.recalled = Recalled::default();
        if self.feature_level() >= level::ARCHIVE {
            self.archive_finished(&mut step);
        }
        self.extend_chain_hash(reply.as_ref(), &step.emitted);
        let nodes = step.nodes.into_iter().collect();
        let Step { events, emitted: changes, alarms, archived, .. } = step;
        Ok(Applied { reply, nodes, events, changes, alarms, archived })
    }

    fn check_applicable(&self, at: LogPosition, entry: Option<&Envelope>) -> Result<(), FatalApply> {
        if let Some(envelope) = entry
            && envelope.format > COMMAND_FORMAT
        {
            return Err(FatalApply::UnknownFormat { found: envelope.format });
        }
        if let Some(Command::RaiseFeatureLevel { level, version }) = entry.map(|envelope| &envelope.command)
            && *level > COMMAND_FORMAT
        {
            return Err(FatalApply::NeedsVersion { level: *level, version: version.clone() });
        }
        let applied = self.core.applied;
        // The default position stands for "nothing applied"; a log may begin at index 0.
        let follows = applied == LogPosition::default() || at.index > applied.index;
        if !follows || at.term < applied.term {
            return Err(FatalApply::OutOfOrder { found: at, applied });
        }
        Ok(())
    }

    fn apply_envelope(&mut self, step: &mut Step, envelope: &Envelope) -> Reply {
        self.advance_time(envelope.time_ms);
        self.run_due(step);
        let known = envelope.request_id.filter(|_| !planted(Mutant::ForgetDedupe));
        let known = known.and_then(|id| self.core.requests.get(&id));
        let reply = if let Some((_, reply)) = known {
            reply.clone()
        } else {
            let reply = self.execute(step, &envelope.command);
            self.run_due(step);
            self.try_gates(step, &envelope.command);
            if let Some(id) = envelope.request_id {
                self.keep_request(id, reply.clone());
            }
            reply
        };
        self.settle_doubts(step);
        self.forget(step);
        reply
    }

    /// Log time never runs back. A long gap means that nobody could act: timers get some grace.
    fn advance_time(&mut self, time_ms: LogTimeMs) {
        let former = self.core.time_ms;
        self.core.time_ms = former.max(time_ms);
        if former != 0 && self.core.time_ms.saturating_sub(former) > GAP_MS {
            self.core.grace_until_ms = self.core.time_ms.saturating_add(GAP_GRACE_MS);
        }
    }

    fn execute(&mut self, step: &mut Step, command: &Command) -> Reply {
        match command {
            Command::Tick => Reply::Done,
            Command::Configure(settings) => self.configure(settings),
            Command::PutFrontNode { node, alias, policy } => self.put_front_node(step, *node, alias, *policy),
            Command::AssignLink { node, replica } => self.assign_link(step, *node, *replica),
            Command::LinkUp { node, replica, stream } => self.link_up(step, *node, *replica, *stream),
            Command::LinkReport { node, session, tip, inactive_channels } => {
                self.link_report(step, *node, (*session, *tip, inactive_channels))
            }
            Command::LinkDown { node, session } => self.link_down(step, *node, *session),
            Command::OfferHtlcs { node, session, offers } => {
                if offers.len() > OFFERS_PER_ENTRY_MAX {
                    return too_many(OFFERS_PER_ENTRY_MAX);
                }
                self.offer_htlcs(step, *node, *session, offers)
            }
            Command::HtlcFinals { node, finals } => {
                if finals.len() > FINALS_PER_ENTRY_MAX {
                    return too_many(FINALS_PER_ENTRY_MAX);
                }
                self.htlc_finals(step, *node, finals)
            }
            Command::ResolveHtlc { key, settled } => self.resolve_htlc(step, *key, *settled),
            Command::AddInvoice(invoice) => self.add_invoice(step, invoice),
            Command::SettleInvoice { hash, set_id, preimage, keep_intent } => {
                self.settle_invoice(step, *hash, *set_id, (preimage.as_ref(), *keep_intent))
            }
            Command::CancelInvoice { hash, scope } => self.cancel_invoice(step, *hash, scope),
            Command::RaiseFeatureLevel { level, .. } => self.raise_feature_level(step, *level),
            Command::AcceptRestoration => self.accept_restoration(step),
            Command::EnrolStore { replica, store } => self.enrol_store(*replica, *store),
            Command::NoteLogs { ends } => self.note_logs(ends),
            Command::SetRetention { keep_finished_ms } => self.set_retention(*keep_finished_ms),
            Command::PutFrontNodeAccess { node, alias, policy, access } => {
                self.put_front_node_access(step, *node, (alias, *policy), access)
            }
            Command::SetFrontNodeDisabled { node, disabled } => {
                self.set_front_node_disabled(step, *node, *disabled)
            }
            Command::RemoveFrontNode { node, force } => self.remove_front_node(step, *node, *force),
            Command::RetireReplica { replica } => {
                self.more.retired_replicas.insert(*replica);
                Reply::Done
            }
        }
    }

    fn try_gates(&mut self, step: &mut Step, command: &Command) {
        let scope = match command {
            Command::Tick | Command::Configure(_) => GateScope::All,
            Command::LinkUp { node, .. }
            | Command::LinkReport { node, .. }
            | Command::HtlcFinals { node, .. } => GateScope::Node(*node),
            // Offers and settles try their own gates: their replies tell the result.
            Command::OfferHtlcs { .. }
            | Command::SettleInvoice { .. }
            | Command::PutFrontNode { .. }
            | Command::AssignLink { .. }
            | Command::LinkDown { .. }
            | Command::ResolveHtlc { .. }
            | Command::AddInvoice(_)
            | Command::CancelInvoice { .. }
            | Command::RaiseFeatureLevel { .. }
            | Command::SetRetention { .. }
            | Command::AcceptRestoration
            | Command::EnrolStore { .. }
            | Command::NoteLogs { .. }
            | Command::PutFrontNodeAccess { .. }
            | Command::SetFrontNodeDisabled { .. }
            | Command::RemoveFrontNode { .. }
            | Command::RetireReplica { .. } => GateScope::None,
        };
        match scope {
            GateScope::None => {}
            GateScope::Node(node) => self.decide_pending(step, Some(node)),
            GateScope::All => self.decide_pending(step, None),
        }
    }

    fn configure(&mut self, settings: &Settings) -> Reply {
        if let Some(why) = unusable(settings) {
            return Reply::Rejected(Rejection::Invalid(why.to_owned()));
        }
        settings.clone_into(&mut self.core.settings);
        // Timers, deadlines and pending sets follow from the settings.
        self.rebuild_index();
        Reply::Done
    }

    /// `SHA-256(previous ‖ term ‖ index ‖ reply ‖ events)`, from level 2 on with the archive's hash: two replicas that ever answered or did anything
    /// differently never agree on it again.
    fn extend_chain_hash(&mut self, reply: Option<&Reply>, events: &[Event]) {
        let mut hasher = Sha256::new_with_prefix(self.core.chain_hash);
        hasher.update(self.core.applied.term.to_be_bytes());
        hasher.update(self.core.applied.index.to_be_bytes());
        hasher.update(postcard::to_stdvec(&reply).expect("replies are plain data"));
        for event in events {
            hasher.update(postcard::to_stdvec(event).expect("events are plain data"));
        }
        if self.feature_level() >= level::ARCHIVE {
            hasher.update(self.more.archive.hash);
        }
        self.core.chain_hash = hasher.finalize().into();
    }
}

/// Why these settings would make every payment fail.
fn unusable(settings: &Settings) -> Option<&'static str> {
    if settings.parts_per_set_max == 0 {
        return Some("parts_per_set_max must be at least 1");
    }
    if settings.held_per_channel_max == 0 {
        return Some("held_per_channel_max must be at least 1");
    }
    if settings.mpp_timeout_ms == 0 || settings.accept_timeout_ms == 0 {
        return Some("timeouts must be greater than 0");
    }
    None
}

fn too_many(most: usize) -> Reply {
    Reply::Rejected(Rejection::Invalid(format!("more than {most} in one entry")))
}
