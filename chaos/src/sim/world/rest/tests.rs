use super::*;
use crate::ledger::{Expectation, InvoiceView, PartEnd, PaymentOrder, ReplicaView};
use mux_proto::lndsim::v1::{ClientAnswer, FinalResolution};
use mux_raft::types::{NodePubkey, PaymentHash};

const NODE: NodePubkey = NodePubkey([2; 33]);
const HASH: PaymentHash = PaymentHash([7; 32]);

/// On chain, claimed, and failed by the cluster.
fn claimed() -> HtlcEntry {
    HtlcEntry {
        chan_id: 1,
        htlc_id: 4,
        payment_hash: HASH.0.to_vec().into(),
        r#final: Some(FinalResolution { settled: true, ..FinalResolution::default() }),
        answers: vec![ClientAnswer { action: "FAIL".into(), ..ClientAnswer::default() }],
        ..HtlcEntry::default()
    }
}

/// How many HTLCs and payments are left, and how many were left out.
fn left(htlc: HtlcEntry, is_decided: bool) -> (usize, usize, u64) {
    left_of(htlc, is_decided, Vec::new())
}

/// The same, and the decision names these HTLCs.
fn left_of(htlc: HtlcEntry, is_decided: bool, htlcs: Vec<HtlcView>) -> (usize, usize, u64) {
    let lnds = vec![LndView { alias: "alice".into(), node: NODE, htlcs: vec![htlc], complaints: Vec::new() }];
    let invoice = InvoiceView { htlcs, ..InvoiceView::from(&mux_proto::mux::v1::Invoice::default()) };
    let replica = ReplicaView { invoices: [(HASH, invoice)].into(), ..ReplicaView::default() };
    let mut view = ClusterView { replicas: vec![replica], lnds };
    let order = PaymentOrder {
        label: "paid again".into(),
        hash: HASH,
        total_msat: 1,
        expect: Expectation::Fail,
        stored: true,
        foreign: false,
    };
    let part = |htlc_id| PartRecord {
        front: NODE,
        chan_id: 1,
        htlc_id,
        amount_msat: 1,
        sent_unix_ms: 0,
        ended_unix_ms: 0,
        end: Some(PartEnd::Settled { preimage_valid: true }),
    };
    let failed = |part: PartRecord| PartRecord { end: None, ..part };
    let payment = |htlc_id| PaymentRecord {
        order: order.clone(),
        // One was sent in place of another, which had been failed: of the first payment the other is the one.
        parts: if htlc_id == 5 { vec![part(4), part(5)] } else { vec![part(4), failed(part(6))] },
        started_unix_ms: 0,
        ended_unix_ms: 0,
        ends: Vec::new(),
    };
    let mut payments = vec![payment(4), payment(5)];
    let out = leave_out_claimed(&mut view, &mut payments, |_| is_decided);
    let parts: usize = payments.iter().map(|payment| payment.parts.len()).sum();
    assert_eq!(parts, if out == 0 { 4 } else { 1 }, "of what is left");
    (view.lnds[0].htlcs.len(), payments.len(), out)
}

#[test]
fn only_what_lnd_claims_on_chain_by_a_preimage_of_another_set_is_left_out() {
    assert_eq!(left(claimed(), true), (0, 1, 1));
    assert_eq!(left(claimed(), false), (1, 2, 0), "there was no preimage to learn");
    let with_settle = || {
        let mut htlc = claimed();
        htlc.answers[0].action = "SETTLE".into();
        htlc
    };
    assert_eq!(left(with_settle(), true), (1, 2, 0), "it is the cluster's word");
    let named = HtlcView {
        front: NODE.0.to_vec(),
        chan_id: 1,
        htlc_id: 4,
        verdict: "settle".into(),
        final_state: "settled".into(),
    };
    assert_eq!(left_of(claimed(), true, vec![named.clone()]), (1, 2, 0), "the decision names it");
    let failed = HtlcView { verdict: "fail".into(), ..named };
    assert_eq!(left_of(claimed(), true, vec![failed]), (0, 1, 1));
    let end = |change: fn(&mut FinalResolution)| {
        let mut htlc = claimed();
        htlc.r#final.as_mut().into_iter().for_each(change);
        htlc
    };
    assert_eq!(
        left(end(|end| end.offchain = true), true),
        (1, 2, 0),
        "off the chain LND does what it is told"
    );
    assert_eq!(left(end(|end| end.settled = false), true), (1, 2, 0), "nothing was claimed");
}
