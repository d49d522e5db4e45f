//! What an offered HTLC is answered.

use crate::support::*;
use mux_raft::machine::command::*;
use mux_raft::machine::model::*;
use mux_raft::machine::reply::*;
use mux_raft::types::*;

fn cause_of(change: impl FnOnce(&mut HtlcOffer)) -> DetailsCause {
    let mut offer = offer(1, 0);
    change(&mut offer);
    details(World::new(1).judge(1, offer))
}

#[test]
fn an_offer_proposed_again_after_an_unknown_outcome_is_counted_once() {
    let mut world = World::auto(1);
    world.hold(1, part(1, 0, 500, 1000));
    world.hold(1, part(1, 0, 500, 1000));
    assert_eq!(world.invoice(1).set.as_ref().unwrap().sum_msat, Msat(500));
    assert_eq!(world.judge(1, part(1, 1, 500, 1000)), Verdict::Settle);
    assert_eq!(world.judge(1, part(1, 0, 500, 1000)), Verdict::Settle);
    assert_eq!(world.invoice(1).decision_index, 1);
}

#[test]
fn the_same_key_twice_in_one_entry_is_counted_once() {
    let mut world = World::auto(1);
    let replies = world.offers_in(1, 1, vec![part(1, 0, 500, 1000), part(1, 0, 500, 1000)]);
    assert_eq!(replies, [OfferReply::Held, OfferReply::Held]);
}

#[test]
fn a_settled_htlc_is_settled_again_after_policy_and_settings_changed() {
    let mut world = World::auto(1);
    world.judge(1, offer(1, 0));
    let policy = FrontNodePolicy { scid: 99, fee_base_msat: 9000, fee_ppm: 9, cltv_delta: 1000 };
    world.run(Command::PutFrontNode { node: node(1), alias: "n".into(), policy });
    world.run(Command::Configure(Settings { margin_blocks: 500, ..Settings::default() }));
    world.up(1, 1, 50);
    world.blocks(EXPIRY - 1);
    assert_eq!(world.judge(1, offer(1, 0)), Verdict::Settle);
    world.end(1, 0, FinalOutcome::Settled);
    assert_eq!(world.judge(1, offer(1, 0)), Verdict::Settle);
}

#[test]
fn a_known_key_with_another_hash_keeps_its_record() {
    let mut world = World::new(1);
    world.hold(1, part(1, 0, 500, 1000));
    world.hold(1, part(2, 0, 500, 1000));
    assert_eq!(world.state.htlc(&key(1, 0)).unwrap().hash, hash(1));
    assert!(world.state.invoice(&hash(2)).is_none());
}

#[test]
fn an_htlc_seen_first_on_chain_never_joins() {
    assert_eq!(cause_of(|offer| offer.on_chain = true), DetailsCause::OnChain);
    let by_height = |offer: &mut HtlcOffer| offer.auto_fail_height = offer.incoming_expiry;
    assert_eq!(cause_of(by_height), DetailsCause::OnChain);
}

#[test]
fn an_undecided_htlc_offered_on_chain_fails_its_set() {
    let mut world = World::new(2);
    world.hold(1, part(1, 0, 500, 1000));
    world.hold(2, part(1, 0, 500, 1000));
    assert_eq!(world.state_of(1), InvoiceState::Accepted);
    assert_eq!(details(world.judge(2, on_chain(part(1, 0, 500, 1000)))), DetailsCause::OnChain);
    assert_eq!(world.fail_of(1, 0), DetailsCause::SetOnChain);
    assert_eq!(world.state_of(1), InvoiceState::Open);
    assert!(world.state.htlc(&key(2, 0)).unwrap().on_chain);
}

#[test]
fn failed_and_settled_htlcs_keep_their_verdicts_on_chain() {
    let mut world = World::auto(1);
    world.judge(1, offer(1, 0));
    let failed = world.judge(1, offer(1, 1));
    assert_eq!(details(failed), DetailsCause::AlreadyPaid);
    assert_eq!(world.judge(1, on_chain(offer(1, 0))), Verdict::Settle);
    assert_eq!(world.judge(1, on_chain(offer(1, 1))), failed);
    assert_eq!(world.state_of(1), InvoiceState::Settling);
}

#[test]
fn without_a_height_nothing_is_accepted() {
    let mut world = World::new(1);
    world.up(1, 1, 50);
    world.silence(HEIGHT_FRESH_MS + 1000);
    assert_eq!(temporary(world.judge(1, offer(1, 0))), TemporaryCause::NoHeight);
    world.report_with(1, Some(HEIGHT), false, &[]);
    assert_eq!(temporary(world.judge(1, offer(1, 1))), TemporaryCause::NoHeight, "not synced");
    world.report(1, HEIGHT);
    world.hold(1, offer(1, 2));
}

#[test]
fn too_few_blocks_are_refused_at_the_boundary() {
    let incoming = HEIGHT + 22 + 6 + 6;
    let too_soon = |offer: &mut HtlcOffer| {
        (offer.incoming_expiry, offer.auto_fail_height) = (incoming - 1, incoming - 20);
    };
    assert_eq!(cause_of(too_soon), DetailsCause::TooSoon);
    let mut enough = offer(1, 0);
    enough.incoming_expiry = incoming;
    enough.auto_fail_height = incoming - 19;
    World::new(1).hold(1, enough);
    let outgoing = HEIGHT + 80 - 3;
    assert_eq!(cause_of(|offer| offer.outgoing_expiry = outgoing - 1), DetailsCause::TooSoon);
    let mut enough = offer(1, 0);
    enough.outgoing_expiry = outgoing;
    World::new(1).hold(1, enough);
}

#[test]
fn failures_carry_the_height_they_were_judged_by() {
    let mut world = World::new(1);
    let verdict = world.judge(1, of_kind(InvoiceKind::Stored, offer(1, 0)));
    let cause = DetailsCause::UnknownInvoice;
    assert_eq!(verdict, Verdict::Fail(FailReason::IncorrectDetails { height: HEIGHT, cause }));
}

#[test]
fn unknown_stored_and_hold_invoices_are_refused() {
    let unknown = DetailsCause::UnknownInvoice;
    assert_eq!(cause_of(|offer| offer.terms.kind = InvoiceKind::Stored), unknown);
    assert_eq!(cause_of(|offer| offer.terms.kind = InvoiceKind::Hold), unknown);
}

#[test]
fn the_first_htlc_creates_a_stateless_invoice_and_others_must_match() {
    let mut world = World::new(1);
    world.hold(1, part(1, 0, 500, 1000));
    assert_eq!((world.invoice(1).add_index, world.invoice(1).payment_request.as_str()), (1, ""));
    let mut other_terms = part(1, 1, 500, 1000);
    other_terms.terms.amount_msat = Msat(999);
    assert_eq!(details(world.judge(1, other_terms)), DetailsCause::WrongSecret);
    let mut other_secret = part(1, 2, 500, 1000);
    other_secret.secret = secret(77);
    assert_eq!(details(world.judge(1, other_secret)), DetailsCause::WrongSecret);
    assert_eq!(world.invoice(1).set.as_ref().unwrap().parts.len(), 1);
}

#[test]
fn two_replicas_offering_first_parts_create_one_stateless_invoice() {
    let mut world = World::auto(2);
    world.hold(1, part(1, 0, 500, 1000));
    assert_eq!(world.judge(2, part(1, 0, 500, 1000)), Verdict::Settle);
    assert_eq!(world.state.invoices_after(0).count(), 1);
    assert_eq!(world.invoice(1).add_index, 1);
}

#[test]
fn a_stored_invoice_of_the_hash_wins_over_a_stateless_offer() {
    let mut world = World::new(1);
    world.add(1, InvoiceKind::Stored, 5000);
    let mut stateless = offer(1, 0);
    stateless.secret = secret(77);
    assert_eq!(details(world.judge(1, stateless)), DetailsCause::WrongSecret);
    assert_eq!(details(world.judge(1, offer(1, 1))), DetailsCause::WrongTotal, "the stored amount counts");
}

#[test]
fn expired_invoices_are_refused_by_log_time() {
    assert_eq!(cause_of(|offer| offer.terms.expires_at_ms = NOW), DetailsCause::Expired);
    let mut world = World::new(1);
    world.add(1, InvoiceKind::Stored, 1000);
    world.pass(3_600_000);
    assert_eq!(world.state_of(1), InvoiceState::Expired);
    assert_eq!(details(world.judge(1, of_kind(InvoiceKind::Stored, offer(1, 0)))), DetailsCause::Expired);
}

#[test]
fn htlcs_beyond_the_accepted_set_are_failed() {
    let mut world = World::new(1);
    world.hold(1, offer(1, 0));
    assert_eq!(details(world.judge(1, offer(1, 1))), DetailsCause::AlreadyPaid);
    world.settle(1);
    assert_eq!(details(world.judge(1, offer(1, 2))), DetailsCause::AlreadyPaid);
    world.end(1, 0, FinalOutcome::Settled);
    assert_eq!(details(world.judge(1, offer(1, 3))), DetailsCause::AlreadyPaid);
}

#[test]
fn total_is_between_the_amount_and_twice_it() {
    let wrong = DetailsCause::WrongTotal;
    assert_eq!(cause_of(|offer| offer.total_msat = Msat(999)), wrong);
    assert_eq!(cause_of(|offer| offer.total_msat = Msat(2001)), wrong);
    World::new(1).hold(1, part(1, 0, 1000, 2000));
    World::new(1).hold(1, part(1, 0, 2000, 2000));
}

#[test]
fn a_zero_amount_invoice_takes_the_payers_total() {
    let zero = |mut offer: HtlcOffer| {
        offer.terms.amount_msat = Msat::ZERO;
        offer
    };
    let mut world = World::new(1);
    assert_eq!(details(world.judge(1, zero(part(1, 0, 5, 0)))), DetailsCause::WrongTotal);
    world.hold(1, zero(part(1, 1, 300, 900)));
    assert_eq!(details(world.judge(1, zero(part(1, 2, 1501, 900)))), DetailsCause::TooMuch);
    world.hold(1, zero(part(1, 3, 1500, 900)));
    assert_eq!(world.state_of(1), InvoiceState::Accepted);
}

#[test]
fn a_part_with_another_total_fails_alone() {
    let mut world = World::new(1);
    world.hold(1, part(1, 0, 500, 1000));
    assert_eq!(details(world.judge(1, part(1, 1, 500, 1001))), DetailsCause::WrongTotal);
    world.hold(1, part(1, 2, 500, 1000));
    assert_eq!(world.state_of(1), InvoiceState::Accepted);
    assert_eq!(world.invoice(1).set.as_ref().unwrap().parts.len(), 2);
}

#[test]
fn a_part_that_would_exceed_twice_the_amount_fails_alone() {
    let mut world = World::new(1);
    world.hold(1, part(1, 0, 999, 1000));
    assert_eq!(details(world.judge(1, part(1, 1, 1002, 1000))), DetailsCause::TooMuch);
    world.hold(1, part(1, 2, 1001, 1000));
    assert_eq!(world.invoice(1).set.as_ref().unwrap().sum_msat, Msat(2000));
}

#[test]
fn amounts_near_the_end_of_the_range_neither_wrap_nor_panic() {
    assert_eq!(cause_of(|offer| offer.total_msat = Msat(u64::MAX)), DetailsCause::WrongTotal);
    let mut world = World::new(1);
    let huge = |htlc_id, amount| {
        let mut offer = part(1, htlc_id, amount, u64::MAX);
        offer.terms.amount_msat = Msat(u64::MAX - 1);
        offer
    };
    world.hold(1, huge(0, u64::MAX - 1));
    assert_eq!(details(world.judge(1, huge(1, u64::MAX))), DetailsCause::TooMuch);
    world.hold(1, huge(2, 1));
    assert_eq!(world.state_of(1), InvoiceState::Accepted);
    let late = cause_of(|offer| {
        (offer.incoming_expiry, offer.outgoing_expiry) = (0, 0);
        offer.auto_fail_height = 0;
    });
    assert_eq!(late, DetailsCause::OnChain);
}

#[test]
fn a_part_of_nothing_or_not_backed_by_its_htlc_is_refused() {
    let wrong = DetailsCause::WrongTotal;
    assert_eq!(cause_of(|offer| offer.outgoing_amount_msat = Msat::ZERO), wrong);
    assert_eq!(cause_of(|offer| offer.incoming_amount_msat = Msat(999)), wrong);
}

#[test]
fn a_set_has_a_limited_number_of_parts() {
    let mut world = World::new(1);
    let settings = Settings { parts_per_set_max: 2, auto_settle: false, ..Settings::default() };
    world.run(Command::Configure(settings));
    world.hold(1, part(1, 0, 100, 1000));
    world.hold(1, part(1, 1, 100, 1000));
    assert_eq!(details(world.judge(1, part(1, 2, 100, 1000))), DetailsCause::TooMuch);
}

#[test]
fn a_channel_holds_a_limited_number_of_undecided_htlcs() {
    let mut world = World::new(1);
    world.run(Command::Configure(Settings { held_per_channel_max: 2, ..Settings::default() }));
    world.hold(1, part(1, 0, 100, 1000));
    world.hold(1, part(2, 1, 100, 1000));
    assert_eq!(temporary(world.judge(1, part(3, 2, 100, 1000))), TemporaryCause::ChannelFull);
    let mut elsewhere = part(3, 3, 100, 1000);
    elsewhere.chan_id = 8;
    world.hold(1, elsewhere);
    assert_eq!((world.state.held_count(&node(1)), world.state.held_on_channel(&node(1), 7)), (3, 2));
    world.end(1, 0, FinalOutcome::FailedByLnd);
    world.hold(1, part(3, 4, 100, 1000));
}

#[test]
fn an_entry_carries_a_limited_number_of_offers_and_finals() {
    let mut world = World::new(1);
    let offers = (0..17).map(|htlc_id| part(1, htlc_id, 1, 1000)).collect();
    let reply = world.run(Command::OfferHtlcs { node: node(1), session: 1, offers });
    assert!(matches!(reply, Reply::Rejected(Rejection::Invalid(_))));
    assert_eq!(world.state.htlcs_of(&node(1)).count(), 0);
    let outcome = FinalOutcome::Failed;
    let finals = (0..65).map(|htlc_id| HtlcFinal { chan_id: 7, htlc_id, outcome }).collect();
    let reply = world.run(Command::HtlcFinals { node: node(1), finals });
    assert!(matches!(reply, Reply::Rejected(Rejection::Invalid(_))));
}
