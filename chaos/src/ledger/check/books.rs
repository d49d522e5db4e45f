//! Rules that compare the books of the LND nodes with the payer's and the cluster's.

use super::{Books, is_decided_too_late, is_lost, is_lost_by_lnd, name};
use crate::ledger::{HtlcView, PartEnd};
use mux_proto::mux::v1::InvoiceState;
use mux_raft::types::NodePubkey;
use std::collections::BTreeSet;

/// Part by part: what the payer paid, an LND received, and the other way round.
pub(super) fn money_agrees(books: &mut Books<'_>) {
    let mut settled_parts: BTreeSet<(NodePubkey, u64, u64)> = BTreeSet::new();
    let mut foreign = BTreeSet::new();
    for payment in books.payments {
        for part in &payment.parts {
            let key = (part.front, part.chan_id, part.htlc_id);
            if payment.order.foreign {
                foreign.insert(key);
            } else if matches!(part.end, Some(PartEnd::Settled { .. })) {
                settled_parts.insert(key);
            }
        }
    }
    let mut found = Vec::new();
    for lnd in &books.view.lnds {
        for htlc in &lnd.htlcs {
            let key = (lnd.node, htlc.chan_id, htlc.htlc_id);
            let paid = settled_parts.remove(&key);
            if foreign.contains(&key) {
                continue;
            }
            if htlc.node_paid && !paid {
                found.push((
                    "received_unpaid",
                    format!("{}: LND has money the payer did not pay", name(lnd, htlc)),
                ));
            }
            if paid && !htlc.node_paid && !is_lost_by_lnd(htlc) {
                found.push((
                    "paid_unreceived",
                    format!("{}: the payer paid, LND has nothing", name(lnd, htlc)),
                ));
            }
        }
    }
    for (node, chan_id, htlc_id) in settled_parts {
        found.push(("paid_unknown_htlc", format!("{} {chan_id}/{htlc_id}: in no LND's books", node.short())));
    }
    for (rule, evidence) in found {
        books.report(rule, evidence);
    }
}

/// Invoice by invoice, and in all: what the LND nodes received is what the cluster says it received.
pub(super) fn sums_agree(books: &mut Books<'_>) {
    let (mut lnd_sum, mut cluster_sum) = (0_u64, 0_u64);
    for hash in books.hashes() {
        let received: u64 = books
            .htlcs(&hash)
            .iter()
            .filter(|(_, htlc)| htlc.node_paid)
            .map(|(_, htlc)| htlc.outgoing_amount_msat)
            .sum();
        lnd_sum += received;
        let Some(invoice) = books.invoice(&hash) else {
            if received > 0 {
                books.report("received_for_unknown_invoice", format!("hash {hash}: {received} msat"));
            }
            continue;
        };
        cluster_sum += invoice.received_msat;
        if invoice.received_msat != received {
            books.report(
                "received_differs",
                format!(
                    "hash {hash}: LND nodes have {received} msat, the cluster says {} ({:?})",
                    invoice.received_msat, invoice.state
                ),
            );
        }
        if !invoice.is_at_rest() {
            books.report(
                "not_final_at_the_end",
                format!("hash {hash}: {:?} {:?}", invoice.state, invoice.htlcs),
            );
        }
    }
    if lnd_sum != cluster_sum {
        books.report("sums_differ", format!("LND nodes {lnd_sum} msat, cluster {cluster_sum} msat"));
    }
}

/// No HTLC is answered both ways, none failed after a SETTLE, ours never resumed, foreign ones always.
pub(super) fn answers_never_contradict(books: &mut Books<'_>) {
    let foreign: BTreeSet<_> = books
        .payments
        .iter()
        .filter(|payment| payment.order.foreign)
        .map(|payment| payment.order.hash)
        .collect();
    let mut found = Vec::new();
    for (hash, htlcs) in &books.by_hash {
        for (lnd, htlc) in htlcs {
            let actions: Vec<&str> = htlc.answers.iter().map(|answer| answer.action.as_str()).collect();
            let settle_at = actions.iter().position(|action| *action == "SETTLE");
            let fail_at = actions.iter().rposition(|action| *action == "FAIL");
            match (settle_at, fail_at) {
                (Some(settle), Some(fail)) if fail > settle => {
                    found.push(("failed_after_settle", format!("{}: {actions:?}", name(lnd, htlc))));
                }
                (Some(_), Some(_)) => {
                    found.push(("answered_both_ways", format!("{}: {actions:?}", name(lnd, htlc))));
                }
                _ => {}
            }
            let resumed = actions.iter().any(|action| action.starts_with("RESUME"));
            if foreign.contains(hash) && (settle_at.is_some() || fail_at.is_some()) {
                found.push(("foreign_htlc_not_resumed", format!("{}: {actions:?}", name(lnd, htlc))));
            }
            if !foreign.contains(hash) && resumed {
                found.push(("own_htlc_resumed", format!("{}: {actions:?}", name(lnd, htlc))));
            }
        }
    }
    for (rule, evidence) in found {
        books.report(rule, evidence);
    }
}

/// Of the set that the cluster decided to settle, every HTLC brought its money; if LND lost one, the cluster
/// says PARTIAL.
pub(super) fn sets_are_whole(books: &mut Books<'_>) {
    for hash in books.hashes() {
        let Some(invoice) = books.invoice(&hash) else { continue };
        let entries = books.htlcs(&hash).to_vec();
        let entry_of = |part: &HtlcView| {
            entries.iter().find(|(lnd, htlc)| {
                lnd.node.0.as_slice() == part.front
                    && htlc.chan_id == part.chan_id
                    && htlc.htlc_id == part.htlc_id
            })
        };
        let winners: Vec<_> = invoice.htlcs.iter().filter(|part| part.verdict == "settle").collect();
        let mut lost = 0;
        for part in &winners {
            if let Some((lnd, htlc)) = entry_of(part).filter(|(_, htlc)| is_decided_too_late(htlc, invoice)) {
                books.report("decided_when_gone", format!("hash {hash}: {}", name(lnd, htlc)));
            }
            match entry_of(part) {
                None => books.report("settled_unknown_htlc", format!("hash {hash}: {part:?}")),
                Some((_, htlc)) if htlc.node_paid => {}
                Some((lnd, htlc)) if is_lost(htlc, invoice) => {
                    lost += 1;
                    if invoice.state == InvoiceState::Settled {
                        books.report("lost_part_hidden", format!("hash {hash}: {}", name(lnd, htlc)));
                    }
                }
                Some((lnd, htlc)) => {
                    books.report("part_not_settled", format!("hash {hash}: {}", name(lnd, htlc)));
                }
            }
        }
        let paid = entries.iter().filter(|(_, htlc)| htlc.node_paid).count();
        if paid > winners.len() - lost {
            books.report(
                "settled_beyond_the_set",
                format!("hash {hash}: {paid} paid, {} in the set", winners.len()),
            );
        }
        if invoice.state == InvoiceState::Partial && lost == 0 {
            books.report("partial_without_loss", format!("hash {hash}"));
        }
    }
}

/// The LND nodes saw nothing that a correct client never does.
pub(super) fn no_complaints(books: &mut Books<'_>) {
    for lnd in &books.view.lnds {
        for complaint in &lnd.complaints {
            books.violations.push(super::Violation {
                rule: "lnd_complains",
                evidence: format!("{}: {complaint}", lnd.alias),
            });
        }
    }
}
