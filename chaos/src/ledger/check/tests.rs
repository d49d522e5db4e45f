//! Every rule is shown a ledger that balances, and then one that breaks it.

use super::{Violation, check};
use crate::ledger::{
    ClusterView, Expectation, FailureSource, HtlcView, InvoiceView, LndView, PartEnd, PartFailure,
    PartRecord, PaymentEnd, PaymentOrder, PaymentRecord, ReplicaView,
};
use mux_proto::{
    lndsim::v1::{ClientAnswer, FinalResolution, HtlcEntry},
    mux::v1::InvoiceState,
};
use mux_raft::types::{NodePubkey, PaymentHash};
use std::collections::BTreeMap;

const HASH: PaymentHash = PaymentHash([7; 32]);

/// When the balanced books' payment was decided.
const DECIDED_MS: u64 = 1_000_000;

fn node(number: u8) -> NodePubkey {
    NodePubkey([number; 33])
}

fn part(number: u8, amount_msat: u64) -> PartRecord {
    PartRecord {
        front: node(number),
        chan_id: 5,
        htlc_id: 0,
        amount_msat,
        sent_unix_ms: 1,
        ended_unix_ms: 2,
        end: Some(PartEnd::Settled { preimage_valid: true }),
    }
}

fn answer(action: &str) -> ClientAnswer {
    ClientAnswer { action: action.into(), unix_ms: 2, ..ClientAnswer::default() }
}

fn lnd(number: u8, amount_msat: u64) -> LndView {
    LndView {
        alias: format!("lnd-{number}"),
        node: node(number),
        htlcs: vec![HtlcEntry {
            chan_id: 5,
            payment_hash: HASH.0.to_vec().into(),
            outgoing_amount_msat: amount_msat,
            answers: vec![answer("SETTLE")],
            preimage_revealed: true,
            node_paid: true,
            ..HtlcEntry::default()
        }],
        complaints: Vec::new(),
    }
}

fn replica(number: u8) -> ReplicaView {
    let htlc = |front: u8| HtlcView {
        front: node(front).0.to_vec(),
        chan_id: 5,
        htlc_id: 0,
        verdict: "settle".into(),
        final_state: "settled".into(),
    };
    let invoice = InvoiceView {
        state: InvoiceState::Settled,
        paid_msat: 300,
        received_msat: 300,
        decided_at_ms: DECIDED_MS,
        seen_decided_ms: DECIDED_MS,
        proposed_ms: DECIDED_MS,
        shows_preimage: true,
        htlcs: vec![htlc(1), htlc(2)],
    };
    ReplicaView {
        name: format!("replica-{number}"),
        state_hashes: BTreeMap::from([(10, vec![1])]),
        invoices: BTreeMap::from([(HASH, invoice)]),
        unread: BTreeMap::new(),
    }
}

/// One payment of two parts over two LND nodes, three replicas, all well.
fn balanced() -> (Vec<PaymentRecord>, ClusterView) {
    let payment = PaymentRecord {
        order: PaymentOrder {
            label: "two parts".into(),
            hash: HASH,
            total_msat: 300,
            expect: Expectation::Settle,
            stored: true,
            foreign: false,
        },
        parts: vec![part(1, 100), part(2, 200)],
        started_unix_ms: 1,
        ended_unix_ms: 2,
        ends: vec![PaymentEnd::Settled],
    };
    let view = ClusterView {
        replicas: vec![replica(1), replica(2), replica(3)],
        lnds: vec![lnd(1, 100), lnd(2, 200)],
    };
    (vec![payment], view)
}

fn failure(source: FailureSource, code: u16) -> PartFailure {
    PartFailure { source, code, data: String::new() }
}

fn rules(violations: &[Violation]) -> Vec<&'static str> {
    violations.iter().map(|violation| violation.rule).collect()
}

/// Breaks the balanced books and expects that the rule is among the violations.
fn assert_breaks(rule: &str, breakage: impl FnOnce(&mut PaymentRecord, &mut ClusterView)) {
    let (mut payments, mut view) = balanced();
    breakage(&mut payments[0], &mut view);
    let found = check(&payments, &view);
    assert!(rules(&found).contains(&rule), "expected {rule}, found {found:?}");
}

fn each_replica(view: &mut ClusterView, change: impl Fn(&mut InvoiceView)) {
    for replica in &mut view.replicas {
        change(replica.invoices.get_mut(&HASH).unwrap());
    }
}

#[test]
fn balanced_books_have_no_violation() {
    let (payments, view) = balanced();
    assert_eq!(check(&payments, &view), []);
}

#[test]
fn every_payment_has_exactly_one_end() {
    assert_breaks("payment_without_end", |payment, _| payment.ends.clear());
    assert_breaks("payment_without_end", |payment, _| payment.ends = vec![PaymentEnd::Undecided]);
    assert_breaks("payment_with_several_ends", |payment, _| payment.ends.push(PaymentEnd::Settled));
}

#[test]
fn bad_payment_must_fail_in_the_right_voice() {
    assert_breaks("bad_payment_was_settled", |payment, _| payment.order.expect = Expectation::Fail);
    assert_breaks("wrong_failure", |payment, _| {
        payment.order.expect = Expectation::FailWith(0x400f);
        payment.ends = vec![PaymentEnd::Failed(failure(FailureSource::VirtualNode, 23))];
    });
    assert_breaks("unreadable_failure", |payment, _| {
        payment.ends = vec![PaymentEnd::Failed(failure(FailureSource::Unreadable, 0))];
    });
}

/// The payer's first part is refused at this height, a second after it was sent, and the second one comes back.
fn refuse(payment: &mut PaymentRecord, view: &mut ClusterView, height: u32) {
    let refused = PartFailure {
        source: FailureSource::VirtualNode,
        code: 0x400f,
        data: format!("{:016x}{height:08x}", 100),
    };
    for part in &mut payment.parts {
        part.end = Some(PartEnd::Failed(refused.clone()));
        part.ended_unix_ms = part.sent_unix_ms + 1_000;
    }
    payment.ends = vec![PaymentEnd::Failed(refused)];
    for lnd in &mut view.lnds {
        lnd.htlcs[0] = HtlcEntry {
            chan_id: 5,
            payment_hash: HASH.0.to_vec().into(),
            outgoing_expiry: 180,
            answers: vec![answer("FAIL")],
            ..HtlcEntry::default()
        };
    }
    each_replica(view, |invoice| {
        *invoice = InvoiceView {
            state: InvoiceState::Open,
            paid_msat: 0,
            received_msat: 0,
            decided_at_ms: 0,
            seen_decided_ms: 0,
            proposed_ms: 0,
            shows_preimage: false,
            htlcs: Vec::new(),
        };
    });
}

#[test]
fn an_honest_payment_is_refused_only_when_blocks_have_come() {
    assert_breaks("honest_payment_refused", |payment, view| refuse(payment, view, 103));
    for excuse in 0..5 {
        let (mut payments, mut view) = balanced();
        refuse(&mut payments[0], &mut view, if excuse == 0 { 104 } else { 103 });
        match excuse {
            1 => view.lnds[1].htlcs[0].outgoing_expiry = 170,
            2 => view.lnds[1].htlcs[0].closing_unix_ms = 1,
            3 => payments[0].order.expect = Expectation::Any,
            4 => payments[0].parts.iter_mut().for_each(|part| part.ended_unix_ms += 1_000),
            _ => {}
        }
        assert_eq!(check(&payments, &view), [], "excuse {excuse}");
    }
}

#[test]
fn a_preimage_must_be_the_hashs() {
    assert_breaks("invalid_preimage", |payment, _| {
        payment.parts[0].end = Some(PartEnd::Settled { preimage_valid: false });
    });
}

#[test]
fn partial_payment_is_reported_unless_lnd_lost_the_part() {
    let lose = |payment: &mut PaymentRecord| {
        payment.parts[1].end = Some(PartEnd::Failed(failure(FailureSource::Upstream, 0x4008)));
        payment.ends = vec![PaymentEnd::Partial];
    };
    assert_breaks("partial_payment", |payment, view| {
        lose(payment);
        view.lnds[1].htlcs[0].node_paid = false;
        view.lnds[1].htlcs[0].answers = vec![answer("FAIL")];
    });
    let (mut payments, mut view) = balanced();
    lose(&mut payments[0]);
    lose_as_dust(&mut view);
    each_replica(&mut view, |invoice| {
        invoice.state = InvoiceState::Partial;
        invoice.received_msat = 100;
    });
    assert_eq!(check(&payments, &view), []);
    each_replica(&mut view, |invoice| invoice.state = InvoiceState::Settled);
    assert!(rules(&check(&payments, &view)).contains(&"lost_part_hidden"));
}

/// LND took the second part's SETTLE, and its channel was closed before the peer had signed.
fn lose_as_dust(view: &mut ClusterView) {
    let htlc = &mut view.lnds[1].htlcs[0];
    htlc.node_paid = false;
    htlc.lost_as_dust = true;
    htlc.answers[0].unix_ms = DECIDED_MS + 100;
    let unix_ms = DECIDED_MS + 500;
    htlc.closing_unix_ms = unix_ms;
    htlc.r#final = Some(FinalResolution { unix_ms, ..FinalResolution::default() });
}

#[test]
fn only_dust_is_lost_after_its_settle_and_only_if_that_came_in_time() {
    let rejects = |rule: &str, change: fn(&mut ClusterView)| {
        assert_breaks(rule, |payment, view| {
            payment.parts[1].end = Some(PartEnd::Failed(failure(FailureSource::Upstream, 0x4008)));
            payment.ends = vec![PaymentEnd::Partial];
            lose_as_dust(view);
            each_replica(view, |invoice| {
                invoice.state = InvoiceState::Partial;
                invoice.received_msat = 100;
            });
            change(view);
        });
    };
    // What is on chain is offered again, and can be claimed.
    rejects("part_not_settled", |view| view.lnds[1].htlcs[0].lost_as_dust = false);
    // The decision was long before the channel was closed, and the answer came too late: refused, or taken for what LND
    // was still holding.
    fn close_late(view: &mut ClusterView) {
        view.lnds[1].htlcs[0].closing_unix_ms = DECIDED_MS + 30_000;
        end_of_lost(view).unix_ms = DECIDED_MS + 30_000;
    }
    rejects("part_not_settled", |view| {
        close_late(view);
        view.lnds[1].htlcs[0].answers[0].error = "forward does not exist".into();
    });
    rejects("part_not_settled", |view| {
        close_late(view);
        view.lnds[1].htlcs[0].answers[0].unix_ms = DECIDED_MS + 40_000;
    });
}

/// The second part's channel was closed as the set was decided: LND lost it as dust, no SETTLE came in time.
fn lose_under_way(payment: &mut PaymentRecord, view: &mut ClusterView) {
    payment.parts[1].end = Some(PartEnd::Failed(failure(FailureSource::Upstream, 0x4008)));
    payment.ends = vec![PaymentEnd::Partial];
    let htlc = &mut view.lnds[1].htlcs[0];
    htlc.answers.clear();
    htlc.preimage_revealed = false;
    htlc.node_paid = false;
    htlc.lost_as_dust = true;
    htlc.closing_unix_ms = DECIDED_MS - 105;
    htlc.r#final = Some(FinalResolution { unix_ms: DECIDED_MS - 105, ..FinalResolution::default() });
    each_replica(view, |invoice| {
        invoice.state = InvoiceState::Partial;
        invoice.received_msat = 100;
    });
}

fn end_of_lost(view: &mut ClusterView) -> &mut FinalResolution {
    view.lnds[1].htlcs[0].r#final.as_mut().unwrap()
}

#[test]
fn dust_may_go_to_chain_while_its_settle_is_on_the_way() {
    let (mut payments, mut view) = balanced();
    lose_under_way(&mut payments[0], &mut view);
    assert_eq!(check(&payments, &view), []);

    // The only part: nobody ever learns the preimage.
    payments[0].parts.remove(0);
    payments[0].order.total_msat = 200;
    payments[0].ends = vec![PaymentEnd::Failed(failure(FailureSource::Upstream, 0x4008))];
    view.lnds[0].htlcs.clear();
    each_replica(&mut view, |invoice| {
        invoice.htlcs.remove(0);
        invoice.received_msat = 0;
    });
    assert_eq!(check(&payments, &view), []);
    view.lnds[1].htlcs[0].closing_unix_ms = DECIDED_MS + 8_000;
    // The block may be long in coming.
    end_of_lost(&mut view).unix_ms = DECIDED_MS + 80_000;
    assert_eq!(check(&payments, &view), [], "decided first, and kept from LND by a fault");

    // Log time stood still, and LND had it long after that.
    view.lnds[1].htlcs[0].added_unix_ms = DECIDED_MS + 31_000;
    view.lnds[1].htlcs[0].closing_unix_ms = DECIDED_MS + 33_000;
    assert_eq!(check(&payments, &view), []);
    view.lnds[1].htlcs[0].added_unix_ms = 0;

    // Log time stood still, and somebody saw when it was decided.
    view.lnds[1].htlcs[0].closing_unix_ms = DECIDED_MS + 40_000;
    each_replica(&mut view, |invoice| invoice.seen_decided_ms = DECIDED_MS + 38_000);
    assert_eq!(check(&payments, &view), []);
}

#[test]
fn a_decided_htlc_without_an_answer_is_excused_for_nothing_else() {
    let rejects = |rule: &str, change: fn(&mut ClusterView)| {
        assert_breaks(rule, |payment, view| {
            lose_under_way(payment, view);
            change(view);
        });
    };
    rejects("part_not_settled", |view| view.lnds[1].htlcs[0].r#final = None);
    rejects("part_not_settled", |view| {
        // Failed back by LND itself, off the chain, though decided long before its expiry.
        end_of_lost(view).offchain = true;
        view.lnds[1].htlcs[0].lost_as_dust = false;
    });
    // On chain, with an output that expired: it was offered again.
    rejects("part_not_settled", |view| view.lnds[1].htlcs[0].lost_as_dust = false);
    rejects("partial_payment", |view| view.lnds[1].htlcs[0].lost_as_dust = false);
    rejects("partial_without_loss", |view| view.lnds[1].htlcs[0].lost_as_dust = false);
    rejects("part_not_settled", |view| view.lnds[1].htlcs[0].answers.push(answer("FAIL")));
    // It was decided, and nobody told LND for half a minute.
    rejects("part_not_settled", |view| view.lnds[1].htlcs[0].closing_unix_ms = DECIDED_MS + 30_000);
    // It was decided when everybody had to know that it was gone.
    rejects("part_not_settled", |view| end_of_lost(view).unix_ms = DECIDED_MS - 16_000);
    rejects("decided_when_gone", |view| end_of_lost(view).unix_ms = DECIDED_MS - 16_000);
    rejects("part_not_settled", |view| each_replica(view, |invoice| invoice.decided_at_ms = 0));
    rejects("lost_part_hidden", |view| each_replica(view, |invoice| invoice.state = InvoiceState::Settled));
}

/// Log time was a minute ahead of LND's clock, and the decision was seen before LND lost the HTLC.
#[test]
fn a_leaders_wrong_clock_makes_no_decision_late() {
    let (mut payments, mut view) = balanced();
    lose_under_way(&mut payments[0], &mut view);
    end_of_lost(&mut view).unix_ms = DECIDED_MS + 100;
    each_replica(&mut view, |invoice| invoice.decided_at_ms = DECIDED_MS + 60_000);
    assert_eq!(check(&payments, &view), []);
}

/// The decision was in a log, the majority went, LND lost the HTLC, the majority came back.
#[test]
fn a_decision_that_waited_for_a_majority_is_judged_by_when_it_was_proposed() {
    let (mut payments, mut view) = balanced();
    lose_under_way(&mut payments[0], &mut view);
    each_replica(&mut view, |invoice| invoice.seen_decided_ms = DECIDED_MS + 60_000);
    assert_eq!(check(&payments, &view), []);
    each_replica(&mut view, |invoice| invoice.proposed_ms = DECIDED_MS + 60_000);
    let broken = rules(&check(&payments, &view));
    assert!(broken.contains(&"decided_when_gone"), "{broken:?}");
}

#[test]
fn a_late_settle_does_not_excuse_a_decision_on_a_dead_htlc() {
    assert_breaks("decided_when_gone", |payment, view| {
        lose_under_way(payment, view);
        view.lnds[1].htlcs[0].answers = vec![answer("SETTLE")];
        end_of_lost(view).unix_ms = DECIDED_MS - 16_000;
    });
}

#[test]
fn nothing_is_revealed_without_a_decision_nor_paid_twice() {
    assert_breaks("revealed_without_decision", |_, view| {
        each_replica(view, |invoice| invoice.state = InvoiceState::Open);
    });
    assert_breaks("decided_without_preimage", |payment, _| {
        for part in &mut payment.parts {
            part.end = Some(PartEnd::Failed(failure(FailureSource::FrontNode, 0x1007)));
        }
    });
    for (state, is_wrong) in [(InvoiceState::Accepted, true), (InvoiceState::Settling, false)] {
        let (payments, mut view) = balanced();
        view.replicas[1].invoices.get_mut(&HASH).unwrap().state = state;
        let wrong = rules(&check(&payments, &view));
        assert_eq!(wrong.contains(&"preimage_shown_undecided"), is_wrong, "{state:?}: {wrong:?}");
    }
    let (mut payments, view) = balanced();
    payments.push(payments[0].clone());
    assert!(rules(&check(&payments, &view)).contains(&"paid_twice"));
}

#[test]
fn money_must_be_the_same_on_both_sides() {
    assert_breaks("received_unpaid", |payment, _| {
        payment.parts[0].end = Some(PartEnd::Failed(failure(FailureSource::FrontNode, 0x1007)));
    });
    assert_breaks("paid_unreceived", |_, view| {
        view.lnds[0].htlcs[0].node_paid = false;
        view.lnds[0].htlcs[0].answers.clear();
    });
    assert_breaks("paid_unknown_htlc", |_, view| view.lnds[0].htlcs.clear());
    assert_breaks("received_differs", |_, view| each_replica(view, |invoice| invoice.received_msat = 299));
    assert_breaks("sums_differ", |_, view| each_replica(view, |invoice| invoice.received_msat = 299));
    assert_breaks("received_for_unknown_invoice", |_, view| {
        view.replicas.iter_mut().for_each(|replica| replica.invoices.clear());
    });
    assert_breaks("not_final_at_the_end", |_, view| {
        each_replica(view, |invoice| invoice.state = InvoiceState::Settling);
    });
}

#[test]
fn answers_must_not_contradict() {
    assert_breaks("failed_after_settle", |_, view| view.lnds[0].htlcs[0].answers.push(answer("FAIL")));
    assert_breaks("answered_both_ways", |_, view| view.lnds[0].htlcs[0].answers.insert(0, answer("FAIL")));
    assert_breaks("own_htlc_resumed", |_, view| view.lnds[0].htlcs[0].answers.push(answer("RESUME")));
    assert_breaks("foreign_htlc_not_resumed", |payment, _| payment.order.foreign = true);
}

#[test]
fn a_decided_set_is_whole() {
    assert_breaks("settled_unknown_htlc", |_, view| view.lnds[0].htlcs[0].htlc_id = 9);
    assert_breaks("part_not_settled", |_, view| {
        view.lnds[0].htlcs[0].node_paid = false;
        view.lnds[0].htlcs[0].answers.clear();
    });
    assert_breaks("settled_beyond_the_set", |_, view| {
        each_replica(view, |invoice| invoice.htlcs.truncate(1));
    });
    assert_breaks("partial_without_loss", |_, view| {
        each_replica(view, |invoice| invoice.state = InvoiceState::Partial);
    });
}

#[test]
fn replicas_must_agree_and_keep_what_they_acknowledged() {
    assert_breaks("state_hashes_differ", |_, view| {
        view.replicas[1].state_hashes.insert(10, vec![2]);
    });
    assert_breaks("state_hashes_not_comparable", |_, view| {
        view.replicas[1].state_hashes = BTreeMap::from([(11, vec![2])]);
    });
    assert_breaks("acknowledged_invoice_lost", |_, view| view.replicas[1].invoices.clear());
    assert_breaks("invoice_not_readable", |_, view| {
        view.replicas[1].unread.insert(HASH, "no quorum".into());
    });
    assert_breaks("replicas_disagree", |_, view| {
        view.replicas[2].invoices.get_mut(&HASH).unwrap().paid_msat = 1;
    });
    assert_breaks("lnd_complains", |_, view| view.lnds[0].complaints.push("odd".into()));
}
