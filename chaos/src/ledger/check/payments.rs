//! Rules about payments as the payer sees them.

use super::{Books, is_lost};
use crate::ledger::{Expectation, FailureSource, PaymentEnd};
use mux_raft::types::PaymentHash;
use std::collections::BTreeMap;

/// Every payment has exactly one end, and so has every part.
pub(super) fn one_end_each(books: &mut Books<'_>) {
    for (id, payment) in books.payments.iter().enumerate() {
        match payment.ends.as_slice() {
            [PaymentEnd::Undecided] | [] => {
                let open: Vec<_> = payment
                    .parts
                    .iter()
                    .filter(|part| part.end.is_none())
                    .map(|part| format!("{} {}/{}", part.front.short(), part.chan_id, part.htlc_id))
                    .collect();
                books.report(
                    "payment_without_end",
                    format!("payment {id} ({}), hash {}: {open:?}", payment.order.label, payment.order.hash),
                );
            }
            [_] => {}
            several => books.report(
                "payment_with_several_ends",
                format!("payment {id} ({}): {several:?}", payment.order.label),
            ),
        }
    }
}

/// Bad payments fail in the right voice; nothing ends partly, unless LND lost a part of a decided set.
pub(super) fn ends_are_as_they_must_be(books: &mut Books<'_>) {
    for (id, payment) in books.payments.iter().enumerate() {
        let what = format!("payment {id} ({}), hash {}", payment.order.label, payment.order.hash);
        let Some(end) = payment.ends.first() else { continue };
        if payment
            .parts
            .iter()
            .any(|part| part.end == Some(crate::ledger::PartEnd::Settled { preimage_valid: false }))
        {
            books.report("invalid_preimage", what.clone());
        }
        match (payment.order.expect, end) {
            (Expectation::Fail | Expectation::FailWith(_), PaymentEnd::Settled | PaymentEnd::Partial) => {
                books.report("bad_payment_was_settled", what);
            }
            (Expectation::FailWith(code), PaymentEnd::Failed(failure))
                if failure.source == FailureSource::VirtualNode && failure.code != code =>
            {
                books.report("wrong_failure", format!("{what}: expected {code:#06x}, got {failure:?}"));
            }
            (_, PaymentEnd::Failed(failure)) if failure.source == FailureSource::Unreadable => {
                books.report("unreadable_failure", what);
            }
            (Expectation::Settle | Expectation::Any, PaymentEnd::Partial)
                if !lost_a_part(books, &payment.order.hash) =>
            {
                books.report("partial_payment", format!("{what}: {:?}", payment.parts));
            }
            _ => {}
        }
    }
}

/// No hash is paid by two payments.
pub(super) fn one_paid_payment_per_hash(books: &mut Books<'_>) {
    let mut paid = BTreeMap::new();
    for payment in books.payments {
        if payment.ends.first() == Some(&PaymentEnd::Settled) {
            *paid.entry(payment.order.hash).or_insert(0_u32) += 1;
        }
    }
    for (hash, times) in paid.into_iter().filter(|(_, times)| *times > 1) {
        books.report("paid_twice", format!("hash {hash}: {times} payments settled"));
    }
}

/// The payer has the preimage if and only if the cluster says that it decided to settle.
pub(super) fn preimage_means_decided(books: &mut Books<'_>) {
    for hash in books.hashes() {
        let has_preimage = books
            .payments
            .iter()
            .filter(|payment| payment.order.hash == hash)
            .any(super::PaymentRecord::has_preimage);
        let revealed = books.htlcs(&hash).iter().any(|(_, htlc)| htlc.preimage_revealed);
        let invoice = books.invoice(&hash);
        let decided = invoice.is_some_and(crate::ledger::InvoiceView::is_decided);
        let state = invoice.map(|invoice| invoice.state);
        if (has_preimage || revealed) && !decided {
            books.report("revealed_without_decision", format!("hash {hash}: the cluster says {state:?}"));
        }
        if decided && !has_preimage && !lost_a_part(books, &hash) {
            books.report("decided_without_preimage", format!("hash {hash}: the cluster says {state:?}"));
        }
    }
}

fn lost_a_part(books: &Books<'_>, hash: &PaymentHash) -> bool {
    let invoice = books.invoice(hash);
    invoice.is_some_and(|invoice| books.htlcs(hash).iter().any(|(_, htlc)| is_lost(htlc, invoice)))
}
