use crate::machine::archive::{ArchiveRecord, ArchiveTip, ArchivedInvoice, NewRecord, roll};
use crate::machine::model::{
    Event, EventKind, FinalState, Htlc, HtlcSet, Invoice, InvoiceKind, InvoiceState, InvoiceTerms, Verdict,
};
use crate::types::{CircuitKey, Msat, NodePubkey, PaymentHash, PaymentSecret};
use std::collections::BTreeSet;

/// Every so many records one is of events.
const EVENTS_EVERY: u64 = 10;
/// In each of those.
pub(super) const EVENTS: u64 = 5;

/// Makes records as a state would, with their hashes.
#[derive(Clone, Debug, Default)]
pub(super) struct Maker {
    pub(super) tip: ArchiveTip,
    invoices: u64,
    events: u64,
}

pub(super) fn hash(invoice: u64) -> PaymentHash {
    let mut bytes = [0x1c; 32];
    bytes[..8].copy_from_slice(&invoice.to_be_bytes());
    PaymentHash(bytes)
}

pub(super) fn key(invoice: u64) -> CircuitKey {
    CircuitKey { node: NodePubkey([2; 33]), chan_id: 7, htlc_id: invoice }
}

impl Maker {
    pub(super) fn make(&mut self, count: u64) -> Vec<NewRecord> {
        (0..count).map(|_| self.next()).collect()
    }

    fn next(&mut self) -> NewRecord {
        let record = if (self.tip.next + 1).is_multiple_of(EVENTS_EVERY) {
            let first = self.events + 1;
            self.events += EVENTS;
            ArchiveRecord::Events((first..=self.events).map(event).collect())
        } else {
            self.invoices += 1;
            ArchiveRecord::Invoice(Box::new(invoice(self.invoices)))
        };
        let bytes = postcard::to_stdvec(&record).unwrap();
        self.tip.hash = roll(&self.tip.hash, &bytes);
        let number = self.tip.next;
        self.tip.next += 1;
        NewRecord { number, bytes, hash_after: self.tip.hash, record }
    }
}

fn event(sequence: u64) -> Event {
    let kind = EventKind::HtlcFinal { key: key(sequence), state: FinalState::Settled };
    Event { sequence, time_ms: sequence, hash: hash(sequence), state: InvoiceState::Settled, kind }
}

/// Paid and settled; its numbers are its own.
pub(super) fn invoice(number: u64) -> ArchivedInvoice {
    let part = Htlc {
        key: key(number),
        hash: hash(number),
        session: 1,
        outgoing_amount_msat: Msat(1_000),
        incoming_amount_msat: Msat(1_000),
        incoming_expiry: 900,
        gone: false,
        on_chain: false,
        verdict: Some(Verdict::Settle),
        final_state: FinalState::Settled,
        decided_at_index: number,
    };
    let set = HtlcSet {
        attempt: 1,
        total_msat: Msat(1_000),
        sum_msat: Msat(1_000),
        parts: BTreeSet::from([part.key]),
        started_at_ms: number,
        accepted_at_ms: number,
        settle_intent: false,
        id: None,
    };
    let invoice = Invoice {
        hash: hash(number),
        secret: PaymentSecret([3; 32]),
        terms: InvoiceTerms {
            kind: InvoiceKind::Stored,
            amount_msat: Msat(1_000),
            expires_at_ms: 9_000,
            min_final_cltv: 80,
            key_epoch: 0,
        },
        state: InvoiceState::Settled,
        payment_request: "lnbc1".repeat(60),
        description: String::new(),
        description_hash: None,
        add_index: number,
        decision_index: number,
        settle_index: number,
        created_at_ms: number,
        decided_at_ms: number,
        finalized_at_ms: number,
        attempt: 1,
        set: Some(set),
        received_msat: Msat(1_000),
        preimage: None,
    };
    ArchivedInvoice { invoice, htlcs: vec![part] }
}
