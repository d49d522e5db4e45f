//! From the mailbox to finality, with everything that can go wrong in between.

use super::*;
use crate::lndsim::core::NoResolution;

#[test]
fn a_settle_in_the_mailbox_is_lost_at_a_crash_and_the_htlc_offered_again() {
    let mut bench = Bench::new();
    bench.limit(ctl::Stage::Mailbox);
    let stream = bench.connect();
    let key = bench.add(1);
    bench.settle(stream, key, 1);
    assert_eq!(bench.stage(key), ctl::Stage::Mailbox);
    assert!(!bench.entry(key).preimage_revealed);
    bench.take_offers();
    bench.crash();
    bench.limit(ctl::Stage::Final);
    let stream = bench.connect();
    assert_eq!(bench.take_offers(), [key]);
    assert_eq!(bench.truth(key), None);
    bench.settle(stream, key, 1);
    assert_eq!(bench.truth(key), Some((true, true)));
}

#[test]
fn a_settle_sent_but_not_signed_is_offered_again_though_the_payer_has_the_preimage() {
    let mut bench = Bench::new();
    bench.limit(ctl::Stage::Sent);
    let stream = bench.connect();
    let key = bench.add(1);
    bench.settle(stream, key, 1);
    assert!(bench.entry(key).preimage_revealed);
    assert!(matches!(bench.outcome(key), Some(Resolution::Settle(_))));
    bench.take_offers();
    bench.crash();
    bench.connect();
    assert_eq!(bench.take_offers(), [key]);
    assert_eq!(bench.stage(key), ctl::Stage::Locked);
}

#[test]
fn a_signed_settle_is_not_offered_again_and_finishes_after_a_crash() {
    let mut bench = Bench::new();
    bench.limit(ctl::Stage::Signed);
    let stream = bench.connect();
    let key = bench.add(1);
    bench.settle(stream, key, 1);
    bench.take_offers();
    bench.crash();
    bench.connect();
    assert!(bench.take_offers().is_empty());
    assert_eq!(bench.stage(key), ctl::Stage::Signed);
    bench.limit(ctl::Stage::Final);
    assert_eq!(bench.truth(key), Some((true, true)));
}

#[test]
fn after_a_restart_a_channel_is_replayed_only_when_its_peer_reconnects() {
    let mut bench = Bench::new();
    bench.open(OUT_CHAN, 0);
    bench.connect();
    let here = bench.add(1);
    let away = bench.add_with(ctl::AddHtlcRequest { chan_id: OUT_CHAN, ..Bench::request(2) });
    bench.take_offers();
    bench.command(Command::PeerDisconnect(ctl::ChannelRef { chan_id: OUT_CHAN }));
    bench.crash();
    bench.connect();
    assert_eq!(bench.take_offers(), [here]);
    bench.mine_to(EXPIRY - 19);
    assert!(bench.failed_with(here).is_some());
    assert_eq!(bench.stage(away), ctl::Stage::Locked, "neither offered nor failed while its peer is away");
    let channels = bench.core.list_channels(&lnrpc::ListChannelsRequest::default()).channels;
    let channel = channels.iter().find(|channel| channel.chan_id == OUT_CHAN).unwrap();
    assert!(!channel.active && channel.pending_htlcs.len() == 1);
}

#[test]
fn replays_of_a_channel_come_in_add_order_to_a_connected_client() {
    let mut bench = Bench::new();
    let phases = vec![ctl::restart_request::Phase { power: Power::RpcActive.into(), duration_ms: 100 }];
    bench.connect();
    let keys: Vec<HtlcKey> = (0..20).map(|n| bench.add(n)).collect();
    bench.take_offers();
    bench.command(Command::Restart(ctl::RestartRequest { phases, ..Default::default() }));
    bench.connect();
    assert!(bench.take_offers().is_empty(), "not registered before the event loop runs");
    bench.now_ms += 100;
    bench.give(Input::Tick).unwrap();
    assert_eq!(bench.take_offers(), keys);
}

#[test]
fn a_peer_that_takes_the_preimage_and_stops_signing_gives_a_settle_event_and_no_final_one() {
    let mut bench = Bench::new();
    bench.command(Command::StopSigning(ctl::StopSigningRequest { chan_id: CHAN, stop: true }));
    let stream = bench.connect();
    let key = bench.add(1);
    bench.settle(stream, key, 1);
    assert_eq!(bench.settle_events(key), 1);
    assert!(bench.final_events(key).is_empty() && bench.entry(key).preimage_revealed);
    assert_eq!(bench.lookup(key), Err(NoResolution::Unknown));
    let pending = bench.pending();
    assert!(pending.len() == 1 && pending[0].locked_in);
    bench.command(Command::StopSigning(ctl::StopSigningRequest { chan_id: CHAN, stop: false }));
    assert_eq!(bench.final_events(key), [(true, true)]);
    assert!(bench.pending().is_empty());
}

#[test]
fn between_revocation_and_finality_the_htlc_is_pending_and_not_locked_in() {
    let mut bench = Bench::new();
    bench.limit(ctl::Stage::Revoked);
    let stream = bench.connect();
    let key = bench.add(1);
    bench.settle(stream, key, 1);
    let pending = bench.pending();
    assert!(pending.len() == 1 && !pending[0].locked_in && pending[0].htlc_index == key.htlc_id);
    bench.limit(ctl::Stage::Final);
    assert_eq!(bench.truth(key), Some((true, true)));
}

#[test]
fn an_answer_waits_at_the_limit_for_its_time() {
    let mut bench = Bench::new();
    let limit = ctl::Stage::Mailbox.into();
    let request = ctl::SetStageLimitRequest { chan_id: CHAN, limit, release_after_ms: 300 };
    bench.command(Command::SetStageLimit(request));
    let stream = bench.connect();
    let key = bench.add(1);
    bench.settle(stream, key, 1);
    bench.now_ms += 299;
    bench.give(Input::Tick).unwrap();
    assert_eq!(bench.stage(key), ctl::Stage::Mailbox);
    bench.now_ms += 1;
    bench.give(Input::Tick).unwrap();
    assert_eq!(bench.truth(key), Some((true, true)));
}

#[test]
fn an_answer_for_an_absent_peer_waits_until_it_is_back() {
    let mut bench = Bench::new();
    let stream = bench.connect();
    let key = bench.add(1);
    bench.command(Command::PeerDisconnect(ctl::ChannelRef { chan_id: CHAN }));
    bench.settle(stream, key, 1);
    assert_eq!(bench.stage(key), ctl::Stage::Mailbox);
    bench.command(Command::PeerReconnect(ctl::ChannelRef { chan_id: CHAN }));
    assert_eq!(bench.truth(key), Some((true, true)));
    assert_eq!(bench.take_offers(), [key], "and was not offered again");
}

#[test]
fn a_dropped_final_event_is_in_the_database_all_the_same() {
    let mut bench = Bench::new();
    bench.command(Command::DropFinalEvents(ctl::DropFinalEventsRequest { drop: true }));
    let stream = bench.connect();
    let key = bench.add(1);
    bench.settle(stream, key, 1);
    assert!(bench.final_events(key).is_empty());
    assert_eq!(bench.lookup(key), Ok((true, true)));
}

#[test]
fn a_resolution_is_found_only_if_the_flag_was_on_when_it_happened_and_is_now() {
    let flag = |on| ctl::SetFlagsRequest { store_final_htlc_resolutions: Some(on), ..Default::default() };
    let mut bench = Bench::new();
    let stream = bench.connect();
    let recorded = bench.add(1);
    bench.settle(stream, recorded, 1);
    bench.flags(flag(false));
    let forgotten = bench.add(2);
    bench.settle(stream, forgotten, 2);
    assert_eq!(bench.lookup(recorded), Err(NoResolution::NotStored));
    bench.flags(flag(true));
    assert_eq!(bench.lookup(recorded), Ok((true, true)));
    assert_eq!(bench.lookup(forgotten), Err(NoResolution::Unknown));
    assert_eq!(bench.final_events(forgotten), [(true, true)], "the event does not need the flag");
}

#[test]
fn a_channel_carries_only_what_it_has_room_for() {
    let mut bench = Bench::new();
    bench.connect();
    let exhausted = |bench: &mut Bench, request| {
        bench.give(Input::Command(Box::new(Command::AddHtlc(request)))).unwrap_err()
    };
    let huge = ctl::AddHtlcRequest { incoming_amount_msat: 9_900_000_001, ..Bench::request(1) };
    assert!(matches!(exhausted(&mut bench, huge), Rejected::Exhausted(_)), "above the peer's reserve");
    for _ in 0..483 {
        bench.add(1);
    }
    assert!(matches!(exhausted(&mut bench, Bench::request(1)), Rejected::Exhausted(_)), "483 HTLCs");
    bench.command(Command::PeerDisconnect(ctl::ChannelRef { chan_id: CHAN }));
    assert!(matches!(exhausted(&mut bench, Bench::request(1)), Rejected::Precondition(_)));
}

#[test]
fn an_unsigned_settle_is_sent_again_after_a_link_flap_without_a_new_offer() {
    let mut bench = Bench::new();
    bench.limit(ctl::Stage::Sent);
    let stream = bench.connect();
    let key = bench.add(1);
    bench.settle(stream, key, 1);
    bench.take_offers();
    bench.flap();
    assert_eq!((bench.settle_events(key), bench.take_offers().len()), (2, 0));
    bench.limit(ctl::Stage::Final);
    assert_eq!(bench.final_events(key), [(true, true)]);
}

#[test]
fn a_downstream_settle_lost_in_the_mailbox_comes_again_after_a_crash() {
    let mut bench = Bench::new();
    bench.open(OUT_CHAN, 5_000_000);
    bench.limit(ctl::Stage::Mailbox);
    let stream = bench.connect();
    let key = bench.add_with(ctl::AddHtlcRequest {
        outgoing_requested_chan_id: OUT_CHAN,
        downstream_preimage: vec![1; 32].into(),
        ..Bench::request(1)
    });
    bench.resume(stream, key);
    bench.take_offers();
    bench.crash();
    bench.connect();
    assert_eq!(bench.stage(key), ctl::Stage::Mailbox);
    assert!(bench.take_offers().is_empty(), "answered already");
}
