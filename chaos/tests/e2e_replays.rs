//! What a link must get right when LND or a replica forgets, lies about the height, or falls silent: nothing
//! is answered twice, every end is found, and nothing secret is written down on the way.

#![allow(clippy::unwrap_used, clippy::panic)] // test code, outside of test functions

mod e2e_support;

use e2e_support::{ALICE, BOB, SOON, World};
use mux_chaos::{
    cluster::{Way, until},
    ledger::{Expectation, FailureSource, PaymentEnd},
    payer::{INCORRECT_DETAILS, PaymentPlan, TEMPORARY_CHANNEL_FAILURE},
};
use mux_proto::{
    lndsim::v1::{
        DropFinalEventsRequest, ForceCloseRequest, GetStateResponse, HtlcEntry, OpenChannelRequest,
        ReorgRequest, RestartRequest, SetChainViewRequest, SetHeightRequest, Stage,
        force_close_request::Commitment,
    },
    lnmux::InvoiceStatus,
    mux::v1::{FrontNodeStatus, InvoiceState},
};
use mux_raft::types::PaymentHash;
use std::{
    io::Write as _,
    time::{Duration, Instant},
};

/// The third LND node.
const CAROL: usize = 2;

/// Both sides' keepalives, and the time after which a leader moves a link.
const HALF_OPEN_MAX: Duration = Duration::from_secs(40);

/// HTLCs without an end are looked up every 30 s.
const LOOK_UP_MAX: Duration = Duration::from_secs(45);

/// No node can be this far ahead.
const ABSURD_BLOCKS: u32 = 5_000;

/// Below LND's dust limit: no output on chain, so a force-close loses it.
const DUST_MSAT: u64 = 300_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_answered_twice_no_end_is_missed_and_nothing_leaks() {
    let mut world = World::start(|options| {
        options.proxied = true;
        options.lnds = 3;
        // As talkative as an operator can make it.
        options.settings =
            vec![("log.filter".into(), "\"debug,openraft=info,sled=info,muxd=trace,mux_raft=trace\"".into())];
    })
    .await;

    world.step("a decided part that LND lost makes the invoice PARTIAL, and FAILED for lnmux");
    lost_part(&mut world).await;

    world.step("an end that no event told is found by looking it up (awaited below)");
    let dropping = DropFinalEventsRequest { drop: true };
    world.cluster.lnds[CAROL].control().drop_final_events(dropping).await.unwrap();
    let (unheard, _) = pay_through(&world, CAROL).await;

    world.step("the link moves away from a replica whose way to its LND is half open");
    half_open(&mut world).await;

    world.step("the end that no event told is known");
    looked_up(&world, unheard).await;
    let hearing = DropFinalEventsRequest { drop: false };
    world.cluster.lnds[CAROL].control().drop_final_events(hearing).await.unwrap();

    world.step("LND replays nothing to a restarted owner: nothing is answered");
    replay_of_nothing(&mut world).await;
    world.step("LND replays everything to restarted replicas: each offer is answered once");
    replay_of_everything(&mut world).await;

    heights(&mut world).await;

    world.step("each offer had at most one answer, and every answer was taken");
    for lnd in [ALICE, BOB, CAROL] {
        let books = world.cluster.lnds[lnd].books().await.unwrap();
        for htlc in &books.htlcs {
            assert_answered_once_per_offer(htlc);
        }
        let state = state(&world, lnd).await;
        assert_eq!((state.streams_killed, state.last_kill.as_str()), (0, ""), "{:?}", books.complaints);
    }

    world.step("no secret is in a log or on a metrics page");
    let leaks = world.cluster.look_for_leaks().await.unwrap();
    println!("          {} secrets, {} bytes", leaks.secrets, leaks.bytes);
    assert!(leaks.violations.is_empty(), "{:#?}", leaks.violations);
    assert!(leaks.preimages >= 10 && leaks.secrets > leaks.preimages, "{leaks:?}");
    assert!(leaks.pages == 6 && leaks.bytes > 500_000, "{leaks:?}");

    world.step("and it would be found there");
    plant_macaroon(&world);
    let found = world.cluster.look_for_leaks().await.unwrap().violations;
    assert!(found.len() == 1 && found[0].evidence.contains("macaroon"), "{found:?}");

    world.step("the books agree");
    world.reckon().await;
}

/// What a careless log line would do.
fn plant_macaroon(world: &World) {
    let macaroon = hex::encode(std::fs::read(&world.cluster.macaroon).unwrap());
    let log = world.cluster.replicas[1].process.log();
    let mut log = std::fs::OpenOptions::new().append(true).open(log).unwrap();
    writeln!(log, "call with macaroon {macaroon}").unwrap();
}

async fn state(world: &World, lnd: usize) -> GetStateResponse {
    world.cluster.lnds[lnd].state().await.unwrap()
}

fn one_part(world: &World, label: &str, text: &str, lnd: usize) -> PaymentPlan {
    PaymentPlan::new(label, text, 1).only_through(world.cluster.lnds[lnd].node)
}

async fn pay_through(world: &World, lnd: usize) -> (PaymentHash, Duration) {
    let (text, hash) = world.invoice(500_000).await;
    let begun = Instant::now();
    world.pay_well(one_part(world, "one way only", &text, lnd)).await;
    (hash, begun.elapsed())
}

async fn owner(world: &mut World, lnd: usize) -> usize {
    let node = world.cluster.lnds[lnd].node;
    world.cluster.owner_of(node).await.unwrap()
}

fn assert_answered_once_per_offer(htlc: &HtlcEntry) {
    assert!(htlc.answers.len() <= htlc.offers as usize, "{htlc:?}");
    assert!(htlc.answers.iter().all(|answer| answer.error.is_empty()), "{htlc:?}");
}

/// The payer has the preimage of three dust parts; alice's channel closes before her part is final.
async fn lost_part(world: &mut World) {
    world.limit(ALICE, Stage::Sent).await;
    let (text, hash) = world.invoice(DUST_MSAT).await;
    let record = world.pay_well(PaymentPlan::new("a part is lost", text, 3)).await;
    let node = world.cluster.lnds[ALICE].node;
    let part = record.parts.iter().find(|part| part.front == node).unwrap();
    world.wait_state(hash, InvoiceState::Settling).await;
    let close = ForceCloseRequest {
        chan_id: part.chan_id,
        commitment: Commitment::Local.into(),
        wait_for_block: false,
    };
    world.cluster.lnds[ALICE].control().force_close(close).await.unwrap();
    world.mine(1).await;
    let invoice = world.wait_state(hash, InvoiceState::Partial).await;
    let received_msat = DUST_MSAT - part.amount_msat;
    assert_eq!((invoice.amount_paid_msat, invoice.amount_received_msat), (DUST_MSAT, received_msat));
    for replica in &world.cluster.replicas {
        let status = replica.client.lnmux_final_status(hash).await.unwrap();
        assert_eq!(status, InvoiceStatus::StatusFailed, "{}", replica.name);
    }
    world.limit(ALICE, Stage::Final).await;
    world.cluster.lnds[ALICE].control().open_channel(OpenChannelRequest::default()).await.unwrap();
}

/// Nobody connects anew meanwhile, so that it is the regular look-up that finds it.
async fn looked_up(world: &World, hash: PaymentHash) {
    until("the end is looked up", LOOK_UP_MAX, || async {
        let invoice = world.cluster.replicas[0].client.invoice(hash).await.ok()??;
        (invoice.state() == InvoiceState::Settled).then_some(())
    })
    .await
    .unwrap();
}

/// Nobody is told that the way is dead: the replica is healthy for Raft, LND's slot stays taken.
async fn half_open(world: &mut World) {
    let owner = owner(world, BOB).await;
    world.cluster.ways[owner][BOB].set(Way::Stalled);
    let paying = tokio::time::timeout(HALF_OPEN_MAX, pay_through(world, BOB)).await;
    let (hash, took) = paying.expect("the link moves, and the HTLC that waits is answered");
    println!("          after {took:?}");
    assert_ne!(self::owner(world, BOB).await, owner);
    assert!(world.cluster.replicas[owner].is_up());
    world.wait_state(hash, InvoiceState::Settled).await;
    world.cluster.ways[owner][BOB].set(Way::Open);
    world.cluster.wait_ready(SOON).await.unwrap();
}

/// The answer is in LND's mailbox, so LND does not offer the HTLC again, though it is not final.
async fn replay_of_nothing(world: &mut World) {
    world.limit(ALICE, Stage::Mailbox).await;
    let (text, hash) = world.invoice(500_000).await;
    let paying = world.begin(one_part(world, "answered, then its owner dies", &text, ALICE));
    world.wait_htlc(ALICE, hash, |htlc| !htlc.answers.is_empty()).await;
    let owner = owner(world, ALICE).await;
    let streams = state(world, ALICE).await.streams_accepted;
    world.cluster.replicas[owner].process.kill().await.unwrap();
    world.cluster.restart_replica(owner).unwrap();
    until("somebody has the stream again", SOON, || async {
        let state = state(world, ALICE).await;
        (state.interceptor_connected && state.streams_accepted > streams).then_some(())
    })
    .await
    .unwrap();
    // Whoever has the stream now has answered this one, so it would have answered the other one too.
    let resumed = resumed(world).await;
    let load = world.load.clone();
    let forward = tokio::spawn(async move { load.forward_through(ALICE).await });
    until("a forward is resumed", SOON, || async { (self::resumed(world).await > resumed).then_some(()) })
        .await
        .unwrap();
    let htlc = world.htlcs(ALICE, hash).await.remove(0);
    assert_eq!((htlc.offers, htlc.answers.len()), (1, 1), "{htlc:?}");
    world.limit(ALICE, Stage::Final).await;
    assert_eq!(paying.await.unwrap().settled_msat(), 500_000);
    forward.await.unwrap();
    world.wait_state(hash, InvoiceState::Settled).await;
}

/// Forwards through alice that were let pass.
async fn resumed(world: &World) -> usize {
    let books = world.cluster.lnds[ALICE].books().await.unwrap();
    let answers = books.htlcs.iter().flat_map(|htlc| &htlc.answers);
    answers.filter(|answer| answer.action.starts_with("RESUME")).count()
}

/// LND loses an answer and is offered one part of a set that waits for more, while every replica is dead.
async fn replay_of_everything(world: &mut World) {
    let alice = world.cluster.lnds[ALICE].node;
    world.limit(ALICE, Stage::Mailbox).await;
    let (text, decided) = world.invoice(500_000).await;
    let paying = world.begin(one_part(world, "answered, and LND forgets", &text, ALICE));
    let (text, waiting) = world.invoice(500_000).await;
    let slow = PaymentPlan::new("half of it waits", text, 2).only_through(alice);
    let slowly = world.begin(slow.slowly(Duration::from_secs(6)));
    world.wait_htlc(ALICE, waiting, |htlc| htlc.offers > 0).await;
    world.wait_htlc(ALICE, decided, |htlc| !htlc.answers.is_empty()).await;
    for replica in &mut world.cluster.replicas {
        replica.process.kill().await.unwrap();
    }
    world.cluster.lnds[ALICE].control().restart(RestartRequest::default()).await.unwrap();
    for at in 0..world.cluster.replicas.len() {
        world.cluster.restart_replica(at).unwrap();
    }
    let again = world.wait_htlc(ALICE, decided, |htlc| htlc.answers.len() > 1).await;
    assert_eq!((again.offers, again.answers.len()), (2, 2), "{again:?}");
    world.limit(ALICE, Stage::Final).await;
    assert_eq!(paying.await.unwrap().settled_msat(), 500_000);
    assert_eq!(slowly.await.unwrap().settled_msat(), 500_000);
    let parts = world.htlcs(ALICE, waiting).await;
    assert!(parts.iter().any(|htlc| htlc.offers == 2 && htlc.answers.len() == 1), "{parts:?}");
    for hash in [decided, waiting] {
        world.wait_state(hash, InvoiceState::Settled).await;
    }
    world.cluster.wait_ready(SOON).await.unwrap();
}

/// Waits until every replica's state says so about a front node.
async fn wait_front(world: &World, lnd: usize, what: &str, fits: impl Fn(&FrontNodeStatus) -> bool) {
    let node = world.cluster.lnds[lnd].node;
    until(what, SOON, || async {
        for replica in &world.cluster.replicas {
            let status = replica.client.status().await.ok()?;
            let front = status.front_nodes.iter().find(|front| front.pub_key.as_ref() == node.0)?;
            if !fits(front) {
                return None;
            }
        }
        Some(())
    })
    .await
    .unwrap();
}

async fn set_height(world: &World, lnd: usize, height: u32) {
    let request = SetHeightRequest { height };
    world.cluster.lnds[lnd].control().set_height(request).await.unwrap();
    wait_front(world, lnd, "the height is known", |front| front.block_height == height).await;
}

async fn chain_view(world: &World, lnd: usize, view: SetChainViewRequest) {
    world.cluster.lnds[lnd].control().set_chain_view(view).await.unwrap();
}

async fn heights(world: &mut World) {
    world.step("a node whose view of the chain is frozen is left out by two others, until it moves");
    frozen(world).await;
    world.step("of three nodes an absurdly high one is left out");
    one_of_three_too_high(world).await;
    world.step("of two nodes an absurdly high one stops the other, safely");
    one_of_two_too_high(world).await;
    world.step("a reorganisation that lowers the height stops nobody");
    let reorg = ReorgRequest { depth: 6, new_blocks: 3 };
    let view = world.cluster.lnds[ALICE].control().reorg(reorg).await.unwrap().into_inner();
    wait_front(world, ALICE, "the lower height", |front| front.block_height == view.height).await;
    pay_through_all(world).await;
    set_height(world, ALICE, view.height + 3).await;
    pay_through_all(world).await;
}

async fn pay_through_all(world: &World) {
    for lnd in [ALICE, BOB, CAROL] {
        pay_through(world, lnd).await;
    }
}

async fn frozen(world: &mut World) {
    let (text, hash) = world.invoice(500_000).await;
    chain_view(world, ALICE, SetChainViewRequest { frozen: Some(true), ..Default::default() }).await;
    world.mine(10).await;
    wait_front(world, ALICE, "alice is flagged", |front| front.height_flagged).await;
    pay_through(world, BOB).await;
    pay_through(world, CAROL).await;
    refused_until(world, ALICE, &text, hash, async |world| {
        chain_view(world, ALICE, SetChainViewRequest { frozen: Some(false), ..Default::default() }).await;
    })
    .await;
}

async fn one_of_three_too_high(world: &mut World) {
    let height = state(world, CAROL).await.chain.unwrap().height;
    let (text, hash) = world.invoice(500_000).await;
    set_height(world, CAROL, height + ABSURD_BLOCKS).await;
    wait_front(world, CAROL, "carol is flagged", |front| front.height_flagged).await;
    pay_through(world, ALICE).await;
    pay_through(world, BOB).await;
    refused_until(world, CAROL, &text, hash, async |world| set_height(world, CAROL, height).await).await;
}

/// The payer is refused by the front node for the time being, nothing is settled, and gets through once the
/// node is put right.
async fn refused_until(
    world: &mut World,
    lnd: usize,
    text: &str,
    hash: PaymentHash,
    put_right: impl AsyncFnOnce(&World),
) {
    let paying = world.begin(one_part(world, "refused for the time being", text, lnd));
    let refused = world.wait_htlc(lnd, hash, |htlc| htlc.r#final.is_some()).await;
    assert!(!refused.node_paid && !refused.preimage_revealed, "{refused:?}");
    put_right(world).await;
    let record = tokio::time::timeout(SOON, paying).await.unwrap().unwrap();
    assert_eq!(record.ends, [PaymentEnd::Settled], "{record:?}");
    let first = record.parts.first().and_then(|part| part.end.clone());
    let Some(mux_chaos::ledger::PartEnd::Failed(failure)) = first else { panic!("{record:?}") };
    assert_eq!((failure.source, failure.code), (FailureSource::FrontNode, TEMPORARY_CHANNEL_FAILURE));
    world.wait_state(hash, InvoiceState::Settled).await;
}

/// Two nodes that disagree: nobody knows who is wrong, so the higher counts for both.
async fn one_of_two_too_high(world: &mut World) {
    let height = state(world, BOB).await.chain.unwrap().height;
    let (text, hash) = world.invoice(500_000).await;
    chain_view(world, CAROL, SetChainViewRequest { synced_to_chain: Some(false), ..Default::default() })
        .await;
    wait_front(world, CAROL, "carol is not synced", |front| !front.synced).await;
    set_height(world, BOB, height + ABSURD_BLOCKS).await;
    let plan = one_part(world, "one of two is too high", &text, ALICE).expecting(Expectation::Fail);
    let record = world.pay(plan).await;
    let [PaymentEnd::Failed(failure)] = record.ends.as_slice() else { panic!("{record:?}") };
    let (source, code) = (failure.source, failure.code);
    assert_eq!((source, code), (FailureSource::VirtualNode, INCORRECT_DETAILS), "{record:?}");
    let refused = world.htlcs(ALICE, hash).await;
    assert!(refused.iter().all(|htlc| !htlc.node_paid && !htlc.preimage_revealed), "{refused:?}");
    world.wait_state(hash, InvoiceState::Open).await;

    set_height(world, BOB, height).await;
    chain_view(world, CAROL, SetChainViewRequest { synced_to_chain: Some(true), ..Default::default() }).await;
    wait_front(world, CAROL, "carol is synced", |front| front.synced).await;
    world.pay_well(one_part(world, "put right", &text, ALICE)).await;
    world.wait_state(hash, InvoiceState::Settled).await;
}
