//! A cluster that grows and shrinks by what an operator types, while payments go on.

#![allow(clippy::unwrap_used, clippy::panic)] // test code, outside of test functions

mod e2e_support;

use e2e_support::{SOON, World, payments::Payments};
use mux_chaos::cluster::until;
use mux_raft::machine::level::ARCHIVE;

/// `muxcli`: the cluster said no.
const REFUSED: Option<i32> = Some(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_grows_and_shrinks_while_payments_go_on() {
    let mut world = World::start(|_| {}).await;
    let load = Payments::start(&world);

    world.step("the fourth learns first, and is promoted by another command");
    let (_, address) = world.cluster.start_another(4, &[]).await.unwrap();
    let said = world.cli(1, &["member", "add", "4", &address, "--learner"]).await;
    assert_eq!(said, "replica 4 learns\n");
    let members = world.cli(2, &["member", "list"]).await;
    assert!(row(&members, "4").contains(&"learner".to_owned()), "{members}");
    until("the fourth may vote", SOON, || async {
        world.said(3, &["member", "promote", "4"]).await.done().then_some(())
    })
    .await
    .unwrap();
    load.go_on(3).await;
    world.wait_members(3, 4).await;

    world.step("the fifth copies the log and votes, by one call of a program");
    let (_, address) = world.cluster.start_another(5, &[]).await.unwrap();
    world.cluster.replicas[0].client.add_member(5, &address, SOON * 3).await.unwrap();
    load.go_on(3).await;
    world.wait_members(4, 5).await;

    world.step("an id that was used, and an address that is taken, are refused");
    let again = world.said(0, &["member", "add", "5", "127.0.0.1:1"]).await;
    assert!(again.code == REFUSED && again.err.contains("replica 5 is a member already"), "{again:?}");

    world.step("five become four become three, the leader first");
    for count in [4, 3] {
        let leader = world.cluster.leader().await.unwrap();
        let id = world.cluster.replicas[leader].id;
        let other = (leader + 1) % world.cluster.replicas.len();
        let said = world.cli(other, &["member", "remove", &id.to_string()]).await;
        assert_eq!(said, format!("replica {id} is removed\n"));
        let status = world.cluster.replicas[leader].process.ended(SOON).await.unwrap();
        assert!(status.success(), "{status}");
        world.cluster.forget(leader);
        load.go_on(3).await;
        world.wait_members(0, count).await;
        let members = world.cli(0, &["member", "list"]).await;
        assert!(row(&members, &id.to_string()).is_empty(), "{members}");
    }
    load.stop().await;
    world.cluster.wait_ready(SOON).await.unwrap();

    world.step("with three, a replica is not given away without force");
    let id = world.cluster.replicas[0].id.to_string();
    let refused = world.said(1, &["member", "remove", &id]).await;
    assert!(
        refused.code == REFUSED && refused.err.contains("the next failure stops the cluster"),
        "{refused:?}"
    );
    world.reckon().await;
}

/// As a chart does that is scaled up: it names the newcomer in every configuration, and restarts all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_every_configuration_names_says_how_to_add_it_and_joins() {
    let mut world = World::start(|_| {}).await;
    until("the log remembers removals", SOON, || async {
        let status = world.cluster.replicas[0].client.status().await.ok()?;
        (status.feature_level >= u32::from(ARCHIVE)).then_some(())
    })
    .await
    .unwrap();
    let (_, address) = world.cluster.start_another(4, &[]).await.unwrap();

    world.step("every configuration names the fourth, and all are restarted");
    for at in 0..4 {
        world.cluster.replicas[at].process.terminate(SOON).await.unwrap();
        let config = world.cluster.replicas[at].dir.join("muxd.toml");
        let members = "[cluster.initial_members]\n";
        let text = std::fs::read_to_string(&config).unwrap();
        assert!(text.contains(members), "{text}");
        let text = text.replace(members, &format!("{members}4 = \"{address}\"\n"));
        std::fs::write(&config, text.replace("\njoin = true\n", "\njoin = false\n")).unwrap();
        world.cluster.restart_replica(at).unwrap();
    }
    world.wait_members(0, 3).await;

    world.step("it runs, and says what to type");
    let add = format!("muxcli member add 4 {address}");
    let log = world.cluster.replicas[3].process.log().to_owned();
    until("it says how to add it", SOON, || async {
        std::fs::read_to_string(&log).ok()?.contains(&add).then_some(())
    })
    .await
    .unwrap();
    let typed: Vec<_> = add.split(' ').skip(1).collect();
    world.cli(0, &typed).await;
    world.wait_members(3, 4).await;
    assert!(!std::fs::read_to_string(&log).unwrap().contains("was removed"));

    world.step("once removed it is removed, whatever the configurations say");
    world.cli(0, &["member", "remove", "4"]).await;
    let status = world.cluster.replicas[3].process.ended(SOON).await.unwrap();
    assert!(status.success(), "{status}");
    world.cluster.forget(3);
    let again = world.said(0, &typed).await;
    assert!(again.code == REFUSED && again.err.contains("replica 4 was removed"), "{again:?}");
    world.cluster.wait_ready(SOON).await.unwrap();
    world.reckon().await;
}

/// What the table says of one replica.
fn row(members: &str, id: &str) -> Vec<String> {
    let rows = members.lines().map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    rows.into_iter().find(|row| row.first().is_some_and(|first| first == id)).unwrap_or_default()
}
