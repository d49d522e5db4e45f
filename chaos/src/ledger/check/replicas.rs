//! Rules about the replicas among themselves.

use super::Books;
use std::collections::{BTreeMap, BTreeSet};

/// Wherever two replicas were seen at the same applied index, their state hashes are the same; and there is
/// an index at which all were seen.
pub(super) fn state_hashes_agree(books: &mut Books<'_>) {
    let mut by_index: BTreeMap<u64, Vec<(&str, &[u8])>> = BTreeMap::new();
    for replica in &books.view.replicas {
        for (index, hash) in &replica.state_hashes {
            by_index.entry(*index).or_default().push((&replica.name, hash));
        }
    }
    let mut found = Vec::new();
    for (index, seen) in &by_index {
        let distinct: BTreeSet<_> = seen.iter().map(|(_, hash)| hash).collect();
        if distinct.len() > 1 {
            let seen: Vec<_> =
                seen.iter().map(|(name, hash)| format!("{name} {}", hex::encode(hash))).collect();
            found.push(("state_hashes_differ", format!("index {index}: {}", seen.join(", "))));
        }
    }
    let replicas = books.view.replicas.len();
    if replicas > 1 && !by_index.values().any(|seen| seen.len() == replicas) {
        let tips: Vec<_> = books
            .view
            .replicas
            .iter()
            .map(|replica| format!("{} at {:?}", replica.name, replica.state_hashes.keys().last()))
            .collect();
        found.push(("state_hashes_not_comparable", tips.join(", ")));
    }
    for (rule, evidence) in found {
        books.report(rule, evidence);
    }
}

/// Every acknowledged invoice is found by a linearizable read at every replica.
pub(super) fn acknowledged_invoices_are_there(books: &mut Books<'_>) {
    let acknowledged: BTreeSet<_> = books
        .payments
        .iter()
        .filter(|payment| payment.order.stored)
        .map(|payment| payment.order.hash)
        .collect();
    let mut found = Vec::new();
    for replica in &books.view.replicas {
        for hash in &acknowledged {
            if let Some(reason) = replica.unread.get(hash) {
                found.push(("invoice_not_readable", format!("{}: {hash}: {reason}", replica.name)));
            } else if !replica.invoices.contains_key(hash) {
                found.push(("acknowledged_invoice_lost", format!("{}: {hash}", replica.name)));
            }
        }
    }
    for (rule, evidence) in found {
        books.report(rule, evidence);
    }
}

/// No replica shows the preimage of an invoice that is not decided.
pub(super) fn preimages_are_shown_when_decided(books: &mut Books<'_>) {
    let mut found = Vec::new();
    for replica in &books.view.replicas {
        let early = replica.invoices.iter().filter(|(_, invoice)| invoice.shows_too_early());
        found.extend(early.map(|(hash, invoice)| format!("{}: {hash} is {:?}", replica.name, invoice.state)));
    }
    for evidence in found {
        books.report("preimage_shown_undecided", evidence);
    }
}

/// Every replica tells the same about every invoice.
pub(super) fn replicas_tell_the_same(books: &mut Books<'_>) {
    let Some((first, others)) = books.view.replicas.split_first() else { return };
    let mut found = Vec::new();
    for other in others {
        for (hash, invoice) in &first.invoices {
            if let Some(theirs) = other.invoices.get(hash)
                && theirs != invoice
            {
                found.push(format!("{hash}: {} {invoice:?}, {} {theirs:?}", first.name, other.name));
            }
        }
    }
    for evidence in found {
        books.report("replicas_disagree", evidence);
    }
}
