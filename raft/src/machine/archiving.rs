//! What moves to the archive, and when it is forgotten there.
//!
//! * A finished invoice with the HTLCs of its set, in the entry that finishes it (more than
//!   [`INVOICES_PER_ENTRY_MAX`] at once: in the entries after).
//! * The oldest [`EVENTS_PER_RECORD`] events, whenever more than [`EVENTS_IN_MEMORY`] and those are in memory.
//! * With a retention: from the front, what ended long enough ago, whose invoice is past its expiry and whose
//!   HTLCs are past theirs. Until then a replay must find its verdict.

use super::apply::Step;
use super::archive::{ArchiveLookup, ArchiveRecord, ArchiveUnreadable, ArchivedInvoice, NewRecord, roll};
use super::command::Command;
use super::index::TOMBSTONE_SLACK_MS;
use super::model::InvoiceState;
use super::reply::{Rejection, Reply};
use super::state::State;
use crate::types::LogTimeMs;

/// The most invoices that one entry moves: bounds its cost.
pub(super) const INVOICES_PER_ENTRY_MAX: usize = 128;

/// Events that stay in memory for subscribers that are nearly up to date.
pub(super) const EVENTS_IN_MEMORY: usize = 4_096;

/// Events in one record.
pub(super) const EVENTS_PER_RECORD: usize = 256;

/// The most records that one tick forgets.
const FORGOTTEN_PER_TICK_MAX: usize = 256;

/// The least retention: an hour.
const KEEP_FINISHED_MIN_MS: LogTimeMs = 3_600_000;

impl State {
    /// Moves what is finished out of memory.
    pub(super) fn archive_finished(&mut self, step: &mut Step) {
        let finished: Vec<_> = self.index.finished.iter().take(INVOICES_PER_ENTRY_MAX).copied().collect();
        for hash in finished {
            let Some(invoice) = self.take_invoice(&hash) else { continue };
            let keys = invoice.set.iter().flat_map(|set| &set.parts);
            let htlcs = keys.filter_map(|key| self.take_htlc(key)).collect();
            let count = self.more.archived_counts.entry(invoice.state).or_default();
            *count = count.saturating_add(1);
            self.push_record(step, ArchiveRecord::Invoice(Box::new(ArchivedInvoice { invoice, htlcs })));
        }
        while self.core.events.len() >= EVENTS_IN_MEMORY.saturating_add(EVENTS_PER_RECORD) {
            let events = self.core.events.drain(..EVENTS_PER_RECORD).collect();
            self.push_record(step, ArchiveRecord::Events(events));
        }
    }

    fn push_record(&mut self, step: &mut Step, record: ArchiveRecord) {
        let bytes = postcard::to_stdvec(&record).expect("the records are plain data");
        let tip = &mut self.more.archive;
        let number = tip.next;
        tip.hash = roll(&tip.hash, &bytes);
        tip.next = number.saturating_add(1);
        step.archived.push(NewRecord { number, bytes, hash_after: tip.hash, record });
    }

    pub(super) fn set_retention(&mut self, keep_finished_ms: Option<LogTimeMs>) -> Reply {
        if keep_finished_ms.is_some_and(|keep_ms| keep_ms < KEEP_FINISHED_MIN_MS) {
            let why = "finished invoices must be kept for an hour at least";
            return Reply::Rejected(Rejection::Invalid(why.into()));
        }
        self.more.keep_finished_ms = keep_finished_ms;
        Reply::Done
    }

    /// Before a tick: how far the front of the archive moves by its retention.
    pub(super) fn forget_archived(
        &mut self,
        command: &Command,
        archive: &dyn ArchiveLookup,
    ) -> Result<(), ArchiveUnreadable> {
        let (Command::Tick, Some(keep_ms)) = (command, self.more.keep_finished_ms) else { return Ok(()) };
        let mut tip = self.more.archive;
        let mut forgotten = Vec::new();
        while tip.first < tip.next && forgotten.len() < FORGOTTEN_PER_TICK_MAX {
            let (record, hash_after) = archive.record(tip.first)?;
            if !self.may_forget(&record, keep_ms) {
                break;
            }
            (tip.first, tip.first_hash) = (tip.first.saturating_add(1), hash_after);
            forgotten.push(state_of(&record));
        }
        self.more.archive = tip;
        for state in forgotten.into_iter().flatten() {
            if let Some(count) = self.more.archived_counts.get_mut(&state) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    self.more.archived_counts.remove(&state);
                }
            }
        }
        Ok(())
    }

    fn may_forget(&self, record: &ArchiveRecord, keep_ms: LogTimeMs) -> bool {
        let kept = |ended_ms: LogTimeMs| ended_ms.saturating_add(keep_ms) > self.core.time_ms;
        match record {
            ArchiveRecord::Events(events) => !events.last().is_some_and(|event| kept(event.time_ms)),
            ArchiveRecord::Invoice(archived) => {
                let invoice = &archived.invoice;
                let payable_ms = invoice.terms.expires_at_ms.saturating_add(TOMBSTONE_SLACK_MS);
                // A node that was removed reports no height any more, and offers nothing.
                let past_expiry = archived.htlcs.iter().all(|htlc| {
                    self.front_node(&htlc.key.node).is_none()
                        || self.lowest_fresh_height().is_some_and(|height| height > htlc.incoming_expiry)
                });
                !kept(invoice.finalized_at_ms) && payable_ms <= self.core.time_ms && past_expiry
            }
        }
    }
}

fn state_of(record: &ArchiveRecord) -> Option<InvoiceState> {
    match record {
        ArchiveRecord::Invoice(archived) => Some(archived.invoice.state),
        ArchiveRecord::Events(_) => None,
    }
}
