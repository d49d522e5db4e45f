//! Sessions, proposals and their outcomes.

use super::*;
use mux_raft::machine::command::OFFERS_PER_ENTRY_MAX;

fn last_report(rig: &Rig) -> Option<&Command> {
    rig.proposed.iter().rev().find(|command| matches!(command, Command::LinkReport { .. }))
}

fn reports(rig: &Rig) -> usize {
    rig.proposed.iter().filter(|command| matches!(command, Command::LinkReport { .. })).count()
}

#[test]
fn offers_wait_for_the_session_and_its_first_report() {
    let mut rig = Rig::new();
    rig.keep_proposals = true;
    rig.open();
    rig.offer(request(1, 0, AMOUNT));
    let order = |rig: &Rig| {
        rig.proposed
            .iter()
            .map(|command| match command {
                Command::LinkUp { .. } => "up",
                Command::LinkReport { .. } => "report",
                Command::OfferHtlcs { .. } => "offer",
                other => panic!("{other:?}"),
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(order(&rig), ["up"]);
    rig.commit_kept();
    assert_eq!(order(&rig), ["up", "report"]);
    rig.commit_kept();
    assert_eq!(order(&rig), ["up", "report", "offer"]);
}

#[test]
fn a_take_over_does_not_wait_for_a_report_that_says_nothing_new() {
    let mut rig = Rig::up();
    rig.close();
    rig.keep_proposals = true;
    rig.proposed.clear();
    rig.open();
    rig.offer(request(1, 0, AMOUNT));
    rig.commit_kept();
    assert_eq!(rig.offers_proposed(), 1, "at the same time as the report");
    // Another tip, or a channel that is not active, is news that offers must not overtake.
    for news in [0, 1] {
        let mut rig = Rig::up();
        rig.close();
        rig.keep_proposals = true;
        rig.proposed.clear();
        match news {
            0 => rig.tell(|core, state, now| core.tip(Some(tip(HEIGHT + 1)), state, now)),
            _ => rig.tell(|core, state, now| core.channels(BTreeSet::new(), state, now)),
        }
        rig.open();
        rig.offer(request(1, 0, AMOUNT));
        rig.commit_kept();
        assert_eq!(rig.offers_proposed(), 0);
        rig.commit_kept();
        assert_eq!(rig.offers_proposed(), 1);
    }
}

#[test]
fn a_stale_offer_is_offered_again_under_the_current_session() {
    let mut rig = Rig::up();
    let first = rig.core.session();
    rig.keep_proposals = true;
    rig.offer(request(1, 0, AMOUNT));
    // Another replica held the link for a moment, before the offer got into the log.
    for (owner, stream) in [(OTHER, 91), (ME, 92)] {
        rig.log.commit(Command::AssignLink { node: NODE, replica: Some(owner) }, None);
        let up = Command::LinkUp { node: NODE, replica: owner, stream: RequestId([stream; 16]) };
        rig.log.commit(up, None);
    }
    rig.keep_proposals = false;
    rig.commit_kept();
    rig.pass(100);
    assert_eq!(rig.sent, [(htlc(0), "settle")]);
    assert!(rig.core.session() > first);
}

#[test]
fn held_htlcs_are_offered_again_when_their_session_is_lost_on_the_same_stream() {
    let mut rig = Rig::up();
    rig.no_auto_settle();
    rig.offer(request(1, 0, AMOUNT));
    let session = rig.core.session().unwrap();
    rig.apply(Command::LinkDown { node: NODE, session });
    rig.pass(300);
    let recorded = rig.log.state().read(|state| state.htlc(&key(0)).unwrap().session);
    assert_eq!(Some(recorded), rig.core.session());
    assert!(recorded > session);
}

#[test]
fn an_unknown_outcome_is_proposed_again_until_there_is_a_verdict() {
    let mut rig = Rig::up();
    rig.keep_proposals = true;
    rig.offer(request(1, 0, AMOUNT));
    for _ in 0..3 {
        rig.fail_kept(&unknown());
        rig.pass(60);
    }
    assert!(rig.offers_proposed() >= 3);
    assert_eq!(rig.sent, []);
    rig.commit_kept();
    assert_eq!(rig.sent, [(htlc(0), "settle")]);
}

#[test]
fn an_offer_that_was_committed_although_its_answer_was_lost_is_answered_from_the_state() {
    let mut rig = Rig::up();
    rig.keep_proposals = true;
    rig.offer(request(1, 0, AMOUNT));
    for (_, command) in rig.kept.clone() {
        rig.log.commit(command, None);
    }
    rig.tell(LinkCore::state_changed);
    assert_eq!(rig.sent, [(htlc(0), "settle")]);
    rig.fail_kept(&unknown());
    rig.pass(1_000);
    assert_eq!(rig.sent.len(), 1);
    assert_eq!(rig.offers_proposed(), 1, "answered: nothing is left to propose");
}

#[test]
fn a_change_of_leader_proposes_again_at_once_what_is_not_acknowledged() {
    let mut rig = Rig::up();
    rig.keep_proposals = true;
    rig.offer(request(1, 0, AMOUNT));
    rig.kept.clear();
    rig.log.next_term();
    rig.tell(LinkCore::leader_changed);
    rig.pass(50);
    rig.commit_kept();
    rig.commit_kept();
    assert_eq!(rig.sent, [(htlc(0), "settle")]);
}

#[test]
fn never_proposed_and_never_in_the_log_is_the_only_way_to_a_reject() {
    // Proposed with an unknown outcome, then offered again with an onion that is rejected.
    let mut rig = Rig::up();
    rig.keep_proposals = true;
    rig.offer(request(1, 0, AMOUNT));
    rig.fail_kept(&unknown());
    let mut strange = request(1, 0, AMOUNT);
    strange.onion_blob = vec![201; 1366].into();
    rig.offer(strange);
    rig.kept.clear();
    rig.pass(1_000);
    assert_eq!(rig.sent, []);
}

#[test]
fn offers_are_batched_within_an_entrys_limit() {
    let mut rig = Rig::up();
    rig.keep_proposals = true;
    for index in 0..100 {
        rig.offer(request(1, index, 1));
    }
    let sizes = |rig: &Rig| -> Vec<usize> {
        rig.proposed
            .iter()
            .filter_map(|command| match command {
                Command::OfferHtlcs { offers, .. } => Some(offers.len()),
                _ => None,
            })
            .collect()
    };
    assert_eq!(sizes(&rig), [1, 1, 1, 1], "a few at once, then batches");
    while !rig.kept.is_empty() {
        rig.commit_kept();
    }
    assert_eq!(sizes(&rig).iter().sum::<usize>(), 100);
    assert!(sizes(&rig).iter().all(|size| *size <= OFFERS_PER_ENTRY_MAX));
    assert!(sizes(&rig).contains(&OFFERS_PER_ENTRY_MAX));
}

#[test]
fn reports_come_once_a_second_and_at_once_after_news() {
    let mut rig = Rig::up();
    let start = reports(&rig);
    rig.pass(500);
    assert_eq!(reports(&rig), start);
    rig.pass(600);
    assert_eq!(reports(&rig), start + 1);
    rig.tell(|core, state, now| core.tip(Some(tip(HEIGHT + 1)), state, now));
    assert_eq!(reports(&rig), start + 2, "a new block");
    rig.no_auto_settle();
    rig.offer(request(1, 0, AMOUNT));
    rig.tell(|core, state, now| core.channels(BTreeSet::new(), state, now));
    assert_eq!(reports(&rig), start + 3, "a channel went inactive");
    assert!(
        matches!(last_report(&rig), Some(Command::LinkReport { inactive_channels, .. }) if inactive_channels == &[CHANNEL])
    );
    rig.log.next_term();
    rig.tell(LinkCore::state_changed);
    assert_eq!(reports(&rig), start + 4, "a new term confirms the session");
    let term = rig.log.state().read(|state| {
        let session = state.front_node(&NODE).unwrap().session.clone().unwrap();
        (session.confirmed_term, state.applied().term)
    });
    assert_eq!(term.0, term.1);
}

#[test]
fn a_tip_that_is_not_confirmed_any_more_is_not_reported() {
    let mut rig = Rig::up();
    rig.tell(|core, state, now| core.tip(None, state, now));
    rig.pass(1_100);
    assert!(matches!(last_report(&rig), Some(Command::LinkReport { tip: None, .. })));
}

#[test]
fn a_stream_that_ends_is_reported_down() {
    let mut rig = Rig::up();
    rig.close();
    let session = rig.log.state().read(|state| state.front_node(&NODE).unwrap().session.clone());
    assert_eq!(session, None, "an owner cut off from its LND says so, and the leader moves the link");
}

#[test]
fn a_session_of_an_earlier_life_is_reported_down() {
    let rig = Rig::up();
    let mut again = Rig::with(rig.log, false);
    again.pass(100);
    let session = again.log.state().read(|state| state.front_node(&NODE).unwrap().session.clone());
    assert_eq!(session, None);
}

#[test]
fn a_replica_that_is_not_assigned_opens_no_session() {
    let mut rig = Rig::new();
    rig.apply(Command::AssignLink { node: NODE, replica: Some(OTHER) });
    rig.open();
    rig.offer(request(1, 0, AMOUNT));
    rig.pass(5_000);
    assert_eq!((rig.core.session(), rig.sent.len(), rig.offers_proposed()), (None, 0, 0));
}

#[test]
fn an_offer_on_an_inactive_channel_waits_until_the_log_knows_that_it_is() {
    let mut rig = Rig::up();
    rig.tell(|core, state, now| core.channels(BTreeSet::new(), state, now));
    rig.keep_proposals = true;
    rig.proposed.clear();
    rig.offer(request(1, 0, AMOUNT));
    assert_eq!((reports(&rig), rig.offers_proposed()), (1, 0), "the report goes first, at once");
    rig.commit_kept();
    assert_eq!(rig.offers_proposed(), 1);
    let inactive = |state: &State| {
        let session = state.front_node(&NODE).and_then(|front| front.session.clone());
        session.is_some_and(|session| session.inactive_channels.contains(&CHANNEL))
    };
    assert!(rig.log.state().read(inactive));
}

/// It would be proposed for ever without a pause by a replica that has stopped, whose consensus says so at once.
#[test]
fn a_report_that_was_lost_is_not_repeated_at_once() {
    let mut rig = Rig::up();
    rig.tell(|core, state, now| core.channels(BTreeSet::new(), state, now));
    rig.keep_proposals = true;
    rig.proposed.clear();
    rig.offer(request(1, 0, AMOUNT));
    rig.fail_kept(&ProposeError::Fatal("test".into()));
    assert_eq!(reports(&rig), 1);
    rig.pass(super::super::RETRY_MS);
    assert_eq!(reports(&rig), 2);
    rig.tell(LinkCore::leader_changed);
    assert_eq!(reports(&rig), 3, "a new leader hears of it without delay");
}
