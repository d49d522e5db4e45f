//! Replicas that die, are cut off, or leave in order.

#![allow(clippy::unwrap_used, clippy::panic)] // test code, outside of test functions

mod e2e_support;

use e2e_support::{ALICE, BOB, SOON, World};
use mux_chaos::{
    cluster::{Way, until},
    demo::Job,
    payer::PaymentPlan,
};
use mux_proto::{
    lndsim::v1::{RestartRequest, Stage},
    mux::v1::InvoiceState,
};
use std::time::Duration;

/// An orderly end takes no longer (promised to supervisors).
const SHUTDOWN_MAX: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payments_go_on_whichever_replica_is_lost() {
    let mut world = World::start(|options| options.proxied = true).await;

    world.step("another replica takes over a link whose owner died");
    let owner = owner(&mut world, ALICE).await;
    world.cluster.replicas[owner].process.kill().await.unwrap();
    pay_through(&world, ALICE).await;
    world.cluster.restart_replica(owner).unwrap();
    world.cluster.wait_ready(SOON).await.unwrap();

    world.step("the link moves away from a replica that is cut off from its LND");
    let owner = self::owner(&mut world, BOB).await;
    world.cluster.ways[owner][BOB].set(Way::Cut);
    pay_through(&world, BOB).await;
    assert_ne!(self::owner(&mut world, BOB).await, owner);
    world.cluster.ways[owner][BOB].set(Way::Open);

    world.step("with two of three dead after the decision, the survivor still settles, and forwards pass");
    survivor(&mut world).await;

    world.step("a replica that is told to stop hands over and ends with 0");
    for lnd in [ALICE, BOB] {
        let owner = self::owner(&mut world, lnd).await;
        orderly(&mut world, owner, lnd).await;
    }
    let leader = world.cluster.leader().await.unwrap();
    orderly(&mut world, leader, ALICE).await;

    world.reckon().await;
}

async fn owner(world: &mut World, lnd: usize) -> usize {
    let node = world.cluster.lnds[lnd].node;
    world.cluster.owner_of(node).await.unwrap()
}

async fn pay_through(world: &World, lnd: usize) {
    let (text, _) = world.invoice(200_000).await;
    let front = world.cluster.lnds[lnd].node;
    world.pay_well(PaymentPlan::new("one way only", text, 1).only_through(front)).await;
}

/// The decision is committed, LND loses the answer, and two replicas die: the one that is left repeats it.
async fn survivor(world: &mut World) {
    let survivor = owner(world, ALICE).await;
    let alice = world.cluster.lnds[ALICE].node;
    world.limit(ALICE, Stage::Mailbox).await;
    let (text, hash) = world.invoice(400_000).await;
    let paying = world.begin(PaymentPlan::new("decided, then two die", text, 1).only_through(alice));
    world.wait_htlc(ALICE, hash, |htlc| htlc.stage() == Stage::Mailbox).await;
    let others: Vec<_> = (0..world.cluster.replicas.len()).filter(|at| *at != survivor).collect();
    for at in &others {
        world.cluster.replicas[*at].process.kill().await.unwrap();
    }
    world.cluster.lnds[ALICE].control().restart(RestartRequest::default()).await.unwrap();
    world.limit(ALICE, Stage::Final).await;
    let record = tokio::time::timeout(Duration::from_secs(45), paying).await.expect("settles without quorum");
    assert_eq!(record.unwrap().settled_msat(), 400_000);
    tokio::time::timeout(Duration::from_secs(45), world.load.forward_through(ALICE))
        .await
        .expect("forwards pass");
    for at in others {
        world.cluster.restart_replica(at).unwrap();
    }
    world.cluster.wait_ready(Duration::from_secs(60)).await.unwrap();
    world.wait_state(hash, InvoiceState::Settled).await;
}

/// SIGTERM: its link is with somebody else before it is gone, and it ends with 0 in time.
async fn orderly(world: &mut World, at: usize, lnd: usize) {
    let paying: Vec<_> = (0..3).map(|_| spawn_job(world)).collect();
    let status = world.cluster.replicas[at].process.terminate(SHUTDOWN_MAX).await.unwrap();
    assert!(status.success(), "{status}");
    until("the link is with another replica", SOON, || {
        let node = world.cluster.lnds[lnd].node;
        let asked = (0..world.cluster.replicas.len()).filter(|other| *other != at);
        let clients: Vec<_> = asked.map(|other| world.cluster.replicas[other].client.clone()).collect();
        let left = world.cluster.replicas[at].id;
        async move {
            let status = clients[0].status().await.ok()?;
            let front = status.front_nodes.iter().find(|front| front.pub_key.as_ref() == node.0)?;
            (front.assigned_replica != left && front.session_confirmed).then_some(())
        }
    })
    .await
    .unwrap();
    pay_through(world, lnd).await;
    for paying in paying {
        paying.await.unwrap();
    }
    world.cluster.restart_replica(at).unwrap();
    world.cluster.wait_ready(SOON).await.unwrap();
}

fn spawn_job(world: &World) -> tokio::task::JoinHandle<()> {
    let load = world.load.clone();
    tokio::spawn(async move {
        load.run(Job::Pay { stored: true, open_amount: false, parts: 2 }).await.unwrap();
    })
}
