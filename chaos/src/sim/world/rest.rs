//! The end of a run: everything that is under way must end, and everybody's books must agree.

use super::{LOOK, World};
use crate::ledger::{ClusterView, LndView, check};
use crate::sim::lnd::LndHost;
use crate::sim::payments::Books;
use crate::sim::trace;
use mux_proto::lndsim::v1::channel_entry::Status;
use mux_raft::consensus::Consensus as _;
use mux_raft::machine::model::InvoiceState;
use std::collections::BTreeMap;
use std::time::Duration;

/// In this time all payments must have ended once nothing is wrong any more: payers that try again, sets that time out,
/// channels that are resolved on chain.
const REST_WITHIN: Duration = Duration::from_secs(240);

/// Blocks found at a time while channels are on chain, and between.
const BLOCKS: u32 = 12;
const BLOCKS_EVERY: Duration = Duration::from_secs(2);

/// In this time all replicas must have said what they know.
const BOOKS_WITHIN: Duration = Duration::from_secs(60);

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
                let text = format!("not at rest {REST_WITHIN:?} after all had converged: {missing}");
                return self.watch.violated(self.now, text);
            }
            if self.any_on_chain() && self.now.since(mined) >= BLOCKS_EVERY {
                mined = self.now;
                self.find_blocks(BLOCKS);
            }
        }
        self.trace.event(self.now, trace::WORLD, format_args!("is at rest"));
        self.compare_books();
    }

    /// Lets time pass, without new faults.
    fn go_on(&mut self, time: Duration) {
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

    fn compare_books(&mut self) {
        self.payers.ask_for_books();
        let deadline = self.now + BOOKS_WITHIN;
        let books = loop {
            self.go_on(LOOK);
            if !self.watch.is_fine() {
                return;
            }
            if let Some(books) = self.payments.take_books() {
                break books;
            }
            if self.now > deadline {
                return self.watch.violated(self.now, format!("no books within {BOOKS_WITHIN:?}"));
            }
        };
        while self.watch.converged(&self.hosts).is_err() && self.now < deadline && self.watch.is_fine() {
            self.go_on(LOOK);
        }
        let view = self.view(books);
        let payments = self.payments.ledger().snapshot();
        self.settlements.look_back(&payments, &view.lnds, &self.coverage);
        for violation in check::check(&payments, &view) {
            self.watch.violated(self.now, format!("{}: {}", violation.rule, violation.evidence));
        }
        for problem in self.payments.check() {
            self.watch.violated(self.now, problem);
        }
    }

    fn view(&self, mut replicas: Books) -> ClusterView {
        for (books, host) in replicas.iter_mut().zip(&self.hosts) {
            let Some(seen) = host.replica() else { continue };
            let state = seen.replica.state();
            let (index, hash) = state.read(|state| (state.applied().index, state.chain_hash()));
            books.state_hashes = BTreeMap::from([(index, hash.to_vec())]);
        }
        let lnds = self.lnds.iter().filter_map(|lnd| {
            let ledger = lnd.running()?.ledger();
            let (alias, node) = (lnd.alias().to_owned(), lnd.node());
            Some(LndView { alias, node, htlcs: ledger.htlcs, complaints: ledger.complaints })
        });
        ClusterView { replicas, lnds: lnds.collect() }
    }
}

/// See [`World::rests`].
const EVENTS_BEHIND_MAX: u64 = 3;
