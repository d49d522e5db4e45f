//! What is answered, when, and how often.

use super::*;
use mux_raft::machine::command::{FinalOutcome, HtlcFinal};

#[test]
fn a_payment_is_settled_once_its_offer_is_applied() {
    let mut rig = Rig::up();
    rig.keep_proposals = true;
    rig.offer(request(1, 0, AMOUNT));
    assert_eq!(rig.sent, [], "nothing before the entry is applied");
    rig.commit_kept();
    assert_eq!(rig.sent, [(htlc(0), "settle")]);
}

#[test]
fn at_most_one_answer_per_offer_and_stream() {
    let mut rig = Rig::up();
    rig.offer(request(1, 0, AMOUNT));
    for _ in 0..5 {
        rig.pass(1_000);
        rig.tell(LinkCore::state_changed);
    }
    rig.tell(LinkCore::leader_changed);
    assert_eq!(rig.sent, [(htlc(0), "settle")]);
    rig.offer(request(1, 0, AMOUNT));
    assert_eq!(rig.sent.len(), 2, "offered again, answered again");
}

#[test]
fn an_htlc_of_a_finished_invoice_gets_its_settle_without_being_judged() {
    let mut rig = Rig::up();
    rig.offer(request(1, 0, AMOUNT));
    let finals = vec![HtlcFinal { chan_id: CHANNEL, htlc_id: 0, outcome: FinalOutcome::Settled }];
    rig.apply(Command::HtlcFinals { node: NODE, finals });
    assert!(rig.log.state().read(|state| state.htlc(&key(0)).is_none()), "it is in the archive");
    rig.screener = Arc::new(TestScreener { rejects_all: true });
    let proposed = rig.offers_proposed();
    rig.close();
    rig.open();
    rig.offer(request(1, 0, AMOUNT));
    assert_eq!(rig.sent, [(htlc(0), "settle"), (htlc(0), "settle")]);
    assert_eq!(rig.offers_proposed(), proposed, "the recorded verdict comes before consensus");
}

#[test]
fn an_htlc_whose_invoice_is_finished_while_it_is_outstanding_is_settled() {
    let mut rig = Rig::up();
    rig.no_auto_settle();
    rig.keep_proposals = true;
    rig.offer(request(1, 0, AMOUNT));
    rig.commit_kept();
    // Decided and finished between two looks of the core.
    let settle = Command::SettleInvoice { hash: hash(1), set_id: None, preimage: None, keep_intent: false };
    rig.log.commit(settle, None);
    let finals = vec![HtlcFinal { chan_id: CHANNEL, htlc_id: 0, outcome: FinalOutcome::Settled }];
    rig.log.commit(Command::HtlcFinals { node: NODE, finals }, None);
    rig.pass(2_000);
    assert_eq!(rig.sent, [(htlc(0), "settle")]);
}

#[test]
fn nothing_is_answered_for_a_key_that_is_not_outstanding_on_this_stream() {
    let mut rig = Rig::up();
    rig.no_auto_settle();
    rig.offer(request(1, 0, AMOUNT));
    rig.close();
    rig.open();
    rig.settle(1);
    rig.pass(2_000);
    assert_eq!(rig.sent, [], "LND has not offered it on the new stream yet");
}

#[test]
fn foreign_htlcs_are_resumed_at_once_without_quorum_session_or_barrier() {
    let mut rig = Rig::new();
    rig.keep_barriers = true;
    rig.tell(|core, state, now| core.quorum(false, state, now));
    rig.open();
    rig.offer(foreign(0));
    assert_eq!(rig.sent, [(htlc(0), "resume")]);
    rig.offer(foreign(0));
    assert_eq!(rig.sent.len(), 2, "a key once resumed is resumed again");
}

#[test]
fn foreign_htlcs_on_chain_are_left_alone() {
    let mut rig = Rig::up();
    rig.offer(on_chain(foreign(0)));
    rig.pass(2_000);
    assert_eq!(rig.sent, []);
}

#[test]
fn a_virtual_scid_that_was_never_announced_is_resumed_but_only_once_that_is_certain() {
    let mut rig = Rig::new();
    rig.keep_proposals = true;
    rig.open();
    let strange =
        ForwardHtlcInterceptRequest { outgoing_requested_chan_id: UNANNOUNCED_SCID, ..request(1, 0, AMOUNT) };
    rig.offer(strange);
    assert_eq!(rig.sent, [], "a lagging replica may not know the scid yet");
    rig.keep_proposals = false;
    rig.commit_kept();
    assert_eq!(rig.sent, [(htlc(0), "resume")]);
}

#[test]
fn nothing_of_ours_is_answered_before_the_barrier() {
    let mut rig = Rig::up();
    rig.offer(request(1, 0, AMOUNT));
    rig.offer(request(2, 1, 3 * AMOUNT));
    assert_eq!(rig.sent, [(htlc(0), "settle"), (htlc(1), "fail")]);
    rig.close();
    rig.sent.clear();
    rig.keep_barriers = true;
    rig.keep_proposals = true;
    rig.open();
    rig.offer(request(1, 0, AMOUNT));
    rig.offer(request(2, 1, 3 * AMOUNT));
    rig.offer(request(201, 2, AMOUNT));
    rig.pass(1_000);
    assert_eq!(rig.sent, []);
    rig.pass_barriers();
    assert_eq!(rig.sent, [(htlc(0), "settle"), (htlc(1), "fail")], "the unknown one waits for the session");
    rig.commit_kept();
    assert_eq!(rig.sent.last(), Some(&(htlc(2), "reject")));
}

#[test]
fn a_lagging_replica_does_not_misjudge_the_replay_of_a_settled_htlc() {
    // What this replica has applied lags behind: the HTLC was offered and settled elsewhere.
    let mut ahead = Rig::up();
    ahead.offer(request(1, 0, AMOUNT));
    let mut rig = Rig::with(LocalConsensus::new(ME, TIME), true);
    rig.keep_barriers = true;
    rig.keep_proposals = true;
    rig.open();
    rig.offer(request(1, 0, AMOUNT));
    rig.pass(500);
    assert_eq!((rig.sent.len(), rig.offers_proposed()), (0, 0));
    // The barrier has passed means: the state is caught up.
    let stream = rig.barriers[0];
    let now = rig.now;
    ahead.log.state().read(|state| rig.core.barrier(stream, true, state, now));
    rig.run();
    assert_eq!(rig.sent, [(htlc(0), "settle")]);
}

#[test]
fn a_snapshot_that_brings_the_verdict_of_a_held_htlc_gets_it_settled() {
    let mut rig = Rig::up();
    rig.no_auto_settle();
    rig.offer(request(1, 0, AMOUNT));
    assert_eq!((rig.verdict(0), rig.core.held()), (None, 1));
    // No effect of the entry reaches this replica: the state is replaced as a whole.
    rig.log.commit(
        Command::SettleInvoice { hash: hash(1), set_id: None, preimage: None, keep_intent: false },
        None,
    );
    let bytes = rig.log.state().read(|state| state.clone());
    let now = rig.now;
    rig.core.state_changed(&bytes, now);
    rig.run();
    assert_eq!(rig.sent, [(htlc(0), "settle")]);
}

#[test]
fn a_known_key_is_never_judged_again() {
    let mut rig = Rig::up();
    rig.no_auto_settle();
    rig.offer(request(1, 0, AMOUNT));
    rig.offer(request(2, 1, AMOUNT));
    rig.settle(2);
    assert_eq!(rig.sent, [(htlc(1), "settle")]);
    // Fees, keys or whatever have changed: every check would fail now.
    let mut changed = Rig::with(rig.log, true);
    changed.open();
    changed.offer(request(1, 0, AMOUNT));
    changed.offer(request(2, 1, AMOUNT));
    assert_eq!(changed.sent, [(htlc(1), "settle")], "settled again, the undecided one held");
    changed.settle(1);
    assert_eq!(changed.sent.last(), Some(&(htlc(0), "settle")), "it was offered again and is live");
}

#[test]
fn a_failed_htlc_gets_its_fail_again_on_replay() {
    let mut rig = Rig::up();
    rig.offer(request(1, 0, 3 * AMOUNT));
    assert_eq!(rig.sent, [(htlc(0), "fail")]);
    rig.close();
    rig.open();
    rig.offer(request(1, 0, 3 * AMOUNT));
    assert_eq!(rig.sent, [(htlc(0), "fail"), (htlc(0), "fail")]);
}

#[test]
fn a_stateless_reject_needs_session_and_quorum() {
    let mut rig = Rig::new();
    rig.keep_proposals = true;
    rig.open();
    rig.offer(request(201, 0, AMOUNT));
    rig.pass(100);
    assert_eq!(rig.sent, [], "no session: it might be known to others");
    rig.tell(|core, state, now| core.quorum(false, state, now));
    rig.commit_kept();
    rig.pass(100);
    assert_eq!(rig.sent, [], "no quorum means hold, not fail");
    rig.tell(|core, state, now| core.quorum(true, state, now));
    assert_eq!(rig.sent, [(htlc(0), "reject")]);
}

#[test]
fn without_a_quorum_unknown_htlcs_are_held_and_offered_later() {
    let mut rig = Rig::up();
    rig.tell(|core, state, now| core.quorum(false, state, now));
    rig.keep_proposals = true;
    rig.offer(request(1, 0, AMOUNT));
    rig.fail_kept(&unavailable());
    rig.pass(10_000);
    rig.fail_kept(&unavailable());
    assert_eq!(rig.sent, []);
    rig.keep_proposals = false;
    rig.tell(|core, state, now| core.quorum(true, state, now));
    rig.pass(100);
    assert_eq!(rig.sent, [(htlc(0), "settle")]);
}

#[test]
fn degraded_settles_what_is_decided_and_holds_the_rest() {
    let mut rig = Rig::up();
    rig.no_auto_settle();
    rig.offer(request(1, 0, AMOUNT));
    rig.offer(request(2, 1, AMOUNT));
    rig.offer(request(3, 2, 3 * AMOUNT));
    rig.settle(2);
    rig.close();
    rig.sent.clear();
    rig.tell(|core, state, now| core.quorum(false, state, now));
    rig.open_as(true);
    for replay in [request(1, 0, AMOUNT), request(2, 1, AMOUNT), request(3, 2, 3 * AMOUNT)] {
        rig.offer(replay);
    }
    rig.offer(request(201, 3, AMOUNT));
    rig.offer(request(4, 4, AMOUNT));
    rig.offer(foreign(5));
    rig.pass(10_000);
    assert_eq!(rig.sent, [(htlc(1), "settle"), (htlc(5), "resume")]);
    rig.tell(|core, state, now| core.quorum(true, state, now));
    rig.pass(1_000);
    let answers: BTreeSet<_> = rig.sent.iter().skip(2).copied().collect();
    assert_eq!(answers, BTreeSet::from([(htlc(2), "fail"), (htlc(3), "reject")]));
    assert_eq!(rig.core.held(), 2, "the undecided ones");
}

#[test]
fn the_replay_of_a_settled_htlc_needs_no_quorum_once_the_barrier_has_passed() {
    let mut rig = Rig::up();
    rig.offer(request(1, 0, AMOUNT));
    rig.tell(|core, state, now| core.quorum(false, state, now));
    rig.offer(request(1, 0, AMOUNT));
    assert_eq!(rig.sent, [(htlc(0), "settle"), (htlc(0), "settle")]);
}

#[test]
fn an_undecided_htlc_that_goes_on_chain_fails_its_set_in_silence() {
    let mut rig = Rig::up();
    rig.no_auto_settle();
    rig.offer(request(1, 0, AMOUNT / 2));
    rig.offer(request(1, 1, AMOUNT / 2));
    assert_eq!(rig.sent, []);
    rig.offer(on_chain(request(1, 0, AMOUNT / 2)));
    rig.pass(1_000);
    assert_eq!(rig.sent, [(htlc(1), "fail")], "off-chain parts fail, the one on chain gets no answer");
    assert!(matches!(rig.verdict(0), Some(Verdict::Fail(_))));
}

#[test]
fn a_decided_htlc_that_goes_on_chain_is_settled_there() {
    let mut rig = Rig::up();
    rig.offer(request(1, 0, AMOUNT));
    rig.offer(on_chain(request(1, 0, AMOUNT)));
    assert_eq!(rig.sent, [(htlc(0), "settle"), (htlc(0), "settle")]);
}

#[test]
fn htlcs_first_seen_on_chain_are_never_answered() {
    let mut rig = Rig::up();
    rig.offer(on_chain(request(1, 0, AMOUNT)));
    rig.offer(on_chain(request(201, 1, AMOUNT)));
    rig.pass(2_000);
    assert_eq!(rig.sent, []);
}

#[test]
fn an_htlc_that_lnd_failed_is_not_answered() {
    let mut rig = Rig::up();
    rig.no_auto_settle();
    rig.offer(request(1, 0, AMOUNT));
    rig.tell(|core, state, now| core.htlc_event(&super::finals::forward_fail(0), state, now));
    rig.settle(1);
    rig.pass(2_000);
    assert_eq!(rig.sent, [], "an answer would end the stream");
}

#[test]
fn what_was_checked_together_is_proposed_together() {
    let mut rig = Rig::up();
    let now = rig.now;
    let done = rig.log.state().read(|state| {
        for index in 0..5 {
            let offered = request(u8::try_from(index).unwrap() + 1, index, AMOUNT);
            rig.core.intercepted(Arc::new(offered), state, now);
        }
        let outputs = std::iter::from_fn(|| rig.core.next_output());
        let screen = |output| match output {
            Output::Screen { number, htlc, request, context, .. } => {
                (number, htlc, rig.screener.screen(&request, &context))
            }
            other => panic!("{other:?}"),
        };
        outputs.map(screen).collect::<Vec<_>>()
    });
    assert_eq!(done.len(), 5);
    rig.tell(|core, state, now| core.screened(done, state, now));
    assert_eq!(rig.offers_proposed(), 1);
    assert_eq!(rig.sent, (0..5).map(|index| (htlc(index), "settle")).collect::<Vec<_>>());
}
