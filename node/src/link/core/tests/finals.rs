//! How ends get into the log, and what happens if they do not come.

use super::*;
use mux_proto::routerrpc::{FinalHtlcEvent, ForwardFailEvent, HtlcEvent, SettleEvent, htlc_event};
use mux_raft::machine::command::FinalOutcome;
use mux_raft::machine::model::{FinalState, InvoiceState};

fn event(index: u64, event: htlc_event::Event) -> HtlcEvent {
    HtlcEvent {
        incoming_channel_id: CHANNEL,
        incoming_htlc_id: index,
        event: Some(event),
        ..HtlcEvent::default()
    }
}

pub(super) fn forward_fail(index: u64) -> HtlcEvent {
    event(index, htlc_event::Event::ForwardFailEvent(ForwardFailEvent {}))
}

fn final_event(index: u64, settled: bool) -> HtlcEvent {
    event(index, htlc_event::Event::FinalHtlcEvent(FinalHtlcEvent { settled, offchain: true }))
}

fn tell(rig: &mut Rig, event: &HtlcEvent) {
    rig.tell(|core, state, now| core.htlc_event(event, state, now));
}

fn final_state(rig: &Rig, index: u64) -> FinalState {
    rig.log.state().find_htlc(&key(index)).unwrap().unwrap().final_state
}

fn finals(rig: &Rig) -> Vec<FinalOutcome> {
    rig.proposed
        .iter()
        .filter_map(|command| match command {
            Command::HtlcFinals { finals, .. } => Some(finals.iter().map(|end| end.outcome)),
            _ => None,
        })
        .flatten()
        .collect()
}

#[test]
fn only_the_final_event_makes_it_settled() {
    let mut rig = Rig::up();
    rig.offer(request(1, 0, AMOUNT));
    tell(&mut rig, &event(0, htlc_event::Event::SettleEvent(SettleEvent::default())));
    assert_eq!(final_state(&rig, 0), FinalState::Open, "a settle event is no proof");
    tell(&mut rig, &final_event(0, true));
    let found = rig.log.state().find_invoice(&hash(1)).unwrap();
    let state = found.map(|found| found.invoice.state);
    assert_eq!(state, Some(InvoiceState::Settled));
}

#[test]
fn finals_of_foreign_htlcs_are_not_proposed() {
    let mut rig = Rig::up();
    rig.offer(foreign(0));
    rig.offer(request(201, 1, AMOUNT));
    for index in 0..2 {
        tell(&mut rig, &forward_fail(index));
        tell(&mut rig, &final_event(index, false));
    }
    assert_eq!(finals(&rig), []);
}

#[test]
fn an_undecided_htlc_that_lnd_failed_leaves_its_set() {
    let mut rig = Rig::up();
    rig.offer(request(1, 0, AMOUNT / 2));
    tell(&mut rig, &forward_fail(0));
    assert_eq!(finals(&rig), [FinalOutcome::FailedByLnd]);
    rig.offer(request(1, 1, AMOUNT / 2));
    assert_eq!(rig.sent, [], "the part that is gone does not count");
    rig.offer(request(1, 2, AMOUNT / 2));
    let answers: BTreeSet<_> = rig.sent.iter().copied().collect();
    assert_eq!(answers, BTreeSet::from([(htlc(1), "settle"), (htlc(2), "settle")]));
}

#[test]
fn the_forward_fail_event_of_our_own_fail_is_no_news() {
    let mut rig = Rig::up();
    rig.offer(request(1, 0, 3 * AMOUNT));
    assert_eq!(rig.sent, [(htlc(0), "fail")]);
    tell(&mut rig, &forward_fail(0));
    assert_eq!(finals(&rig), []);
}

#[test]
fn an_end_does_not_overtake_the_offer_that_it_ends() {
    let mut rig = Rig::up();
    rig.no_auto_settle();
    rig.keep_proposals = true;
    rig.offer(request(1, 0, AMOUNT));
    tell(&mut rig, &final_event(0, false));
    assert_eq!(finals(&rig), []);
    rig.commit_kept();
    rig.commit_kept();
    assert_eq!(finals(&rig), [FinalOutcome::Failed]);
    assert_eq!(final_state(&rig, 0), FinalState::Failed);
}

#[test]
fn an_end_that_is_not_committed_is_told_again() {
    let mut rig = Rig::up();
    rig.offer(request(1, 0, AMOUNT));
    rig.keep_proposals = true;
    tell(&mut rig, &final_event(0, true));
    rig.fail_kept(&unavailable());
    rig.keep_proposals = false;
    rig.pass(200);
    assert_eq!(final_state(&rig, 0), FinalState::Settled);
}

#[test]
fn the_end_of_a_key_that_the_log_does_not_know_yet_is_retried() {
    let mut rig = Rig::up();
    rig.no_auto_settle();
    rig.keep_proposals = true;
    rig.offer(request(1, 0, AMOUNT));
    let offer = rig.kept.clone();
    tell(&mut rig, &final_event(0, false));
    // The offer's outcome is unknown; it gets into the log after the end was told once.
    rig.fail_kept(&unknown());
    rig.keep_proposals = false;
    rig.commit_kept();
    assert_eq!(finals(&rig).len(), 1);
    for (_, command) in offer {
        rig.log.commit(command, None);
    }
    rig.pass(300);
    assert_eq!(final_state(&rig, 0), FinalState::Failed, "no ghost stays in the set");
}

#[test]
fn look_ups_of_what_is_final_are_no_news() {
    let mut rig = Rig::up();
    rig.offer(request(1, 0, AMOUNT));
    for _ in 0..3 {
        rig.tell(|core, state, now| core.final_known(htlc(0), FinalOutcome::Settled, state, now));
    }
    assert_eq!(finals(&rig).len(), 1);
}

#[test]
fn a_decided_htlc_that_is_not_final_in_time_raises_the_alarm_and_closes_its_channel_once() {
    let mut rig = Rig::up();
    let with_an_output =
        || ForwardHtlcInterceptRequest { incoming_amount_msat: 354_000, ..request(1, 0, AMOUNT) };
    rig.offer(with_an_output());
    let set_height = |rig: &mut Rig, height: u32| {
        rig.tell(|core, state, now| core.tip(Some(tip(height)), state, now));
        rig.pass(50);
    };
    set_height(&mut rig, EXPIRY - 21);
    assert_eq!(rig.alarms, 0);
    set_height(&mut rig, EXPIRY - 20);
    rig.pass(1_000);
    assert_eq!((rig.alarms, rig.closed_channels.as_slice()), (1, [CHANNEL].as_slice()));
    set_height(&mut rig, EXPIRY - 19);
    assert_eq!((rig.alarms, rig.closed_channels.len()), (2, 1), "an alarm for each block");
    rig.tell(|core, _, now| core.force_close_failed(CHANNEL, now));
    rig.pass(50);
    assert_eq!(rig.closed_channels.len(), 1, "LND is not flooded");
    rig.pass(10_000);
    assert_eq!(rig.closed_channels.len(), 2, "a close that failed is tried again");
    rig.offer(on_chain(with_an_output()));
    assert_eq!(rig.sent.len(), 2, "and the re-offer from the chain is settled");
}

/// It has no output on chain.
#[test]
fn no_channel_is_closed_for_dust_which_that_would_lose() {
    let mut rig = Rig::up();
    rig.offer(ForwardHtlcInterceptRequest { incoming_amount_msat: 353_999, ..request(1, 0, AMOUNT) });
    for height in EXPIRY - 20..EXPIRY - 15 {
        rig.tell(|core, state, now| core.tip(Some(tip(height)), state, now));
        rig.pass(1_000);
    }
    assert_eq!((rig.alarms, rig.closed_channels.len()), (5, 0));
}

/// Else a set with a part that LND failed could be decided by the report.
#[test]
fn an_end_is_in_the_log_before_a_report_confirms_the_session_in_a_new_term() {
    let mut rig = Rig::up();
    rig.offer(request(1, 0, AMOUNT / 2));
    rig.keep_proposals = true;
    tell(&mut rig, &forward_fail(0));
    rig.log.next_term();
    let before = rig.proposed.len();
    rig.pass(1_500);
    let is_report = |command: &Command| matches!(command, Command::LinkReport { .. });
    assert!(!rig.proposed[before..].iter().any(is_report));
    rig.commit_kept();
    rig.keep_proposals = false;
    rig.pass(1_500);
    assert!(rig.proposed[before..].iter().any(is_report));
    let htlc = rig.log.state().read(|state| state.htlc(&key(0)).cloned().unwrap());
    assert!(htlc.gone);
}

/// The same if the leader stays and was not heard from for a while.
#[test]
fn an_end_is_in_the_log_before_a_report_that_comes_after_a_time_without_quorum() {
    let mut rig = Rig::up();
    rig.offer(request(1, 0, AMOUNT / 2));
    rig.tell(|core, state, now| core.quorum(false, state, now));
    tell(&mut rig, &forward_fail(0));
    for _ in 0..100 {
        rig.pass(50);
    }
    rig.keep_proposals = true;
    let before = rig.proposed.len();
    rig.tell(|core, state, now| core.quorum(true, state, now));
    let end = |command: &Command| matches!(command, Command::HtlcFinals { .. });
    assert!(rig.proposed.len() == before + 1 && rig.proposed.last().is_some_and(end), "no report beside it");
    rig.keep_proposals = false;
    rig.commit_kept();
    assert!(matches!(rig.proposed.last(), Some(Command::LinkReport { .. })));
}

/// LND failed a part while this process was stopped; its word is still in the socket when the process goes on.
#[test]
fn after_a_standstill_nothing_is_vouched_for_before_lnd_was_heard() {
    let mut rig = Rig::up();
    rig.offer(request(1, 0, AMOUNT / 2));
    rig.keep_hearing = true;
    let before = rig.proposed.len();
    rig.pass(4_000);
    rig.offer(request(1, 1, AMOUNT / 2));
    rig.pass(50);
    assert_eq!(rig.hearing.len(), 1, "LND is asked, once");
    assert_eq!(rig.proposed.len(), before, "neither a report nor an offer");
    rig.keep_proposals = true;
    tell(&mut rig, &forward_fail(0));
    rig.hear();
    rig.pass(50);
    let told: Vec<_> = rig.proposed[before..].iter().map(std::mem::discriminant).collect();
    let end = std::mem::discriminant(&Command::HtlcFinals { node: NODE, finals: Vec::new() });
    assert_eq!(told, [end], "the end first, and nothing beside it");
    rig.keep_proposals = false;
    rig.commit_kept();
    rig.pass(50);
    assert!(rig.proposed[before + 1..].iter().any(|command| matches!(command, Command::LinkReport { .. })));
    assert_eq!(rig.offers_proposed(), 2, "the offer that waited");
    assert!(rig.verdict(1).is_none() && rig.sent.is_empty(), "the set lacks a part: {:?}", rig.sent);
}

#[test]
fn a_stream_that_ended_in_a_standstill_holds_nothing_up() {
    let mut rig = Rig::up();
    rig.keep_hearing = true;
    rig.pass(4_000);
    rig.close();
    rig.open();
    rig.offer(request(1, 0, AMOUNT));
    assert_eq!(rig.sent, [(htlc(0), "settle")]);
    rig.hear();
    rig.pass(900);
    assert!(rig.hearing.is_empty(), "a pause of less than a second is none");
}
