use super::*;
use mux_raft::machine::model::InvoiceState;
use mux_raft::types::{Msat, SetId};

const HASH: PaymentHash = PaymentHash([7; 32]);
const SET: SetId = SetId([1; 32]);

fn settling() -> EventKind {
    EventKind::Settling { set_id: SET, amount_msat: Msat(1_000) }
}

fn failed() -> EventKind {
    EventKind::SetFailed { reason: FailReason::MppTimeout, amount_msat: Msat(1_000) }
}

fn settled() -> EventKind {
    EventKind::Settled { received_msat: Msat(1_000) }
}

fn partial() -> EventKind {
    EventKind::Partial { received_msat: Msat(400) }
}

/// What is wrong with these events of one invoice.
fn wrong(kinds: &[EventKind]) -> Vec<String> {
    let mut settlements = Settlements::default();
    let see = |(kind, sequence): (&EventKind, u64)| {
        let event = Event { sequence, time_ms: 0, hash: HASH, state: InvoiceState::Open, kind: kind.clone() };
        settlements.see(SimTime::ZERO, sequence..=sequence, &event).1
    };
    kinds.iter().zip(1..).filter_map(see).collect()
}

#[test]
fn an_invoice_is_decided_once_and_settled_after_that_and_never_failed() {
    for good in [
        vec![EventKind::Added, failed(), settling(), settled()],
        vec![EventKind::Added, settling(), partial()],
        vec![EventKind::Added, failed(), EventKind::Canceled],
    ] {
        assert_eq!(wrong(&good), Vec::<String>::new(), "{good:?}");
    }
    for (bad, text) in [
        (vec![settling(), settling()], "two sets of invoice"),
        (vec![settling(), settled(), settling()], "two sets of invoice"),
        (vec![EventKind::Canceled, settling()], "was decided after its end"),
        (vec![EventKind::Expired, settling()], "was decided after its end"),
        (vec![settling(), failed()], "the decided set of"),
        (vec![settling(), EventKind::Canceled], "is Canceled after its decision"),
        (vec![settling(), settled(), EventKind::Expired], "is Expired after its decision"),
        (vec![settling(), settled(), EventKind::Voided], "is Voided after its decision"),
        (vec![settled()], "without a decision"),
        (vec![partial()], "without a decision"),
        (vec![settling(), settled(), settled()], "without a decision"),
    ] {
        let wrong = wrong(&bad);
        assert!(wrong.len() == 1 && wrong[0].contains(text), "{bad:?}: {wrong:?}");
    }
}

#[test]
fn a_preimage_is_sent_by_those_who_have_applied_its_decision() {
    let mut settlements = Settlements::default();
    assert!(settlements.tells(HASH, 9).is_some_and(|wrong| wrong.contains("nobody had decided")));
    let event =
        Event { sequence: 5, time_ms: 0, hash: HASH, state: InvoiceState::Settling, kind: settling() };
    settlements.see(SimTime::from_ms(8), 40..=42, &event);
    assert!(settlements.tells(HASH, 4).is_some_and(|wrong| wrong.contains("had not applied")));
    assert_eq!(settlements.tells(HASH, 5), None);
    assert_eq!(settlements.decided_at(&HASH), Some(SimTime::from_ms(8)));
    assert_eq!(settlements.decided_by(&HASH), Some(40..=42));
}
