//! What LND nodes do to a payment: restarts, lost answers, force-closes.

#![allow(clippy::unwrap_used, clippy::panic)] // test code, outside of test functions

mod e2e_support;

use e2e_support::{ALICE, BOB, SOON, World};
use mux_chaos::{
    cluster::{Way, until},
    ledger::{Expectation, PaymentRecord},
    payer::PaymentPlan,
};
use mux_proto::{
    lndsim::v1::{
        ForceCloseRequest, OpenChannelRequest, RestartRequest, Stage, force_close_request::Commitment,
    },
    mux::v1::{InvoiceState, Settings},
};
use mux_raft::{machine::model::SESSION_FRESH_MS, types::PaymentHash};
use std::time::Duration;
use tokio::task::JoinHandle;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_lnd_forgets_or_takes_to_chain_the_payment_keeps_its_verdict() {
    let mut world = World::start(|_| {}).await;

    world.step("a settle that LND lost in a crash is repeated on the replay");
    lost_settle(&mut world).await;

    world.step("a held part survives a restart of its LND");
    let alice = world.cluster.lnds[ALICE].node;
    let (text, hash) = world.invoice(500_000).await;
    let slow = PaymentPlan::new("slow", text, 2).only_through(alice).slowly(Duration::from_secs(2));
    let paying = world.begin(slow);
    world.wait_htlc(ALICE, hash, |htlc| htlc.offers > 0).await;
    world.cluster.lnds[ALICE].control().restart(RestartRequest::default()).await.unwrap();
    assert_eq!(paying.await.unwrap().settled_msat(), 500_000);
    assert!(world.htlcs(ALICE, hash).await.iter().any(|htlc| htlc.offers > 1), "offered again");

    world.step("a killed LND process comes back to the same answers");
    let (text, hash) = world.invoice(500_000).await;
    world.limit(BOB, Stage::Mailbox).await;
    let bob = world.cluster.lnds[BOB].node;
    let paying = world.begin(PaymentPlan::new("through bob", text, 1).only_through(bob));
    world.wait_htlc(BOB, hash, |htlc| !htlc.answers.is_empty()).await;
    world.cluster.restart_lnd(BOB).await.unwrap();
    world.limit(BOB, Stage::Final).await;
    assert_eq!(paying.await.unwrap().settled_msat(), 500_000);
    world.wait_state(hash, InvoiceState::Settled).await;

    world.step("a decided HTLC that goes on chain is settled there");
    decided_on_chain(&mut world).await;

    world.step("an undecided HTLC that goes on chain is left alone, and its set fails");
    undecided_on_chain(&mut world).await;

    world.reckon().await;
}

/// More than any HTLC of a payment has left.
const BLOCKS_TO_EXPIRY: u32 = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dust_that_goes_on_chain_is_not_settled_afterwards_and_told_if_it_was_before() {
    let mut world = World::start(|options| options.proxied = true).await;
    let hold = Settings { auto_settle: Some(false), ..Settings::default() };
    world.cluster.replicas[0].client.update_settings(hold).await.unwrap();

    world.step("dust that is lost while its SETTLE is on the way makes its payment PARTIAL");
    dust_lost_under_way(&mut world).await;
    reopen(&world).await;

    world.step("dust that was lost is not settled any more");
    let (hash, paying) = dust(&mut world).await;
    close(&world, world.htlcs(ALICE, hash).await[0].chan_id).await;
    world.wait_state(hash, InvoiceState::Open).await;
    let refused = world.cluster.replicas[0].client.settle(hash).await.unwrap_err();
    assert_eq!(refused.said(), Some(tonic::Code::FailedPrecondition), "{refused}");
    assert_eq!(tokio::time::timeout(SOON, paying).await.unwrap().unwrap().settled_msat(), 0);
    reopen(&world).await;

    world.step("an owner that stood still does not vouch for dust that was lost meanwhile");
    stood_still(&mut world).await;

    // LND holds the dead ones until they expire.
    world.mine(BLOCKS_TO_EXPIRY).await;
    world.reckon().await;
}

/// The application's wish waits for the owner's word; the first that it can say is that the HTLC is gone.
async fn stood_still(world: &mut World) {
    let (hash, paying) = dust(world).await;
    let alice = world.cluster.lnds[ALICE].node;
    let owner = world.cluster.owner_of(alice).await.unwrap();
    world.cluster.replicas[owner].process.pause().unwrap();
    tokio::time::sleep(Duration::from_millis(SESSION_FRESH_MS + 500)).await;
    let other = world.cluster.replicas[(owner + 1) % world.cluster.replicas.len()].client.clone();
    let wish = tokio::spawn(async move { other.settle(hash).await });
    close(world, world.htlcs(ALICE, hash).await[0].chan_id).await;
    world.cluster.replicas[owner].process.resume().unwrap();
    let invoice = world.wait_state(hash, InvoiceState::Open).await;
    assert_eq!((invoice.decided_at_ms, invoice.amount_received_msat), (0, 0));
    assert!(tokio::time::timeout(SOON, wish).await.unwrap().unwrap().is_err());
    assert_eq!(tokio::time::timeout(SOON, paying).await.unwrap().unwrap().settled_msat(), 0);
}

/// Of which no commitment has an output, held by the cluster.
async fn dust(world: &mut World) -> (PaymentHash, JoinHandle<PaymentRecord>) {
    let alice = world.cluster.lnds[ALICE].node;
    let (text, hash) = world.invoice(300_000).await;
    let plan = PaymentPlan::new("dust", text, 1).only_through(alice).expecting(Expectation::Any);
    let paying = world.begin(plan);
    world.wait_state(hash, InvoiceState::Accepted).await;
    (hash, paying)
}

async fn dust_lost_under_way(world: &mut World) {
    let (hash, paying) = dust(world).await;
    let alice = world.cluster.lnds[ALICE].node;
    let owner = world.cluster.owner_of(alice).await.unwrap();
    // Neither the SETTLE gets to alice nor her news to its owner, who does not know it yet.
    world.cluster.ways[owner][ALICE].set(Way::Stalled);
    world.cluster.replicas[owner].client.settle(hash).await.unwrap();
    close(world, world.htlcs(ALICE, hash).await[0].chan_id).await;
    world.cluster.ways[owner][ALICE].set(Way::Cut);
    until("alice noticed", SOON, || async {
        let state = world.cluster.lnds[ALICE].state().await.unwrap();
        (!state.interceptor_connected).then_some(())
    })
    .await
    .unwrap();
    world.cluster.ways[owner][ALICE].set(Way::Open);
    let invoice = world.wait_state(hash, InvoiceState::Partial).await;
    assert_eq!(invoice.amount_received_msat, 0);
    assert_eq!(tokio::time::timeout(SOON, paying).await.unwrap().unwrap().settled_msat(), 0);
    let end = world.htlcs(ALICE, hash).await.remove(0);
    // LND holds it and offers it to the next stream even now, and takes the SETTLE; nothing comes of it.
    assert!(end.lost_as_dust && !end.preimage_revealed, "{end:?}");
}

async fn lost_settle(world: &mut World) {
    let alice = world.cluster.lnds[ALICE].node;
    world.limit(ALICE, Stage::Mailbox).await;
    let (text, hash) = world.invoice(500_000).await;
    let paying = world.begin(PaymentPlan::new("lost settle", text, 1).only_through(alice));
    world.wait_htlc(ALICE, hash, |htlc| htlc.stage() == Stage::Mailbox).await;
    assert!(!paying.is_finished(), "LND has not passed the preimage on yet");
    world.cluster.lnds[ALICE].control().restart(RestartRequest::default()).await.unwrap();
    world.limit(ALICE, Stage::Final).await;
    assert_eq!(paying.await.unwrap().settled_msat(), 500_000);
    let settled = world.htlcs(ALICE, hash).await;
    let settles = settled[0].answers.iter().filter(|answer| answer.action == "SETTLE").count();
    assert!(settles >= 2 && settled[0].offers >= 2, "{settled:?}");
    world.wait_state(hash, InvoiceState::Settled).await;
}

/// The peer takes the preimage and stops signing; LND goes to chain with the HTLC on its commitment.
async fn decided_on_chain(world: &mut World) {
    let alice = world.cluster.lnds[ALICE].node;
    world.limit(ALICE, Stage::Sent).await;
    let (text, hash) = world.invoice(700_000_000).await;
    let record = world.pay_well(PaymentPlan::new("not signed", text, 1).only_through(alice)).await;
    world.wait_state(hash, InvoiceState::Settling).await;
    let chan_id = record.parts[0].chan_id;
    close(world, chan_id).await;
    world.wait_htlc(ALICE, hash, |htlc| htlc.answers.iter().any(|answer| answer.on_chain)).await;
    mine_until_final(world, hash).await;
    world.limit(ALICE, Stage::Final).await;
    let invoice = world.wait_state(hash, InvoiceState::Settled).await;
    assert_eq!(invoice.amount_received_msat, 700_000_000);
    reopen(world).await;
}

async fn undecided_on_chain(world: &mut World) {
    let alice = world.cluster.lnds[ALICE].node;
    let (text, hash) = world.invoice(600_000_000).await;
    let mut half = PaymentPlan::new("half, then on chain", text, 2).only_through(alice);
    half.deviation = mux_chaos::payer::Deviation::Incomplete;
    half.expect = Some(mux_chaos::ledger::Expectation::Fail);
    let paying = world.begin(half);
    let held = world.wait_htlc(ALICE, hash, |htlc| htlc.offers > 0).await;
    close(world, held.chan_id).await;
    world.wait_htlc(ALICE, hash, |htlc| htlc.offers > 1).await;
    world.wait_state(hash, InvoiceState::Open).await;
    mine_until_final(world, hash).await;
    let record = tokio::time::timeout(SOON, paying).await.unwrap().unwrap();
    assert_eq!(record.settled_msat(), 0, "{record:?}");
    let end = world.htlcs(ALICE, hash).await.remove(0);
    assert!(end.answers.is_empty(), "FAIL or RESUME on chain would end LND's stream: {end:?}");
    reopen(world).await;
}

async fn close(world: &World, chan_id: u64) {
    let request = ForceCloseRequest { chan_id, commitment: Commitment::Local.into(), wait_for_block: false };
    world.cluster.lnds[ALICE].control().force_close(request).await.unwrap();
    world.mine(1).await;
}

/// Mines a few blocks at a time, so that everybody can keep up, until LND has resolved the HTLC.
async fn mine_until_final(world: &World, hash: PaymentHash) {
    for _ in 0..100 {
        if world.htlcs(ALICE, hash).await.iter().all(|htlc| htlc.r#final.is_some()) {
            return;
        }
        world.mine(3).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not final: {:?}", world.htlcs(ALICE, hash).await);
}

/// A new channel from the payer to alice.
async fn reopen(world: &World) {
    world.cluster.lnds[ALICE].control().open_channel(OpenChannelRequest::default()).await.unwrap();
}
