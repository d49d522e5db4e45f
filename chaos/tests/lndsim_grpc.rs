//! The simulated LND over real gRPC: what only the transport can show.

mod lndsim_support;

use lndsim_support::{SOON, connect, control, htlc, intercept, preimage};
use mux_chaos::lndsim::{Config, Server};
use mux_proto::{
    chainrpc::{BlockEpoch, chain_notifier_client::ChainNotifierClient},
    lndsim::v1 as ctl,
    lnrpc::{self, lightning_client::LightningClient},
    routerrpc::{self, htlc_event::Event, router_client::RouterClient},
};

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
    tokio::time::timeout(SOON, node.wait_for(|core| core.state().interceptor_connected)).await.unwrap();
    let added = control.add_htlc(htlc(1, info.block_height)).await.unwrap().into_inner();
    let offer = stream.next().await.unwrap();
    assert_eq!(offer.incoming_circuit_key.unwrap().htlc_id, added.htlc_id);
    assert_eq!(offer.auto_fail_height, i32::try_from(offer.incoming_expiry - 19).unwrap());
    let channels = lightning.list_channels(lnrpc::ListChannelsRequest::default()).await.unwrap().into_inner();
    assert_eq!(channels.channels[0].pending_htlcs[0].htlc_index, added.htlc_id);
    let lookup = lnrpc::LookupHtlcResolutionRequest { chan_id: added.chan_id, htlc_index: added.htlc_id };
    let missing = lightning.lookup_htlc_resolution(lookup).await.unwrap_err();
    assert_eq!(missing.code(), tonic::Code::NotFound);

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
