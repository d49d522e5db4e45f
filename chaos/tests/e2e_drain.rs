//! A replica that an operator ends in order, while payments go on and HTLCs are held.

#![allow(clippy::unwrap_used, clippy::panic)] // test code, outside of test functions

mod e2e_support;

use e2e_support::{ALICE, SOON, UNAVAILABLE, World, payments::Payments};
use mux_chaos::{
    cluster::{fetch, until},
    payer::PaymentPlan,
};
use mux_proto::mux::v1::InvoiceState;
use mux_raft::types::PaymentHash;
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::task::JoinHandle;

/// What a drain is given that cannot hand over, seconds.
const SHORT: u64 = 5;

/// How much later a busy machine may be.
const SLACK: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_with_links_is_drained_while_payments_go_on() {
    let mut world = World::start(|_| {}).await;
    let leader = lead_at_alice(&mut world).await;
    let id = world.cluster.replicas[leader].id;
    let load = Payments::start(&world);
    load.go_on(3).await;

    world.step("the leader is drained: it hands over, says so and ends");
    let probe = Probe::start(world.cluster.replicas[leader].metrics);
    let began = Instant::now();
    let said = world.json(leader, &["drain", "--timeout", "30"]).await;
    assert_eq!((&said["replica_id"], &said["not_done"]), (&id.into(), &serde_json::json!([])), "{said}");
    let next = world.cluster.replicas.iter().position(|replica| said["leader"] == replica.id).unwrap();
    assert_ne!(next, leader, "{said}");
    // It was handed over before the answer, not found to be dead afterwards.
    let status = world.json(next, &["status"]).await;
    let alice =
        status["front_nodes"].as_array().unwrap().iter().find(|front| front["alias"] == "alice").unwrap();
    assert!(alice["assigned_replica"] != id && status["leader"] != id, "{status:#}");
    let status = world.cluster.replicas[leader].process.ended(SOON).await.unwrap();
    assert!(status.success() && began.elapsed() < Duration::from_secs(30) + SLACK, "{status}");

    let log = std::fs::read_to_string(world.cluster.replicas[leader].process.log()).unwrap();
    let errors: Vec<_> = log.lines().filter(|line| line.contains("ERROR")).collect();
    assert!(errors.is_empty(), "an orderly end is no error: {errors:#?}");

    world.step("its probe failed before it ended, and said why");
    let seen = probe.stop().await;
    let told = seen.contains(&Seen::NotReady { draining: true });
    assert!(seen.first() == Some(&Seen::Ready) && told, "{seen:?}");
    assert_eq!(seen.last(), Some(&Seen::Gone), "{seen:?}");

    world.step("somebody else leads and has its links, and payments go on");
    world.cluster.wait_ready(SOON).await.unwrap();
    let alice = world.cluster.lnds[ALICE].node;
    assert_ne!(world.cluster.owner_of(alice).await.unwrap(), leader);
    load.go_on(3).await;
    load.stop().await;
    world.cluster.restart_replica(leader).unwrap();
    world.wait_members(leader, 3).await;
    world.reckon().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_htlc_that_is_held_where_a_replica_is_drained_is_settled_all_the_same() {
    let mut world = World::start(|_| {}).await;
    let owner = lead_at_alice(&mut world).await;
    let (paying, hash) = hold(&mut world, "held while its replica is drained").await;
    world.drain(owner).await;
    let status = world.cluster.replicas[owner].process.ended(SOON).await.unwrap();
    assert!(status.success(), "{status}");
    let other = world.any();
    world.cli(other, &["invoice", "settle", &hash.to_string()]).await;
    let record = paying.await.unwrap();
    assert_eq!(record.settled_msat(), AMOUNT_MSAT, "{record:?}");
    world.cluster.restart_replica(owner).unwrap();
    world.wait_members(owner, 3).await;
    world.reckon().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_that_runs_out_of_time_says_what_is_left_ends_and_loses_nothing() {
    let mut world = World::start(|_| {}).await;
    let leader = lead_at_alice(&mut world).await;
    let id = world.cluster.replicas[leader].id;
    let (paying, hash) = hold(&mut world, "held while nobody can take it over").await;
    let others = [(leader + 1) % 3, (leader + 2) % 3];

    world.step("nobody is left to hand over to: it is refused");
    for other in others {
        world.cluster.replicas[other].process.pause().unwrap();
    }
    until("it knows that it is alone", SOON, || async {
        (world.json(leader, &["status"]).await["quorum"] == false).then_some(())
    })
    .await
    .unwrap();
    let short = SHORT.to_string();
    let refused = world.said(leader, &["drain", "--timeout", &short]).await;
    assert!(refused.code == UNAVAILABLE && refused.err.contains("--force"), "{refused:?}");
    assert!(world.cluster.replicas[leader].is_up());

    world.step("with force it ends when the time is over, and says what is left");
    let probe = Probe::start(world.cluster.replicas[leader].metrics);
    let began = Instant::now();
    let said = world.said(leader, &["drain", "--force", "--timeout", &short]).await;
    assert!(said.done(), "{said:?}");
    assert_eq!(
        said.out,
        format!("replica {id} had no more time to hand over and ends now; nobody leads yet\n")
    );
    assert!(
        said.err.contains("warning: ") && said.err.contains("not done: the streams of alice"),
        "{said:?}"
    );
    let status = world.cluster.replicas[leader].process.ended(SOON).await.unwrap();
    assert!(status.success(), "{status}");
    // The command asks the others first, in vain, before the time begins.
    assert!(began.elapsed() < Duration::from_secs(SHORT) + SLACK, "{:?}", began.elapsed());
    let seen = probe.stop().await;
    assert!(seen.contains(&Seen::NotReady { draining: true }), "{seen:?}");

    world.step("the others come back, have its links, and settle what it held");
    for other in others {
        world.cluster.replicas[other].process.resume().unwrap();
    }
    world.cluster.wait_ready(SOON).await.unwrap();
    world.cli(others[0], &["invoice", "settle", &hash.to_string()]).await;
    let record = paying.await.unwrap();
    assert_eq!(record.settled_msat(), AMOUNT_MSAT, "{record:?}");
    world.cluster.restart_replica(leader).unwrap();
    world.wait_members(leader, 3).await;
    world.reckon().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_alone_does_not_wait_for_others_to_take_over() {
    let mut world = World::start(|options| options.replicas = 1).await;
    world.cluster.wait_ready(SOON).await.unwrap();
    let refused = world.said(0, &["drain"]).await;
    assert!(!refused.done() && refused.err.contains("--force"), "{refused:?}");
    let began = Instant::now();
    let said = world.said(0, &["drain", "--force"]).await;
    assert!(said.done() && said.err.contains("there is no other replica"), "{said:?}");
    let status = world.cluster.replicas[0].process.ended(SOON).await.unwrap();
    assert!(status.success() && began.elapsed() < SLACK, "{status} after {:?}", began.elapsed());
}

const AMOUNT_MSAT: u64 = 300_000;

/// The leader becomes the replica that has alice's link; its place.
async fn lead_at_alice(world: &mut World) -> usize {
    let alice = world.cluster.lnds[ALICE].node;
    let deadline = Instant::now() + SOON;
    loop {
        let owner = world.cluster.owner_of(alice).await.unwrap();
        if world.cluster.leader().await == Some(owner) {
            return owner;
        }
        // The one may lag behind, the other may move with leadership.
        let id = world.cluster.replicas[owner].id.to_string();
        let said = world.said(owner, &["transfer-leader", &id]).await;
        assert!(Instant::now() < deadline, "{said:?}");
        world.cluster.wait_ready(SOON).await.unwrap();
    }
}

/// A payment at alice that is complete and undecided.
async fn hold(world: &mut World, label: &str) -> (JoinHandle<mux_chaos::ledger::PaymentRecord>, PaymentHash) {
    world.cli(0, &["settings", "--auto-settle", "false"]).await;
    let (text, hash) = world.invoice(AMOUNT_MSAT).await;
    let alice = world.cluster.lnds[ALICE].node;
    let paying = world.begin(PaymentPlan::new(label, text, 1).only_through(alice));
    world.wait_state(hash, InvoiceState::Accepted).await;
    (paying, hash)
}

/// What a load balancer sees.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Ready,
    NotReady { draining: bool },
    Gone,
}

/// Looks at `/readyz` again and again until the process is gone; keeps what changed.
struct Probe(JoinHandle<Vec<Seen>>);

impl Probe {
    fn start(address: SocketAddr) -> Self {
        Self(tokio::spawn(async move {
            let mut seen = Vec::new();
            while seen.last() != Some(&Seen::Gone) {
                let now = match fetch(address, "/readyz").await {
                    Ok(page) if page.starts_with(b"HTTP/1.1 200") => Seen::Ready,
                    Ok(page) => {
                        let page = String::from_utf8_lossy(&page).into_owned();
                        Seen::NotReady { draining: page.contains("[-]not-draining") }
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Seen::Gone,
                    // Ended in the middle of an answer.
                    Err(_) => continue,
                };
                if seen.last() != Some(&now) {
                    seen.push(now);
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            seen
        }))
    }

    async fn stop(self) -> Vec<Seen> {
        tokio::time::timeout(SOON, self.0).await.unwrap().unwrap()
    }
}
