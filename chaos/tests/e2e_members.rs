//! A cluster that grows and shrinks by what an operator types, while payments go on.

#![allow(clippy::unwrap_used, clippy::panic)] // test code, outside of test functions

mod e2e_support;

use e2e_support::{SOON, World, payments::Payments};
use mux_chaos::cluster::until;

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

/// What the table says of one replica.
fn row(members: &str, id: &str) -> Vec<String> {
    let rows = members.lines().map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    rows.into_iter().find(|row| row.first().is_some_and(|first| first == id)).unwrap_or_default()
}
