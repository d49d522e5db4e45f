//! Channels that go to chain with HTLCs on them.

use super::*;
use ctl::force_close_request::Commitment;

const CSV: u32 = 4;

#[test]
fn an_htlc_on_chain_is_offered_again_with_its_expiry_as_auto_fail_height() {
    let mut bench = Bench::new();
    bench.connect();
    let key = bench.add(1);
    let first = bench.offers[0].clone();
    bench.take_offers();
    bench.close(Commitment::Local);
    let again = bench.offers[0].clone();
    assert_eq!(bench.take_offers(), [key], "though it was held already");
    assert_eq!(again.auto_fail_height, i32::try_from(EXPIRY).unwrap());
    assert_eq!(again, ForwardHtlcInterceptRequest { auto_fail_height: again.auto_fail_height, ..first });
    bench.mine_to(EXPIRY - 1);
    assert_eq!(bench.stage(key), ctl::Stage::OnChain, "not failed at expiry - 19");
    bench.connect_again();
    assert_eq!(bench.take_offers(), [key], "and still held");
}

#[test]
fn fail_and_resume_on_chain_kill_the_stream_and_the_entry_stays() {
    let mut bench = Bench::new();
    let stream = bench.connect();
    let key = bench.add(1);
    bench.close(Commitment::Local);
    bench.fail(stream, key);
    assert_eq!(bench.kill_text(), "cannot fail held htlc in the on-chain flow");
    bench.take_offers();
    let stream = bench.connect();
    assert_eq!(bench.take_offers(), [key]);
    bench.resume(stream, key);
    assert_eq!(bench.kill_text(), "cannot resume held htlc in the on-chain flow");
    bench.connect();
    assert_eq!(bench.take_offers(), [key]);
}

#[test]
fn a_settle_on_chain_is_final_only_after_the_last_stage_of_the_sweep() {
    let mut bench = Bench::new();
    let stream = bench.connect();
    let key = bench.add(1);
    bench.close(Commitment::Local);
    bench.settle(stream, key, 1);
    assert!(!bench.entry(key).preimage_revealed, "the claim is not in a block");
    bench.mine(1);
    assert!(matches!(bench.outcome(key), Some(Resolution::Settle(_))));
    assert_eq!(bench.truth(key), None);
    bench.mine(CSV - 1);
    assert_eq!(bench.truth(key), None);
    bench.mine(1);
    assert_eq!(bench.final_events(key), [(true, false)]);
    assert_eq!(bench.lookup(key), Ok((true, false)));
}

#[test]
fn on_the_peers_commitment_the_claim_is_final_with_its_block() {
    let mut bench = Bench::new();
    let stream = bench.connect();
    let key = bench.add(1);
    bench.close(Commitment::RemoteLatest);
    bench.settle(stream, key, 1);
    bench.mine(1);
    assert_eq!(bench.final_events(key), [(true, false)]);
}

#[test]
fn one_preimage_claims_every_output_of_its_hash() {
    let mut bench = Bench::new();
    let stream = bench.connect();
    let (one, two, other) = (bench.add(1), bench.add(1), bench.add(2));
    bench.close(Commitment::RemoteLatest);
    bench.settle(stream, one, 1);
    bench.mine(1);
    assert_eq!((bench.truth(one), bench.truth(two)), (Some((true, false)), Some((true, false))));
    assert_eq!(bench.stage(other), ctl::Stage::OnChain);
}

#[test]
fn a_known_preimage_claims_without_asking() {
    let mut bench = Bench::new();
    bench.open(OUT_CHAN, 0);
    let stream = bench.connect();
    let first = bench.add(1);
    let second = bench.add_with(ctl::AddHtlcRequest { chan_id: OUT_CHAN, ..Bench::request(1) });
    bench.close(Commitment::RemoteLatest);
    bench.settle(stream, first, 1);
    bench.take_offers();
    let request = ctl::ForceCloseRequest {
        chan_id: OUT_CHAN,
        commitment: Commitment::RemoteLatest.into(),
        wait_for_block: false,
    };
    bench.command(Command::ForceClose(request));
    assert!(bench.take_offers().is_empty());
    bench.mine(1);
    assert_eq!(bench.truth(second), Some((true, false)));
}

#[test]
fn dust_is_lost_when_the_commitment_confirms_though_its_settle_was_accepted() {
    let mut bench = Bench::new();
    bench.command(Command::StopSigning(ctl::StopSigningRequest { chan_id: CHAN, stop: true }));
    let stream = bench.connect();
    let dust = ctl::AddHtlcRequest { incoming_amount_msat: 353_999, ..Bench::request(1) };
    let key = bench.add_with(dust);
    bench.settle(stream, key, 1);
    assert!(bench.entry(key).preimage_revealed);
    bench.take_offers();
    bench.close(Commitment::Local);
    assert!(bench.take_offers().is_empty());
    assert_eq!(bench.final_events(key), [(false, false)]);
    assert!(matches!(bench.outcome(key), Some(Resolution::Settle(_))), "the payer was told otherwise");
    assert!(bench.entry(key).lost_as_dust);
}

#[test]
fn an_output_nobody_claims_goes_back_at_its_expiry() {
    let mut bench = Bench::new();
    let stream = bench.connect();
    let key = bench.add(1);
    bench.close(Commitment::Local);
    bench.mine_to(EXPIRY);
    assert_eq!(bench.final_events(key), [(false, false)]);
    assert_eq!(bench.failed_with(key), Some(Code::PermanentChannelFailure));
    assert!(!bench.entry(key).lost_as_dust, "it had an output, and could have been claimed");
    bench.settle(stream, key, 1);
    assert!(bench.kill_text().starts_with("forward does not exist"), "the entry is gone");
}

#[test]
fn an_off_chain_settle_does_not_arm_the_on_chain_defence() {
    let mut bench = Bench::new();
    bench.command(Command::StopSigning(ctl::StopSigningRequest { chan_id: CHAN, stop: true }));
    let stream = bench.connect();
    let key = bench.add(1);
    bench.settle(stream, key, 1);
    bench.mine_to(EXPIRY - 1);
    assert_eq!(bench.core.state().channels[0].status(), ctl::channel_entry::Status::Open, "LND just waits");
    bench.mine(1);
    assert_eq!(bench.final_events(key), [(false, false)], "the peer closed and took it back");
    assert!(bench.entry(key).preimage_revealed && !bench.entry(key).node_paid);
}

#[test]
fn closing_the_channel_in_time_and_settling_the_re_offer_saves_it() {
    let mut bench = Bench::new();
    bench.command(Command::StopSigning(ctl::StopSigningRequest { chan_id: CHAN, stop: true }));
    let stream = bench.connect();
    let key = bench.add(1);
    bench.settle(stream, key, 1);
    bench.mine_to(EXPIRY - 22);
    bench.take_offers();
    let channel_point = bench.core.db.channels[&CHAN].point_message();
    let close = lnrpc::CloseChannelRequest { channel_point: Some(channel_point), force: true };
    assert!(matches!(bench.give(Input::CloseChannel(close.clone())), Ok(Reply::Closing(CHAN, _))));
    assert!(bench.give(Input::CloseChannel(close)).is_err(), "closing already");
    assert_eq!(bench.core.pending_channels().waiting_close_channels.len(), 1);
    assert!(bench.take_offers().is_empty(), "not confirmed yet");
    bench.mine(1);
    assert_eq!(bench.core.pending_channels().pending_force_closing_channels.len(), 1);
    assert_eq!(bench.take_offers(), [key], "offered again although it was answered");
    bench.settle(stream, key, 1);
    bench.mine(1 + CSV);
    assert_eq!(bench.final_events(key), [(true, false)]);
    let closed = bench.core.closed_channels(lnrpc::ClosedChannelsRequest::default()).channels;
    assert_eq!(closed[0].close_type(), lnrpc::channel_close_summary::ClosureType::LocalForceClose);
}

#[test]
fn a_cooperative_close_needs_a_channel_without_htlcs() {
    let mut bench = Bench::new();
    let stream = bench.connect();
    let key = bench.add(1);
    let channel_point = Some(bench.core.db.channels[&CHAN].point_message());
    let close = lnrpc::CloseChannelRequest { channel_point, force: false };
    let refused = bench.give(Input::CloseChannel(close.clone())).unwrap_err();
    assert_eq!(refused.to_string(), "cannot co-op close channel with active htlcs");
    bench.settle(stream, key, 1);
    bench.give(Input::CloseChannel(close)).unwrap();
    assert!(bench.core.list_channels(&lnrpc::ListChannelsRequest::default()).channels.is_empty());
}

#[test]
fn the_peers_newest_commitment_without_the_htlc_leaves_no_record() {
    let mut bench = Bench::new();
    bench.limit(ctl::Stage::Signed);
    let stream = bench.connect();
    let key = bench.add(1);
    bench.settle(stream, key, 1);
    bench.close(Commitment::RemoteLatest);
    assert_eq!(bench.stage(key), ctl::Stage::Vanished);
    assert!(bench.final_events(key).is_empty() && bench.lookup(key).is_err());
    assert!(bench.entry(key).node_paid);
    assert!(bench.core.list_channels(&lnrpc::ListChannelsRequest::default()).channels.is_empty());
}

#[test]
fn the_peers_previous_commitment_still_has_a_signed_htlc() {
    let mut bench = Bench::new();
    bench.limit(ctl::Stage::Signed);
    let stream = bench.connect();
    let key = bench.add(1);
    bench.settle(stream, key, 1);
    bench.take_offers();
    bench.close(Commitment::RemotePrevious);
    assert_eq!(bench.take_offers(), [key]);
    bench.settle(stream, key, 1);
    bench.mine(1);
    assert_eq!(bench.final_events(key), [(true, false)]);
}

#[test]
fn outputs_on_chain_are_offered_after_a_restart_without_any_peer() {
    let mut bench = Bench::new();
    bench.connect();
    let key = bench.add(1);
    bench.close(Commitment::Local);
    bench.take_offers();
    bench.command(Command::Restart(ctl::RestartRequest { peers_stay_offline: true, ..Default::default() }));
    let stream = bench.connect();
    assert_eq!(bench.take_offers(), [key]);
    bench.settle(stream, key, 1);
    bench.mine(1 + CSV);
    assert_eq!(bench.truth(key), Some((true, false)));
}

#[test]
fn a_preimage_from_downstream_makes_the_node_close_in_time_by_itself() {
    let mut bench = Bench::new();
    bench.open(OUT_CHAN, 5_000_000);
    bench.command(Command::StopSigning(ctl::StopSigningRequest { chan_id: CHAN, stop: true }));
    let stream = bench.connect();
    let key = bench.add_with(ctl::AddHtlcRequest {
        outgoing_requested_chan_id: OUT_CHAN,
        downstream_preimage: vec![1; 32].into(),
        ..Bench::request(1)
    });
    bench.resume(stream, key);
    bench.mine_to(EXPIRY - 16 + 2 + CSV);
    assert_eq!(bench.truth(key), Some((true, false)));
}
