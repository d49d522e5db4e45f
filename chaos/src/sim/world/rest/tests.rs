use super::*;
use crate::ledger::{Expectation, PaymentOrder};
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
    let mut lnds =
        vec![LndView { alias: "alice".into(), node: NODE, htlcs: vec![htlc], complaints: Vec::new() }];
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
        end: None,
    };
    let payment = |htlc_id| PaymentRecord {
        order: order.clone(),
        parts: vec![part(htlc_id)],
        started_unix_ms: 0,
        ended_unix_ms: 0,
        ends: Vec::new(),
    };
    let mut payments = vec![payment(4), payment(5)];
    let out = leave_out_claimed(&mut lnds, &mut payments, |_| is_decided);
    (lnds[0].htlcs.len(), payments.len(), out)
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
