//! What changes in a running cluster without any restart: front nodes, and certificates.

#![allow(clippy::unwrap_used, clippy::panic)] // test code, outside of test functions

mod e2e_support;

use clap::Parser as _;
use e2e_support::{SOON, World};
use mux_chaos::{
    cluster::{ReplicaClient, until},
    payer::PaymentPlan,
};
use mux_proto::mux::v1::FrontNodeStatus;
use mux_raft::types::NodePubkey;
use muxd::muxcli::{self, Cli, Failure};
use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;

/// The LND node that is in no configuration.
const CAROL: usize = 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn front_nodes_come_rest_and_go_without_a_restart() {
    let mut world = World::start(|options| {
        options.lnds = 3;
        options.spare_lnds = 1;
    })
    .await;
    let carol = world.cluster.lnds[CAROL].node;

    world.step("a node that is not there is not added");
    let refused = add(&world, "127.0.0.1:1", &[]).await.unwrap_err();
    assert!(matches!(&refused, Failure::Refused(why) if why.contains("cannot use this node")), "{refused}");

    world.step("every replica links to a node that is added, and invoices name it");
    let address = world.cluster.lnds[CAROL].grpc.to_string();
    add(&world, &address, &[]).await.unwrap();
    everywhere(&mut world, carol, |front| {
        front.is_some_and(|front| front.healthy && !front.link_state.starts_with("disconnected"))
    })
    .await;
    let (text, _) = world.invoice(400_000).await;
    world.pay_well(PaymentPlan::new("over carol", text, 2).only_through(carol)).await;

    world.step("a disabled node is in no new invoice, and what older ones promise is received");
    let (older, _) = world.invoice(300_000).await;
    cli(&world, &["front-node", "disable", "carol"]).await.unwrap();
    everywhere(&mut world, carol, |front| front.is_some_and(|front| !front.healthy)).await;
    let (newer, _) = world.invoice(300_000).await;
    let unreachable = PaymentPlan::new("not over carol", newer.clone(), 1).only_through(carol);
    assert!(world.load.payer().pay(&unreachable).await.is_err(), "the invoice does not name carol");
    world.pay_well(PaymentPlan::new("newer", newer, 1)).await;
    world.pay_well(PaymentPlan::new("older, over carol", older, 1).only_through(carol)).await;

    world.step("a removed node is gone everywhere, also after a restart of a replica");
    until("carol's HTLCs are over", SOON, || async {
        cli(&world, &["front-node", "remove", "carol"]).await.ok()
    })
    .await
    .unwrap();
    everywhere(&mut world, carol, |front| front.is_none()).await;
    world.cluster.replicas[0].process.kill().await.unwrap();
    world.cluster.restart_replica(0).unwrap();
    everywhere(&mut world, carol, |front| front.is_none()).await;

    world.step("it comes back under its old name, with another fee");
    add(&world, &address, &["--fee-base-msat", "7"]).await.unwrap();
    everywhere(&mut world, carol, |front| {
        front.is_some_and(|front| front.healthy && front.fee_base_msat == 7 && !front.link_state.is_empty())
    })
    .await;
    let (text, _) = world.invoice(400_000).await;
    world.pay_well(PaymentPlan::new("over carol again", text, 2).only_through(carol)).await;

    world.reckon().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_exchanged_without_a_restart() {
    let world = World::start(|_| {}).await;
    let replica = &world.cluster.replicas[0];
    let (address, pid) = (replica.grpc, replica.process.pid());
    let (cert, key) = (replica.dir.join("api.pem"), replica.dir.join("api.key"));
    let old = world.cluster.dir().join("old");
    std::fs::create_dir(&old).unwrap();
    for name in ["api.pem", "admin.macaroon"] {
        std::fs::copy(replica.dir.join(name), old.join(name)).unwrap();
    }

    world.step("a file that cannot be used changes nothing");
    let sound = std::fs::read(&cert).unwrap();
    std::fs::write(&cert, "no certificate").unwrap();
    hang_up(pid);
    logged(replica.process.log(), "cannot be reloaded").await;
    assert!(answers(address, &old).await, "the old certificate is still in use");
    std::fs::write(&cert, sound).unwrap();

    world.step("new connections get the new certificate");
    let new_key = rcgen::KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let new_cert = rcgen::CertificateParams::new(names).unwrap().self_signed(&new_key).unwrap();
    std::fs::write(&cert, new_cert.pem()).unwrap();
    std::fs::write(&key, new_key.serialize_pem()).unwrap();
    // No signal: the replica looks by itself.
    until("the new certificate is shown", SOON, || async {
        answers(address, &replica.dir).await.then_some(())
    })
    .await
    .unwrap();
    assert!(!answers(address, &old).await, "new connections do not get the old one");
    assert!(replica.client.status().await.is_ok(), "a connection that was up goes on");
}

/// A new connection, trusting what lies in this directory.
async fn answers(address: std::net::SocketAddr, dir: &Path) -> bool {
    let Ok(client) = ReplicaClient::new(address, dir) else { return false };
    client.status().await.is_ok()
}

fn hang_up(pid: u32) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, Signal::HUP).unwrap();
}

async fn logged(log: &Path, text: &str) {
    let found = || std::fs::read_to_string(log).unwrap().contains(text).then_some(());
    until(text, SOON, || std::future::ready(found())).await.unwrap();
}

async fn add(world: &World, address: &str, further: &[&str]) -> Result<(), Failure> {
    let carol = &world.cluster.lnds[CAROL];
    let (node, cert) = (carol.node.to_string(), carol.tls_cert.to_str().unwrap());
    let what = ["front-node", "add", &node, "--alias", "carol", "--endpoint", address];
    let access = ["--lnd-cert", cert, "--lnd-macaroon", carol.macaroon.to_str().unwrap()];
    cli(world, &[&what[..], &access, further].concat()).await
}

/// As an operator types it, at the second replica.
async fn cli(world: &World, arguments: &[&str]) -> Result<(), Failure> {
    let rpc = world.cluster.replicas[1].grpc.to_string();
    let files = [world.cluster.tls_cert.to_str().unwrap(), world.cluster.macaroon.to_str().unwrap()];
    let target = ["muxcli", "--rpc", &rpc, "--tls-cert", files[0], "--macaroon", files[1]];
    let cli = Cli::try_parse_from([&target[..], arguments].concat()).unwrap();
    Box::pin(muxcli::run(cli)).await
}

/// Waits until every replica sees a front node so.
async fn everywhere(world: &mut World, node: NodePubkey, fits: impl Fn(Option<&FrontNodeStatus>) -> bool) {
    let clients: Vec<_> = world.cluster.replicas.iter().map(|replica| replica.client.clone()).collect();
    until("every replica sees the front node so", SOON, || async {
        for client in &clients {
            let status = client.status().await.ok()?;
            if !fits(status.front_nodes.iter().find(|front| front.pub_key.as_ref() == node.0)) {
                return None;
            }
        }
        Some(())
    })
    .await
    .unwrap();
}
