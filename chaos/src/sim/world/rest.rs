//! The end of a run: everything that is under way must end, and everybody's books must agree.

use super::replica_host::ReplicaHost;
use super::{HEALED_WITHIN, LOOK, World};
use crate::ledger::{ClusterView, HtlcView, LndView, PartEnd, PartRecord, PaymentRecord, check};
use crate::sim::coverage::Condition;
use crate::sim::host::HostClock;
use crate::sim::lnd::LndHost;
use crate::sim::payments::Books;
use crate::sim::trace;
use mux_proto::lndsim::v1::{HtlcEntry, channel_entry::Status};
use mux_raft::consensus::Consensus as _;
use mux_raft::machine::State;
use mux_raft::machine::model::InvoiceState;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// In this time all payments must have ended once nothing is wrong any more: payers that try again, sets that time out,
/// channels that are resolved on chain.
const REST_WITHIN: Duration = Duration::from_secs(240);

/// Blocks found at a time while channels are on chain or something is not final, and between. One at a time while a decided set is not final: an HTLC
/// whose channel is confirmed by the first of a dozen blocks must not run out with the last, before anybody could answer. But
/// they come: a channel whose peer signs nothing is closed only when an expiry is near.
const BLOCKS: u32 = 12;
const BLOCKS_EVERY: Duration = Duration::from_secs(2);
const A_BLOCK_EVERY: Duration = Duration::from_millis(500);

/// In this time all replicas must have said what they know.
const BOOKS_WITHIN: Duration = Duration::from_secs(60);

/// In this time subscribers must have seen everything that had happened.
const EVENTS_WITHIN: Duration = Duration::from_secs(60);

impl World {
    pub(super) fn come_to_rest(&mut self) {
        let (deadline, mut mined) = (self.now + REST_WITHIN, self.now);
        loop {
            self.go_on(LOOK);
            if !self.watch.is_fine() {
                return;
            }
            let Err(missing) = self.rests() else { break };
            if self.now > deadline {
                let held = self.lnds.iter().flat_map(held_at).collect::<Vec<_>>();
                let text =
                    format!("not at rest {REST_WITHIN:?} after all had converged: {missing}; held: {held:?}");
                return self.watch.violated(self.now, text);
            }
            let undone = self.settlements.undone().next().is_some();
            let (blocks, every) = if undone { (1, A_BLOCK_EVERY) } else { (BLOCKS, BLOCKS_EVERY) };
            if (undone || self.any_on_chain()) && self.now.since(mined) >= every {
                mined = self.now;
                self.find_blocks(blocks);
            }
        }
        self.trace.event(self.now, trace::WORLD, format_args!("is at rest"));
        let (paid, nodes) = (self.payments.paid_afresh(), self.lnds.len());
        if paid < nodes {
            let why = self.payments.problems();
            let text =
                format!("something was paid over {paid} of {nodes} nodes after all had converged: {why:?}");
            return self.watch.violated(self.now, text);
        }
        let Some(newest) = self.compare_books() else { return };
        self.look_at_the_last_events(newest);
        self.look_at_a_replay();
        for problem in self.payments.check(newest) {
            self.watch.violated(self.now, problem);
        }
    }

    /// Waits until subscribers have seen every event up to this one, or had the time to.
    fn look_at_the_last_events(&mut self, newest: u64) {
        let deadline = self.now + EVENTS_WITHIN;
        while self.payments.events_seen() < newest && self.now < deadline && self.watch.is_fine() {
            self.go_on(LOOK);
        }
    }

    /// Lets time pass, without new faults.
    pub(super) fn go_on(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until && self.watch.is_fine() {
            self.begin_and_end_faults();
            self.tick();
        }
    }

    fn rests(&self) -> Result<(), String> {
        let payments = self.payments.under_way();
        if payments > 0 {
            return Err(format!("{payments} payments are under way"));
        }
        for lnd in &self.lnds {
            let alias = lnd.alias();
            let node = lnd.running().ok_or_else(|| format!("{alias} does not run"))?;
            let answered = node.state().mailbox_packets;
            // What the node counts as held may have ended long ago: an undecided HTLC on chain is answered with silence.
            let held = node.ledger().htlcs.iter().filter(|htlc| htlc.outcome.is_none()).count();
            if held > 0 || answered > 0 {
                return Err(format!("{alias} has {held} HTLCs without an end, and {answered} answers"));
            }
        }
        if self.any_on_chain() {
            return Err("a channel is on chain".into());
        }
        self.watch.converged(&self.hosts)?;
        let newest = self.hosts.iter().filter_map(|host| host.replica()).map(|seen| {
            seen.replica.state().read(|state| {
                let under_way =
                    |state: InvoiceState| matches!(state, InvoiceState::Accepted | InvoiceState::Settling);
                let busy = state.invoices_after(0).find(|invoice| under_way(invoice.state));
                // Of a set being collected, LND may have ended everything, and the cluster has not heard of it.
                let busy = busy.or_else(|| state.undecided_sets().next());
                (
                    state.event_sequence(),
                    busy.map(|invoice| format!("invoice {} is {:?}", invoice.hash, invoice.state)),
                )
            })
        });
        for (sequence, busy) in newest {
            if let Some(busy) = busy {
                return Err(busy);
            }
            let seen = self.payments.events_seen();
            // What happens every now and then, the end of invoices that nobody paid, may be on its way.
            if seen + EVENTS_BEHIND_MAX < sequence {
                return Err(format!("subscribers have seen event {seen} of {sequence}"));
            }
        }
        Ok(())
    }

    /// Whether a channel has been closed and not all of it is decided.
    pub(super) fn any_on_chain(&self) -> bool {
        let waits = |status| matches!(status, Status::Closing | Status::ForceClosed);
        self.lnds
            .iter()
            .filter_map(LndHost::running)
            .any(|lnd| lnd.state().channels.iter().any(|channel| waits(channel.status())))
    }

    /// The number of the last event that there is; none: it came not so far.
    fn compare_books(&mut self) -> Option<u64> {
        self.payers.ask_for_books();
        let deadline = self.now + BOOKS_WITHIN;
        let books = loop {
            self.go_on(LOOK);
            if !self.watch.is_fine() {
                return None;
            }
            if let Some(books) = self.payments.take_books() {
                break books;
            }
            if self.now > deadline {
                self.watch.violated(self.now, format!("no books within {BOOKS_WITHIN:?}"));
                return None;
            }
        };
        self.trace.event(self.now, trace::WORLD, format_args!("has the books"));
        self.converge_again()?;
        self.compare_states();
        self.replay_everything();
        let newest = self.hosts.iter().filter_map(ReplicaHost::replica);
        let newest = newest.map(|seen| seen.replica.state().read(State::event_sequence)).max();
        let mut view = self.view(books);
        let mut payments = self.payments.ledger().snapshot();
        self.settlements.look_back(&payments, &view.lnds, &self.coverage);
        self.coverage.met_times(Condition::FinalUnheard, self.silences.unheard(&view.lnds));
        let decided = |hash: &[u8]| self.settlements.is_decided(hash);
        let claimed = leave_out_claimed(&mut view, &mut payments, decided);
        self.coverage.met_times(Condition::FailedAndClaimed, claimed);
        let mut told = BTreeSet::new();
        for violation in check::check(&payments, &view) {
            self.tell_of(&violation.evidence, (&payments, &view), &mut told);
            self.watch.violated(self.now, format!("{}: {}", violation.rule, violation.evidence));
        }
        newest
    }

    /// Reading the books may have taken long, and time goes on in the log meanwhile.
    fn converge_again(&mut self) -> Option<()> {
        let deadline = self.now + HEALED_WITHIN;
        loop {
            let Err(why) = self.watch.converged(&self.hosts) else { return Some(()) };
            if self.now >= deadline {
                let text = format!("not converged {HEALED_WITHIN:?} after all books were there: {why}");
                self.watch.violated(self.now, text);
            }
            if !self.watch.is_fine() {
                return None;
            }
            // Where messages are slow all are equally far only for moments.
            self.go_on(self.swarm.tick());
        }
    }

    /// Everything about the invoice that a violation names, for whoever looks at the trace.
    fn tell_of(
        &self,
        evidence: &str,
        (payments, view): (&[PaymentRecord], &ClusterView),
        told: &mut BTreeSet<usize>,
    ) {
        for (number, payment) in payments.iter().enumerate() {
            let hash = payment.order.hash;
            if !evidence.contains(&hash.to_string()) || !told.insert(number) {
                continue;
            }
            self.trace.event(self.now, trace::WORLD, format_args!("payment {number}: {payment:?}"));
            let of_it = |htlc: &&HtlcEntry| htlc.payment_hash.as_ref() == hash.0;
            for (lnd, htlc) in view.lnds.iter().flat_map(|lnd| lnd.htlcs.iter().map(move |htlc| (lnd, htlc)))
            {
                if of_it(&htlc) {
                    // Not its outcome, which has the preimage.
                    let HtlcEntry { chan_id, htlc_id, added_unix_ms, offers, answers, r#final: end, .. } =
                        htlc;
                    let stage = htlc.stage();
                    self.trace.event(
                        self.now,
                        trace::WORLD,
                        format_args!(
                            "{} {chan_id}/{htlc_id} of {added_unix_ms}: {stage:?}, offered {offers} times, {answers:?}, {end:?}",
                            lnd.alias
                        ),
                    );
                }
            }
            for replica in &view.replicas {
                let known = replica.invoices.get(&hash);
                self.trace.event(self.now, trace::WORLD, format_args!("{}: {known:?}", replica.name));
            }
        }
    }

    fn view(&self, mut replicas: Books) -> ClusterView {
        for (books, host) in replicas.iter_mut().zip(&self.hosts) {
            let Some(seen) = host.replica() else { continue };
            let state = seen.replica.state();
            let (index, hash) = state.read(|state| (state.applied().index, state.chain_hash()));
            books.state_hashes = BTreeMap::from([(index, hash.to_vec())]);
            for (hash, invoice) in &mut books.invoices {
                if let Some(at) = self.settlements.decided_at(hash) {
                    invoice.seen_decided_ms = HostClock::wall_at(at);
                    let entries = self.settlements.decided_by(hash);
                    let proposed = entries.and_then(|entries| self.watch.first_durable(entries));
                    invoice.proposed_ms = HostClock::wall_at(proposed.unwrap_or(at));
                }
            }
        }
        let lnds = self.lnds.iter().filter_map(|lnd| {
            let ledger = lnd.running()?.ledger();
            let (alias, node) = (lnd.alias().to_owned(), lnd.node());
            Some(LndView { alias, node, htlcs: ledger.htlcs, complaints: ledger.complaints })
        });
        ClusterView { replicas, lnds: lnds.collect() }
    }
}

/// HTLCs without an end, for people.
fn held_at(lnd: &LndHost) -> Vec<String> {
    let held = |htlc: HtlcEntry| {
        let (stage, seen) = (htlc.stage(), (htlc.offers, htlc.answers.len(), htlc.outcome.is_some()));
        format!(
            "{} {}/{} of {}: {stage:?}, offers, answers, outcome {seen:?}",
            lnd.alias(),
            htlc.chan_id,
            htlc.htlc_id,
            hex::encode(&htlc.payment_hash)
        )
    };
    let htlcs = lnd.running().map(|node| node.ledger().htlcs).unwrap_or_default();
    htlcs.into_iter().filter(|htlc| htlc.r#final.is_none()).map(held).collect()
}

/// An LND node that learns a preimage on chain claims every HTLC with its hash that is on chain there, also one that the
/// cluster has failed, or not answered yet (a second payment of an invoice whose FAIL did not get as far as the peer).
/// Nobody can keep it from that, and its money is not the cluster's word: such HTLCs are left out of the books, also of what
/// their payer paid, and payments of which nothing else was settled.
/// Where nothing with the hash was decided there was no preimage to learn; and one that the decision names is the cluster's
/// word, also if LND had the preimage from another of the set before it was told.
fn leave_out_claimed(
    view: &mut ClusterView,
    payments: &mut Vec<PaymentRecord>,
    decided: impl Fn(&[u8]) -> bool,
) -> u64 {
    let named = |part: &&HtlcView| part.verdict == "settle";
    let sets = view.replicas.iter().flat_map(|replica| replica.invoices.values());
    let parts = sets.flat_map(|invoice| invoice.htlcs.iter().filter(named));
    let named: BTreeSet<_> = parts.map(|part| (part.front.clone(), part.chan_id, part.htlc_id)).collect();
    let mut claimed = BTreeSet::new();
    for lnd in &mut view.lnds {
        lnd.htlcs.retain(|htlc| {
            let on_chain = htlc.r#final.is_some_and(|end| end.settled && !end.offchain);
            let not_settled = htlc.answers.iter().all(|answer| answer.action != "SETTLE")
                && !named.contains(&(lnd.node.0.to_vec(), htlc.chan_id, htlc.htlc_id));
            let claims = on_chain && not_settled && decided(&htlc.payment_hash);
            if claims {
                claimed.insert((lnd.node, htlc.chan_id, htlc.htlc_id));
            }
            !claims
        });
    }
    payments.retain_mut(|payment| {
        let sent = payment.parts.len();
        let is_claimed = |part: &PartRecord| claimed.contains(&(part.front, part.chan_id, part.htlc_id));
        payment.parts.retain(|part| !is_claimed(part));
        let is_settled = |part: &PartRecord| matches!(part.end, Some(PartEnd::Settled { .. }));
        payment.parts.len() == sent || payment.parts.iter().any(is_settled)
    });
    u64::try_from(claimed.len()).unwrap_or(u64::MAX)
}

/// See [`World::rests`].
const EVENTS_BEHIND_MAX: u64 = 3;

#[cfg(test)]
mod tests;
