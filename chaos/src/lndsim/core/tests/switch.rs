//! The slot, offers, answers, and what happens behind the client's back.

use super::*;
use crate::lndsim::core::StreamErrorCode;

#[test]
fn a_second_client_is_refused_with_lnds_own_text_until_the_first_is_gone() {
    let mut bench = Bench::new();
    let first = bench.connect();
    let refused = bench.give(Input::StreamOpened(StreamId(77))).unwrap_err();
    assert_eq!(refused.to_string(), "interceptor already exists");
    bench.give(Input::StreamClosed(first)).unwrap();
    bench.connect();
    assert_eq!(bench.core.state().streams_refused, 1);
}

#[test]
fn nothing_is_sent_on_a_fresh_stream_until_an_htlc() {
    let mut bench = Bench::new();
    bench.connect();
    bench.mine(3);
    assert!(bench.take_offers().is_empty() && bench.closed.is_empty());
    let key = bench.add(1);
    let offer = bench.offers[0].clone();
    assert_eq!(bench.take_offers(), [key]);
    assert_eq!(offer.auto_fail_height, i32::try_from(EXPIRY - 19).unwrap());
    assert_eq!(offer.onion_blob.len(), 1366);
}

#[test]
fn the_slot_is_held_after_a_half_open_death_until_the_node_notices() {
    let mut bench = Bench::new();
    let stream = bench.connect();
    let cut = ctl::CutStreamsRequest { hold_slot_ms: 5_000, ..Default::default() };
    bench.command(Command::CutStreams(cut));
    bench.give(Input::StreamClosed(stream)).unwrap();
    let key = bench.add(1);
    assert!(bench.take_offers().is_empty(), "offered to nobody");
    bench.now_ms += 4_999;
    assert_eq!(bench.give(Input::StreamOpened(StreamId(50))), Err(Rejected::SlotTaken));
    bench.now_ms += 1;
    assert_eq!(bench.core.next_deadline_ms(), Some(bench.now_ms));
    bench.give(Input::Tick).unwrap();
    bench.connect();
    assert_eq!(bench.take_offers(), [key], "held meanwhile, and offered to the next client");
}

#[test]
fn held_htlcs_are_replayed_in_random_order_at_reconnect() {
    let mut bench = Bench::new();
    let stream = bench.connect();
    let keys: Vec<HtlcKey> = (0..40).map(|n| bench.add(n)).collect();
    bench.take_offers();
    bench.give(Input::StreamClosed(stream)).unwrap();
    bench.connect();
    let mut replayed = bench.take_offers();
    assert_ne!(replayed, keys, "40 HTLCs in order by chance: 1 in 40!");
    replayed.sort();
    assert_eq!(replayed, keys);
    assert!(bench.entry(keys[0]).offers == 2);
}

#[test]
fn new_htlcs_fail_while_nobody_is_connected_and_replayed_ones_are_held() {
    let mut bench = Bench::new();
    let stream = bench.connect();
    let held = bench.add(1);
    bench.give(Input::StreamClosed(stream)).unwrap();
    let new = bench.add(2);
    assert_eq!(bench.failed_with(new), Some(Code::TemporaryChannelFailure));
    bench.crash();
    assert_eq!(bench.core.state().held_htlcs, 1, "replayed and held without a client");
    bench.take_offers();
    bench.connect();
    assert_eq!(bench.take_offers(), [held]);
}

#[test]
fn without_require_interceptor_a_disconnect_resumes_what_is_held() {
    let mut bench = Bench::new();
    bench.flags(ctl::SetFlagsRequest { require_interceptor: Some(false), ..Default::default() });
    let stream = bench.connect();
    let key = bench.add(1);
    bench.give(Input::StreamClosed(stream)).unwrap();
    assert_eq!(bench.failed_with(key), Some(Code::UnknownNextPeer), "no such channel");
    let alone = bench.add(2);
    assert_eq!(bench.failed_with(alone), Some(Code::UnknownNextPeer));
}

#[test]
fn an_unknown_or_repeated_key_kills_the_stream() {
    let mut bench = Bench::new();
    let stream = bench.connect();
    let (key, other) = (bench.add(1), bench.add(2));
    bench.settle(stream, key, 1);
    assert!(bench.closed.is_empty());
    bench.settle(stream, key, 1);
    assert_eq!(bench.kill_text(), "forward does not exist: (Chan ID=500:1:0, HTLC ID=0)");
    bench.settle(stream, other, 2);
    assert_eq!(bench.stage(other), ctl::Stage::Locked, "what was sent after the bad answer is lost");
    bench.take_offers();
    let stream = bench.connect();
    assert_eq!(bench.take_offers(), [other]);
    bench.settle(stream, HtlcKey { chan_id: 3 << 40, htlc_id: 9 }, 2);
    assert_eq!(bench.kill_text(), "forward does not exist: (Chan ID=3:0:0, HTLC ID=9)");
    assert_eq!(bench.core.state().streams_killed, 2);
}

#[test]
fn every_bad_answer_has_lnds_code_and_text_and_leaves_the_htlc_held() {
    use StreamErrorCode::{InvalidArgument, Unknown};
    type Change = fn(&mut ForwardHtlcInterceptResponse);
    let fail = |response: &mut ForwardHtlcInterceptResponse| response.action = 1;
    let cases: [(Change, StreamErrorCode, &str); 9] = [
        (
            |r| r.incoming_circuit_key = None,
            InvalidArgument,
            "CircuitKey missing from ForwardHtlcInterceptResponse",
        ),
        (|_| {}, Unknown, "missing preimage"),
        (|r| r.preimage = vec![1; 31].into(), Unknown, "invalid preimage length of 31, want 32"),
        (|r| r.preimage = vec![9; 32].into(), Unknown, "preimage does not match hash"),
        (|r| r.action = 17, InvalidArgument, "unrecognized resolve action 17"),
        (
            |r| (r.action, r.failure_message) = (1, vec![0; 291].into()),
            InvalidArgument,
            "failure message length invalid",
        ),
        (
            |r| (r.action, r.failure_message, r.failure_code) = (1, vec![0; 292].into(), 15),
            InvalidArgument,
            "failure message and failure code are mutually exclusive",
        ),
        (|r| (r.action, r.failure_code) = (1, 1), InvalidArgument, "unsupported failure code: 1"),
        (
            |r| {
                r.action = 3;
                r.out_wire_custom_records.insert(65_535, vec![1].into());
            },
            InvalidArgument,
            "failed to validate custom records",
        ),
    ];
    let mut bench = Bench::new();
    let mut stream = bench.connect();
    let key = bench.add(1);
    for (change, code, text) in cases {
        bench.answer(stream, key, change);
        let (killed, error) = bench.closed.pop().expect(text);
        assert_eq!((killed, error.code, error.text.as_str()), (stream, code, text));
        bench.take_offers();
        stream = bench.connect();
        assert_eq!(bench.take_offers(), [key], "still held after {text}");
    }
    bench.answer(stream, key, fail);
    assert_eq!(bench.failed_with(key), Some(Code::TemporaryChannelFailure), "code 0");
}

#[test]
fn a_failure_message_of_292_bytes_reaches_the_payer_in_the_virtual_nodes_name() {
    let mut bench = Bench::new();
    let stream = bench.connect();
    let key = bench.add(1);
    bench.answer(stream, key, |r| (r.action, r.failure_message) = (1, vec![7; 292].into()));
    assert_eq!(bench.outcome(key), Some(Resolution::Fail(Failure::VirtualNode(vec![7; 292]))));
    assert_eq!(bench.truth(key), Some((false, true)));
    assert!(bench.events.iter().any(|(at, event)| *at == key && matches!(event, Event::ForwardFailEvent(_))));
}

#[test]
fn failure_codes_are_lnds_and_spoken_by_the_front_node() {
    let codes = [
        (15, Code::TemporaryChannelFailure, 0x1007),
        (8, Code::InvalidOnionVersion, 0xc004),
        (9, Code::InvalidOnionHmac, 0xc005),
        (10, Code::InvalidOnionKey, 0xc006),
    ];
    for (number, code, bolt4) in codes {
        let mut bench = Bench::new();
        let stream = bench.connect();
        let key = bench.add(1);
        bench.answer(stream, key, |r| (r.action, r.failure_code) = (1, number));
        assert_eq!(bench.outcome(key), Some(Resolution::Fail(Failure::FrontNode(code))));
        let Some(ctl::outcome::Result::Failed(failure)) = bench.entry(key).outcome.unwrap().result else {
            panic!("not failed")
        };
        assert_eq!(failure.bolt4_code, bolt4);
        assert_eq!(failure.speaker(), ctl::htlc_failure::Speaker::FrontNode);
    }
}

#[test]
fn a_held_htlc_is_failed_silently_at_expiry_minus_19_and_a_later_answer_kills_the_stream() {
    let mut bench = Bench::new();
    let stream = bench.connect();
    let key = bench.add(1);
    bench.mine_to(EXPIRY - 20);
    assert_eq!(bench.stage(key), ctl::Stage::Locked);
    bench.mine(1);
    assert_eq!(bench.failed_with(key), Some(Code::TemporaryChannelFailure));
    assert_eq!((bench.take_offers().len(), bench.closed.len()), (1, 0), "the client is not told");
    bench.settle(stream, key, 1);
    assert!(bench.kill_text().starts_with("forward does not exist"));
    assert!(!bench.entry(key).preimage_revealed);
}

#[test]
fn an_htlc_with_less_than_22_blocks_left_is_never_offered() {
    let mut bench = Bench::new();
    bench.connect();
    bench.mine_to(EXPIRY - 22);
    let just = bench.add(1);
    assert_eq!(bench.take_offers(), [just]);
    bench.mine(1);
    let late = bench.add(2);
    assert_eq!(bench.failed_with(late), Some(Code::ExpiryTooSoon));
    let far = bench.add_with(ctl::AddHtlcRequest { incoming_expiry: u32::MAX, ..Bench::request(3) });
    assert_eq!(bench.failed_with(far), Some(Code::ExpiryTooFar));
    assert!(bench.take_offers().is_empty());
}

#[test]
fn a_peer_flap_in_the_last_22_blocks_fails_a_held_htlc_behind_the_clients_back() {
    let mut bench = Bench::new();
    let stream = bench.connect();
    let key = bench.add(1);
    bench.mine_to(EXPIRY - 21);
    assert_eq!(bench.stage(key), ctl::Stage::Locked);
    bench.flap();
    assert_eq!(bench.failed_with(key), Some(Code::ExpiryTooSoon));
    assert_eq!(bench.final_events(key), [(false, true)]);
    assert_eq!(bench.core.state().held_htlcs, 1, "the entry stays");
    bench.settle(stream, key, 1);
    assert!(bench.closed.is_empty(), "a spurious response is taken without a word");
    assert!(!bench.entry(key).preimage_revealed && bench.settle_events(key) == 0);
    assert_eq!(bench.truth(key), Some((false, true)));
}

#[test]
fn a_settle_that_meets_the_nodes_own_failure_in_the_mailbox_kills_the_stream() {
    let mut bench = Bench::new();
    let stream = bench.connect();
    let key = bench.add(1);
    bench.limit(ctl::Stage::Mailbox);
    bench.mine_to(EXPIRY - 21);
    bench.flap();
    bench.settle(stream, key, 1);
    assert_eq!(bench.kill_text(), "mailbox already has packet");
    bench.limit(ctl::Stage::Final);
    assert_eq!(bench.failed_with(key), Some(Code::ExpiryTooSoon));
}

#[test]
fn an_htlc_failed_behind_the_clients_back_takes_a_late_answer_silently() {
    let mut bench = Bench::new();
    let stream = bench.connect();
    let key = bench.add(1);
    bench.command(Command::FailHtlc(ctl::FailHtlcRequest { chan_id: key.chan_id, htlc_id: key.htlc_id }));
    assert_eq!(bench.truth(key), Some((false, true)));
    bench.settle(stream, key, 1);
    assert!(bench.closed.is_empty());
    assert_eq!(bench.failed_with(key), Some(Code::TemporaryChannelFailure));
}

#[test]
fn a_link_flap_does_not_offer_a_held_htlc_again() {
    let mut bench = Bench::new();
    let stream = bench.connect();
    let (held, answered) = (bench.add(1), bench.add(2));
    bench.limit(ctl::Stage::Mailbox);
    bench.settle(stream, answered, 2);
    bench.take_offers();
    bench.flap();
    assert!(bench.take_offers().is_empty(), "held, and answered and still in the mailbox");
    assert_eq!((bench.stage(held), bench.stage(answered)), (ctl::Stage::Locked, ctl::Stage::Mailbox));
}

#[test]
fn resume_of_a_virtual_channel_is_unknown_next_peer() {
    let mut bench = Bench::new();
    let stream = bench.connect();
    let key = bench.add(1);
    bench.resume(stream, key);
    assert_eq!(bench.failed_with(key), Some(Code::UnknownNextPeer));
}

#[test]
fn a_resumed_htlc_is_forwarded_and_settles_from_downstream() {
    let mut bench = Bench::new();
    bench.open(OUT_CHAN, 5_000_000);
    let stream = bench.connect();
    let key = bench.add_with(ctl::AddHtlcRequest {
        outgoing_requested_chan_id: OUT_CHAN,
        downstream_preimage: vec![1; 32].into(),
        ..Bench::request(1)
    });
    bench.resume(stream, key);
    assert_eq!(bench.truth(key), Some((true, true)));
    assert_eq!(bench.entry(key).forwarded_chan_id, OUT_CHAN);
    assert!(bench.events.iter().any(|(_, event)| matches!(event, Event::ForwardEvent(_))));
}

#[test]
fn a_resumed_htlc_comes_again_after_a_link_flap_and_may_be_resumed_again() {
    let mut bench = Bench::new();
    bench.open(OUT_CHAN, 5_000_000);
    let hold = ctl::set_downstream_request::Behaviour::Hold.into();
    bench.command(Command::SetDownstream(ctl::SetDownstreamRequest { chan_id: OUT_CHAN, behaviour: hold }));
    let stream = bench.connect();
    let key = bench.add_with(ctl::AddHtlcRequest {
        outgoing_requested_chan_id: OUT_CHAN,
        downstream_preimage: vec![1; 32].into(),
        ..Bench::request(1)
    });
    bench.resume(stream, key);
    assert_eq!(bench.pending()[0].forwarding_channel, OUT_CHAN);
    bench.take_offers();
    bench.flap();
    assert_eq!(bench.take_offers(), [key], "it left the held set");
    bench.resume(stream, key);
    let forwards = bench.events.iter().filter(|(_, event)| matches!(event, Event::ForwardEvent(_)));
    assert_eq!(forwards.count(), 1, "forwarded once");
    let settle = ctl::SetDownstreamRequest { chan_id: OUT_CHAN, behaviour: 1 };
    bench.command(Command::SetDownstream(settle));
    assert_eq!(bench.truth(key), Some((true, true)));
    assert!(bench.core.state().complaints.is_empty());
}

#[test]
fn a_client_that_takes_back_an_answer_is_complained_about() {
    let mut bench = Bench::new();
    let stream = bench.connect();
    bench.limit(ctl::Stage::Mailbox);
    let (settled, failed) = (bench.add(1), bench.add(2));
    bench.settle(stream, settled, 1);
    bench.fail(stream, failed);
    bench.crash();
    let stream = bench.connect();
    bench.settle(stream, failed, 2);
    assert!(bench.core.state().complaints.is_empty(), "the failure was lost, nobody saw it");
    bench.fail(stream, settled);
    assert_eq!(bench.core.state().complaints, [format!("{settled}: answered SETTLE, then FAIL")]);
}

#[test]
fn settling_on_chain_what_was_failed_off_chain_is_complained_about() {
    let mut bench = Bench::new();
    bench.limit(ctl::Stage::Signed);
    let stream = bench.connect();
    let key = bench.add(1);
    bench.fail(stream, key);
    bench.close(ctl::force_close_request::Commitment::Local);
    bench.settle(stream, key, 1);
    assert_eq!(bench.core.state().complaints.len(), 1);
}

#[test]
fn a_client_that_does_not_read_stops_offers_auto_fail_and_answers() {
    let mut bench = Bench::new();
    let stream = bench.connect();
    let first = bench.add(1);
    bench.reading = false;
    let (second, third) = (bench.add(2), bench.add(3));
    assert_eq!(bench.take_offers(), [first, second], "the second is not read");
    assert!(bench.core.state().blocked_on_send);
    bench.settle(stream, first, 1);
    bench.mine_to(EXPIRY - 19);
    assert_eq!(bench.stage(first), ctl::Stage::Locked, "neither settled nor failed");
    bench.reading = true;
    bench.give(Input::StreamSent(stream)).unwrap();
    assert_eq!(bench.truth(first), Some((true, true)), "the answer came before the block");
    assert_eq!(bench.failed_with(second), Some(Code::TemporaryChannelFailure));
    assert_eq!(bench.failed_with(third), Some(Code::TemporaryChannelFailure));
}

#[test]
fn a_blocked_event_loop_goes_on_when_the_client_dies() {
    let mut bench = Bench::new();
    let stream = bench.connect();
    bench.reading = false;
    let (first, second) = (bench.add(1), bench.add(2));
    bench.give(Input::StreamClosed(stream)).unwrap();
    bench.reading = true;
    bench.take_offers();
    bench.connect();
    let mut offered = bench.take_offers();
    offered.sort();
    assert_eq!(offered, [first, second]);
}

#[test]
fn a_forward_by_node_id_is_offered_with_the_sentinel() {
    let mut bench = Bench::new();
    bench.connect();
    let request = ctl::AddHtlcRequest { outgoing_requested_node_id: vec![2; 33].into(), ..Bench::request(1) };
    bench.add_with(request);
    assert_eq!(bench.offers[0].outgoing_requested_chan_id, u64::MAX);
    assert_eq!(bench.offers[0].outgoing_requested_node_id.len(), 33);
}
