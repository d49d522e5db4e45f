//! All replicas are restarted, or upgraded, one after the other, while payments go on.

#![allow(clippy::unwrap_used, clippy::panic)] // test code, outside of test functions

mod e2e_support;

use e2e_support::{SOON, UNAVAILABLE, World, payments::Payments};
use mux_chaos::cluster::until;
use mux_raft::machine::{
    command::COMMAND_FORMAT,
    level::{ARCHIVE, FIRST},
};
use std::time::{Duration, Instant};

/// `shutdown.grace_secs`, and what a busy machine may take longer.
const GRACE_MAX: Duration = Duration::from_secs(20);

/// Several rounds in which the leader asks the others what they run.
const ROUNDS: Duration = Duration::from_millis(2_500);

/// Several rounds in which replicas ask each other for their versions, of which some may go unanswered.
const KNOWN_WITHIN: Duration = Duration::from_secs(60);

/// Payments after which the cluster is said to go on.
const SOME: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_loses_no_payment() {
    let mut world = World::start(|_| {}).await;
    let load = Payments::start(&world);
    for at in 0..3 {
        let name = world.cluster.replicas[at].name.clone();
        world.step(&format!("{name} is drained and started again"));
        world.drain(at).await;
        let status = world.cluster.replicas[at].process.ended(SOON).await.unwrap();
        assert!(status.success(), "{name}: {status}");
        load.go_on(SOME).await;
        world.cluster.restart_replica(at).unwrap();
        world.wait_members((at + 1) % 3, 3).await;
    }
    for at in 0..3 {
        let name = world.cluster.replicas[at].name.clone();
        world.step(&format!("{name} is ended by a signal and started again"));
        end(&mut world, at).await;
        load.go_on(SOME).await;
        world.cluster.restart_replica(at).unwrap();
        world.wait_members((at + 1) % 3, 3).await;
    }
    load.stop().await;
    world.cluster.wait_ready(SOON).await.unwrap();
    world.reckon().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_upgrade_from_the_first_version_raises_the_level_with_the_last_replica_and_loses_no_payment()
 {
    upgrade(FIRST).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_upgrade_from_the_second_version_does_so_too() {
    upgrade(ARCHIVE).await;
}

/// From a version that knows this level to the present one.
async fn upgrade(old: u16) {
    let mut world = World::start(|options| options.start_as.feature_level_max = Some(old)).await;
    let load = Payments::start(&world);
    load.go_on(SOME).await;
    rises_to(&world, old).await;

    let last = world.cluster.leader().await.unwrap();
    let others = [(last + 1) % 3, (last + 2) % 3];
    for at in others {
        let name = world.cluster.replicas[at].name.clone();
        world.step(&format!("{name} is upgraded"));
        end(&mut world, at).await;
        world.cluster.upgrade_replica(at, None).unwrap();
        follows(&mut world, &load, at).await;
    }
    for at in others {
        knows(&world, last, at, COMMAND_FORMAT).await;
    }
    assert_eq!(levels(&mut world).await, [old; 3], "one does not know more");

    world.step("what needs more is refused, and names the replica that is behind");
    let id = world.cluster.replicas[last].id;
    let keep = ["settings", "--keep-finished", "365"];
    let said = world.said(others[0], &keep).await;
    let named = format!("replica {id} runs");
    let refused = said.code == UNAVAILABLE && said.err.contains(&named);
    assert!(if old < ARCHIVE { refused } else { said.done() }, "{said:?}");
    let waits = format!("{old}; rises to {COMMAND_FORMAT} when replica {id} is upgraded");
    until("the status names it", KNOWN_WITHIN, || async {
        world.cli(others[0], &["status"]).await.contains(&waits).then_some(())
    })
    .await
    .unwrap();

    world.step("an upgraded replica is taken back, and upgraded again");
    let at = others[0];
    for version in [Some(old), None] {
        end(&mut world, at).await;
        world.cluster.upgrade_replica(at, version).unwrap();
        follows(&mut world, &load, at).await;
    }

    world.step("while the last one is away, the level stays");
    end(&mut world, last).await;
    let away = Instant::now();
    while away.elapsed() < ROUNDS {
        load.go_on(1).await;
    }
    assert_eq!(levels(&mut world).await, [old; 2]);

    world.step("with the last one the level rises by itself");
    world.cluster.upgrade_replica(last, None).unwrap();
    follows(&mut world, &load, last).await;
    rises_to(&world, COMMAND_FORMAT).await;
    world.cli(others[0], &keep).await;
    load.go_on(SOME).await;
    load.stop().await;
    world.reckon().await;
}

/// Every replica is at this level soon.
async fn rises_to(world: &World, level: u16) {
    let clients: Vec<_> = world.cluster.replicas.iter().map(|replica| replica.client.clone()).collect();
    until("the level rises everywhere", SOON, || async {
        for client in &clients {
            (client.status().await.ok()?.feature_level == u32::from(level)).then_some(())?;
        }
        Some(())
    })
    .await
    .unwrap();
}

/// SIGTERM: hands over and ends in time.
async fn end(world: &mut World, at: usize) {
    let status = world.cluster.replicas[at].process.terminate(GRACE_MAX).await.unwrap();
    assert!(status.success(), "{status}");
}

/// A replica that was started again follows the log, and payments go on.
async fn follows(world: &mut World, load: &Payments, at: usize) {
    world.wait_members((at + 1) % 3, 3).await;
    load.go_on(SOME).await;
}

/// One replica has heard which level another one knows.
async fn knows(world: &World, one: usize, other: usize, level: u16) {
    let (client, id) = (&world.cluster.replicas[one].client, world.cluster.replicas[other].id);
    until("its version is known", KNOWN_WITHIN, || async {
        let status = client.status().await.ok()?;
        let member = status.members.iter().find(|member| member.id == id)?;
        (member.feature_level_max == u32::from(level)).then_some(())
    })
    .await
    .unwrap();
}

/// The level as each replica that is up sees it.
async fn levels(world: &mut World) -> Vec<u16> {
    let statuses = world.cluster.statuses().await;
    statuses.iter().map(|status| u16::try_from(status.feature_level).unwrap()).collect()
}
