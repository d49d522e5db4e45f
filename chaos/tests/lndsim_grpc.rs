//! The simulated LND over real gRPC: what only the transport can show.

mod lndsim_support;

use std::time::Duration;

use lndsim_support::{
    Authed, SOON, WithMacaroon, channel_to, connect, control, htlc, intercept, macaroon, preimage,
    try_channel_to, wait,
};
use mux_chaos::lndsim::{Config, Server, core::Command};
use mux_proto::{
    chainrpc::{BlockEpoch, chain_notifier_client::ChainNotifierClient},
    lndsim::v1 as ctl,
    lnrpc::{self, lightning_client::LightningClient},
    routerrpc::{self, htlc_event::Event, router_client::RouterClient},
};
use tonic::Code;

#[tokio::test]
async fn an_intercepted_htlc_settles_and_the_payer_and_every_view_learn_it() {
    let node = Server::start(Config::new("alice")).await.unwrap();
    let mut control = control(&node).await;
    let channel = connect(&node).await;
    let mut lightning = LightningClient::new(channel.clone());
    let info = lightning.get_info(lnrpc::GetInfoRequest {}).await.unwrap().into_inner();
    assert_eq!(info.identity_pubkey, node.identity_pubkey());
    assert!(info.require_htlc_interceptor && info.store_final_htlc_resolutions && info.synced_to_chain);
    assert_eq!(info.chains[0].network, "regtest");

    let mut router = RouterClient::new(channel.clone());
    let events = router.subscribe_htlc_events(routerrpc::SubscribeHtlcEventsRequest {}).await;
    let mut events = events.unwrap().into_inner();
    assert!(matches!(events.message().await.unwrap().unwrap().event, Some(Event::SubscribedEvent(_))));
    let mut blocks = ChainNotifierClient::new(channel.clone());
    let blocks = blocks.register_block_epoch_ntfn(BlockEpoch::default()).await;
    let mut blocks = blocks.unwrap().into_inner();
    assert_eq!(blocks.message().await.unwrap().unwrap().height, info.block_height);
    control.mine_blocks(ctl::MineBlocksRequest { blocks: 2 }).await.unwrap();
    assert_eq!(blocks.message().await.unwrap().unwrap().height, info.block_height + 1);
    assert_eq!(blocks.message().await.unwrap().unwrap().height, info.block_height + 2);

    let mut stream = intercept(&channel);
    wait(&node, |state| state.interceptor_connected).await;
    let added = control.add_htlc(htlc(1, info.block_height)).await.unwrap().into_inner();
    let offer = stream.next().await.unwrap();
    assert_eq!(offer.incoming_circuit_key.unwrap().htlc_id, added.htlc_id);
    assert_eq!(offer.auto_fail_height, i32::try_from(offer.incoming_expiry - 19).unwrap());
    let channels = lightning.list_channels(lnrpc::ListChannelsRequest::default()).await.unwrap().into_inner();
    assert_eq!(channels.channels[0].pending_htlcs[0].htlc_index, added.htlc_id);
    let lookup = lnrpc::LookupHtlcResolutionRequest { chan_id: added.chan_id, htlc_index: added.htlc_id };
    let missing = lightning.lookup_htlc_resolution(lookup).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);

    stream.settle(&offer, preimage(1)).await;
    let outcomes = control.subscribe_outcomes(ctl::SubscribeOutcomesRequest { from_seq: 0 }).await;
    let outcome = outcomes.unwrap().into_inner().message().await.unwrap().unwrap();
    assert_eq!(outcome.seq, 1);
    assert_eq!(outcome.result, Some(ctl::outcome::Result::SettledPreimage(preimage(1).to_vec().into())));
    let settle = events.message().await.unwrap().unwrap();
    assert!(matches!(settle.event, Some(Event::SettleEvent(_))));
    let fin = events.message().await.unwrap().unwrap();
    assert_eq!(fin.incoming_htlc_id, added.htlc_id);
    let truth = routerrpc::FinalHtlcEvent { settled: true, offchain: true };
    assert_eq!(fin.event, Some(Event::FinalHtlcEvent(truth)));
    let record = lightning.lookup_htlc_resolution(lookup).await.unwrap().into_inner();
    assert_eq!(record, lnrpc::LookupHtlcResolutionResponse { settled: true, offchain: true });
    let channels = lightning.list_channels(lnrpc::ListChannelsRequest::default()).await.unwrap().into_inner();
    assert!(channels.channels[0].pending_htlcs.is_empty());
    node.stop().await;
}

#[tokio::test]
async fn nothing_is_sent_on_a_fresh_stream_not_even_headers_until_the_first_htlc() {
    let node = Server::start(Config::new("alice")).await.unwrap();
    let channel = connect(&node).await;
    let mut stream = intercept(&channel);
    wait(&node, |state| state.interceptor_connected).await;
    // Calls on the same connection come back; the stream's headers would have come before them.
    let mut lightning = LightningClient::new(channel.clone());
    for _ in 0..3 {
        lightning.get_info(lnrpc::GetInfoRequest {}).await.unwrap();
    }
    assert!(!stream.opening.is_finished());
    control(&node).await.add_htlc(htlc(1, 800)).await.unwrap();
    stream.next().await.unwrap();
    assert!(stream.opening.is_finished());
}

#[tokio::test]
async fn a_second_client_is_refused_at_once_with_lnds_own_text() {
    let node = Server::start(Config::new("alice")).await.unwrap();
    let (first, second) = (connect(&node).await, connect(&node).await);
    let mut holder = intercept(&first);
    wait(&node, |state| state.interceptor_connected).await;
    let refused = intercept(&second).next().await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::Unknown, "interceptor already exists"));
    control(&node).await.add_htlc(htlc(1, 800)).await.unwrap();
    holder.next().await.expect("the first is not disturbed");
}

#[tokio::test]
async fn a_client_that_goes_away_before_any_message_frees_the_slot() {
    let node = Server::start(Config::new("alice")).await.unwrap();
    let channel = connect(&node).await;
    let stream = intercept(&channel);
    wait(&node, |state| state.interceptor_connected).await;
    stream.opening.abort();
    drop(stream);
    wait(&node, |state| !state.interceptor_connected).await;
    let _again = intercept(&channel);
    wait(&node, |state| state.interceptor_connected).await;
}

#[tokio::test]
async fn half_closing_ends_the_stream_with_eof() {
    let node = Server::start(Config::new("alice")).await.unwrap();
    let mut stream = intercept(&connect(&node).await);
    wait(&node, |state| state.interceptor_connected).await;
    stream.answers = tokio::sync::mpsc::channel(1).0;
    let ended = stream.next().await.unwrap_err();
    assert_eq!((ended.code(), ended.message()), (Code::Unknown, "EOF"));
    wait(&node, |state| !state.interceptor_connected).await;
}

#[tokio::test]
async fn an_unknown_key_kills_the_stream_for_every_htlc_and_a_reconnect_brings_them_back() {
    let node = Server::start(Config::new("alice")).await.unwrap();
    let (channel, mut control) = (connect(&node).await, control(&node).await);
    let mut stream = intercept(&channel);
    wait(&node, |state| state.interceptor_connected).await;
    for n in 1..=2 {
        control.add_htlc(htlc(n, 800)).await.unwrap();
    }
    let (first, _second) = (stream.next().await.unwrap(), stream.next().await.unwrap());
    stream.settle(&first, preimage(1)).await;
    wait(&node, |state| state.last_outcome_seq == 1).await;
    stream.settle(&first, preimage(1)).await;
    let killed = stream.next().await.unwrap_err();
    assert_eq!(killed.code(), Code::Unknown);
    assert!(killed.message().starts_with("forward does not exist: (Chan ID="), "{killed}");
    assert!(killed.message().ends_with(", HTLC ID=0)"), "{killed}");
    let mut stream = intercept(&channel);
    assert_eq!(stream.next().await.unwrap().incoming_circuit_key.unwrap().htlc_id, 1);
}

#[tokio::test]
async fn macaroon_errors_are_plain_errors_with_lnds_text() {
    let node = Server::start(Config::new("alice")).await.unwrap();
    let channel = channel_to(node.grpc_addr(), &node.tls_cert_pem()).await;
    let with = |macaroon: Option<String>| Authed::new(channel.clone(), WithMacaroon(macaroon));
    let limited = hex::encode(std::fs::read(node.dir().join("multiplexer.macaroon")).unwrap());
    let cases = [
        (None, "expected 1 macaroon, got 0"),
        (Some("zz".to_owned()), "encoding/hex: invalid byte in macaroon"),
        (
            Some(macaroon(&node).replace('0', "1")),
            "verification failed: signature mismatch after caveat verification",
        ),
    ];
    for (macaroon, text) in cases {
        let mut lightning = LightningClient::new(with(macaroon.clone()));
        let refused = lightning.get_info(lnrpc::GetInfoRequest {}).await.unwrap_err();
        assert_eq!((refused.code(), refused.message()), (Code::Unknown, text));
        let refused = intercept(&with(macaroon)).next().await.unwrap_err();
        assert_eq!((refused.code(), refused.message()), (Code::Unknown, text));
    }
    let mut lightning = LightningClient::new(with(Some(limited)));
    lightning.get_info(lnrpc::GetInfoRequest {}).await.unwrap();
    let refused = lightning.close_channel(lnrpc::CloseChannelRequest::default()).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::Unknown, "permission denied"));
}

#[tokio::test]
async fn start_up_states_refuse_everything_but_get_state() {
    let node = Server::start(Config { standby: true, ..Config::new("alice") }).await.unwrap();
    let channel = connect(&node).await;
    let mut state =
        lnrpc::state_client::StateClient::new(channel_to(node.grpc_addr(), &node.tls_cert_pem()).await);
    let mut lightning = LightningClient::new(channel.clone());
    let texts = [
        (ctl::Power::WaitingToStart, 255, "waiting to start, RPC services not available"),
        (ctl::Power::Locked, 1, "wallet locked, unlock it to enable full RPC access"),
        (
            ctl::Power::Unlocked,
            2,
            "the RPC server is in the process of starting up, but not yet ready to accept calls",
        ),
    ];
    let set = |power: ctl::Power| Command::SetWalletState(ctl::SetWalletStateRequest { power: power.into() });
    for (power, number, text) in texts {
        node.command(set(power)).unwrap();
        let told = state.get_state(lnrpc::GetStateRequest {}).await.unwrap().into_inner().state;
        assert_eq!(told, number, "no macaroon needed");
        let refused = lightning.get_info(lnrpc::GetInfoRequest {}).await.unwrap_err();
        assert_eq!((refused.code(), refused.message()), (Code::Unknown, text));
        let refused = intercept(&channel).next().await.unwrap_err();
        assert_eq!((refused.code(), refused.message()), (Code::Unknown, text));
    }
    node.command(set(ctl::Power::RpcActive)).unwrap();
    lightning.get_info(lnrpc::GetInfoRequest {}).await.unwrap();
    let mut blocks = ChainNotifierClient::new(channel.clone());
    let early = blocks.register_block_epoch_ntfn(BlockEpoch::default()).await.unwrap_err();
    assert_eq!(early.code(), Code::Unavailable);
    node.command(set(ctl::Power::ServerActive)).unwrap();
    blocks.register_block_epoch_ntfn(BlockEpoch::default()).await.unwrap();
}

#[tokio::test]
async fn close_channel_announces_the_transaction_and_its_confirmation() {
    use lnrpc::{channel_point::FundingTxid, close_status_update::Update};
    let node = Server::start(Config::new("alice")).await.unwrap();
    let mut lightning = LightningClient::new(connect(&node).await);
    let point = node.state().channels[0].channel_point.clone();
    let txid = FundingTxid::FundingTxidStr(point.split(':').next().unwrap().to_owned());
    let point = lnrpc::ChannelPoint { funding_txid: Some(txid), output_index: 0 };
    let close = lnrpc::CloseChannelRequest { channel_point: Some(point), force: true };
    let mut updates = lightning.close_channel(close).await.unwrap().into_inner();
    assert!(matches!(updates.message().await.unwrap().unwrap().update, Some(Update::ClosePending(_))));
    assert!(tokio::time::timeout(Duration::from_millis(100), updates.message()).await.is_err());
    node.command(Command::MineBlocks(ctl::MineBlocksRequest { blocks: 1 })).unwrap();
    let update = tokio::time::timeout(SOON, updates.message()).await.unwrap().unwrap().unwrap().update;
    assert!(matches!(update, Some(Update::ChanClose(done)) if done.success));
}

#[tokio::test]
async fn outcomes_can_be_followed_from_any_number() {
    let node = Server::start(Config::new("alice")).await.unwrap();
    let mut control = control(&node).await;
    // Nobody is connected: each fails at once.
    for n in 1..=5 {
        control.add_htlc(htlc(n, 800)).await.unwrap();
    }
    let from = ctl::SubscribeOutcomesRequest { from_seq: 4 };
    let mut outcomes = control.subscribe_outcomes(from).await.unwrap().into_inner();
    for (seq, htlc_id) in [(4, 3), (5, 4)] {
        let outcome = outcomes.message().await.unwrap().unwrap();
        assert_eq!((outcome.seq, outcome.htlc_id), (seq, htlc_id));
        let Some(ctl::outcome::Result::Failed(failure)) = outcome.result else { panic!("not failed") };
        assert_eq!(failure.name, "temporary_channel_failure");
    }
    control.add_htlc(htlc(6, 800)).await.unwrap();
    assert_eq!(outcomes.message().await.unwrap().unwrap().seq, 6);
}

#[tokio::test]
async fn a_rotated_certificate_is_not_the_pinned_one() {
    let node = Server::start(Config::new("alice")).await.unwrap();
    let before = node.tls_cert_pem();
    node.command(Command::RotateTlsCert).unwrap();
    assert!(try_channel_to(node.grpc_addr(), &before).await.is_err());
    let file = std::fs::read_to_string(&node.ready().tls_cert).unwrap();
    assert!(try_channel_to(node.grpc_addr(), &file).await.is_ok());
}
