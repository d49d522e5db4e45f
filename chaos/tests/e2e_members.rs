//! A cluster that grows and shrinks, and a replica that is drained, while payments go on.

#![allow(clippy::unwrap_used, clippy::panic)] // test code, outside of test functions

mod e2e_support;

use e2e_support::{ALICE, SOON, World};
use mux_chaos::{cluster::ReplicaClient, demo::Job, payer::PaymentPlan};
use mux_proto::mux::v1::InvoiceState;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinHandle;

/// What a drain may take here.
const DRAIN_MAX: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_grows_shrinks_and_drains_while_payments_go_on() {
    let mut world = World::start(|_| {}).await;
    let load = Payments::start(&world);

    world.step("three become four become five");
    for count in [4, 5] {
        let (at, address) = world.cluster.start_another().unwrap();
        let id = world.cluster.replicas[at].id;
        any(&mut world).add_member(id, &address, Duration::from_secs(60)).await.unwrap();
        load.go_on(3).await;
        let members = any(&mut world).members().await.unwrap();
        assert_eq!(members.iter().filter(|member| member.voter).count(), count, "{members:?}");
    }
    world.cluster.wait_ready(SOON).await.unwrap();
    load.stop().await;

    world.step("a replica that holds an undecided HTLC is drained, and the HTLC is settled all the same");
    drained(&mut world).await;

    world.step("five become four become three, the leader first");
    let load = Payments::start(&world);
    for count in [4, 3] {
        let leader = world.cluster.leader().await.unwrap();
        let id = world.cluster.replicas[leader].id;
        let other = (leader + 1) % world.cluster.replicas.len();
        world.cluster.replicas[other].client.remove_member(id, false).await.unwrap();
        let status = world.cluster.replicas[leader].process.ended(SOON).await.unwrap();
        assert!(status.success(), "{status}");
        world.cluster.forget(leader);
        load.go_on(3).await;
        let members = any(&mut world).members().await.unwrap();
        assert!(members.len() == count && members.iter().all(|member| member.id != id), "{members:?}");
    }
    load.stop().await;
    world.cluster.wait_ready(SOON).await.unwrap();

    world.step("with three, a replica is not given away without force");
    let refused = any(&mut world).remove_member(world.cluster.replicas[0].id, false).await.unwrap_err();
    assert!(refused.to_string().contains("the next failure stops the cluster"), "{refused}");
    world.reckon().await;
}

async fn drained(world: &mut World) {
    let client = any(world);
    client.set_auto_settle(false).await.unwrap();
    let (text, hash) = world.invoice(300_000).await;
    let alice = world.cluster.lnds[ALICE].node;
    let paying =
        world.begin(PaymentPlan::new("held while its replica is drained", text, 1).only_through(alice));
    world.wait_state(hash, InvoiceState::Accepted).await;
    let owner = world.cluster.owner_of(alice).await.unwrap();
    let began = Instant::now();
    let report = world.cluster.replicas[owner].client.drain(DRAIN_MAX).await.unwrap();
    assert_eq!(report.not_done, Vec::<String>::new());
    assert_ne!(report.leader, world.cluster.replicas[owner].id);
    let status = world.cluster.replicas[owner].process.ended(DRAIN_MAX).await.unwrap();
    assert!(status.success() && began.elapsed() < DRAIN_MAX, "{status} after {:?}", began.elapsed());
    let other = any(world);
    other.settle(hash).await.unwrap();
    other.set_auto_settle(true).await.unwrap();
    let record = paying.await.unwrap();
    assert_eq!(record.settled_msat(), 300_000, "{record:?}");
    world.cluster.restart_replica(owner).unwrap();
    world.cluster.wait_ready(SOON).await.unwrap();
}

/// A client of a replica that is up.
fn any(world: &mut World) -> ReplicaClient {
    let up =
        world.cluster.replicas.iter_mut().find_map(|replica| replica.is_up().then(|| replica.client.clone()));
    up.unwrap()
}

/// Payments one after the other until it is stopped; the ledger tells at the end whether one was lost.
struct Payments {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Payments {
    fn start(world: &World) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (load, until, count) = (world.load.clone(), Arc::clone(&stop), Arc::clone(&done));
        let task = tokio::spawn(async move {
            while !until.load(Ordering::Relaxed) {
                load.run(Job::Pay { stored: true, open_amount: false, parts: 2 }).await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { stop, done, task }
    }

    /// Waits for so many more.
    async fn go_on(&self, more: usize) {
        let enough = self.done.load(Ordering::Relaxed) + more;
        let began = Instant::now();
        while self.done.load(Ordering::Relaxed) < enough {
            assert!(began.elapsed() < SOON * 2 && !self.task.is_finished(), "payments have stopped");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
    }
}
