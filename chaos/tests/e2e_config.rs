//! What changes in a running cluster without any restart: front nodes, and certificates.

#![allow(clippy::unwrap_used, clippy::panic)] // test code, outside of test functions

mod e2e_support;

use clap::Parser as _;
use e2e_support::{ALICE, BOB, SOON, World};
use mux_chaos::{
    cluster::{ReplicaClient, fetch, until},
    ledger::{Expectation, PartEnd},
    payer::{Patience, PaymentPlan, TEMPORARY_CHANNEL_FAILURE},
};
use mux_proto::mux::v1::{FrontNodeStatus, InvoiceState, Settings};
use mux_raft::{machine::level::REMOVAL_FAILS_SETS, types::NodePubkey};
use muxd::muxcli::{self, Cli, Failure};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};

/// Files are looked at every 10 s, and a node that refuses is tried again after some more.
const EXCHANGED_MAX: Duration = Duration::from_secs(60);

/// More than any HTLC of a payment has left.
const BLOCKS_TO_EXPIRY: u32 = 200;

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
    // It needs a feature level to which a new cluster rises by itself.
    until("the cluster is new no more", SOON, || async { add(&world, &address, &[]).await.ok() })
        .await
        .unwrap();
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
async fn a_forced_removal_refuses_the_payment_that_waits_there_as_a_whole() {
    let mut world = World::start(|options| {
        options.lnds = 3;
        options.spare_lnds = 1;
    })
    .await;
    let carol = world.cluster.lnds[CAROL].node;
    carol_joins(&mut world).await;
    let by_hand = |auto_settle| Settings { auto_settle: Some(auto_settle), ..Settings::default() };
    world.cluster.replicas[0].client.update_settings(by_hand(false)).await.unwrap();

    world.step("a payment over all three waits for its application");
    let (text, hash) = world.invoice(600_000).await;
    let plan = PaymentPlan::new("held", text, 3).expecting(Expectation::Any);
    let payer = world.load.payer().with_patience(Patience { attempts_per_part: 1, ..Patience::default() });
    let paying = tokio::spawn(async move { payer.pay(&plan).await.unwrap() });
    world.wait_state(hash, InvoiceState::Accepted).await;
    for lnd in [ALICE, BOB, CAROL] {
        assert_eq!(world.htlcs(lnd, hash).await.len(), 1);
    }

    world.step("carol is not removed under it, but by force");
    let refused = world.said(1, &["front-node", "remove", "carol"]).await;
    assert!(
        refused.code == Some(1) && refused.err.contains("the end of 1 HTLCs at this node"),
        "{refused:?}"
    );
    assert_eq!(world.wait_state(hash, InvoiceState::Accepted).await.amount_received_msat, 0);
    let removed = world.cli(1, &["front-node", "remove", "carol", "--force"]).await;
    assert!(removed.starts_with("front node carol is removed"), "{removed}");

    world.step("the payer has its other parts back at once, and the invoice is open again");
    for lnd in [ALICE, BOB] {
        world.wait_htlc(lnd, hash, |htlc| htlc.outcome.is_some() && !htlc.preimage_revealed).await;
    }
    world.wait_state(hash, InvoiceState::Open).await;
    let late = world.said(0, &["invoice", "settle", &hash.to_string()]).await;
    assert!(!late.done(), "there is nothing to settle: {late:?}");

    world.step("no replica warns of a certificate that nobody uses any more");
    until("carol's certificate never ends", EXCHANGED_MAX, || async {
        let ends = certificates_ends(&world, "carol").await;
        (ends.len() == 3 && ends.iter().all(|end| end.is_infinite())).then_some(())
    })
    .await
    .unwrap();

    world.step("carol's own LND gives its part back when its time is over; nothing was paid");
    world.mine(BLOCKS_TO_EXPIRY).await;
    let id = tokio::time::timeout(SOON, paying).await.unwrap().unwrap();
    let record = world.ledger.payment(id);
    let failed = |code| {
        let of_code = |end: &PartEnd| matches!(end, PartEnd::Failed(failure) if failure.code == code);
        record
            .parts
            .iter()
            .filter(|part| part.front != carol && part.end.as_ref().is_some_and(of_code))
            .count()
    };
    assert_eq!((record.settled_msat(), failed(TEMPORARY_CHANNEL_FAILURE)), (0, 2), "{record:#?}");

    world.step("over the others payments go on");
    world.cluster.replicas[0].client.update_settings(by_hand(true)).await.unwrap();
    let (text, _) = world.invoice(600_000).await;
    world.pay_well(PaymentPlan::new("without carol", text, 2)).await;
    world.reckon().await;
}

/// She is linked, her certificate is watched, and her removal will fail sets.
async fn carol_joins(world: &mut World) {
    let (address, carol) = (world.cluster.lnds[CAROL].grpc.to_string(), world.cluster.lnds[CAROL].node);
    until("carol is added", SOON, || async { add(world, &address, &[]).await.ok() }).await.unwrap();
    everywhere(world, carol, |front| front.is_some_and(|front| front.healthy)).await;
    until("removals fail sets", SOON, || async {
        let status = world.cluster.replicas[0].client.status().await.ok()?;
        (status.feature_level >= u32::from(REMOVAL_FAILS_SETS)).then_some(())
    })
    .await
    .unwrap();
    until("every replica watches carol's certificate", EXCHANGED_MAX, || async {
        let ends = certificates_ends(world, "carol").await;
        (ends.len() == 3 && ends.iter().all(|end| end.is_finite())).then_some(())
    })
    .await
    .unwrap();
}

/// When the certificate of this front node ends, by the metrics of each replica that shows it; seconds.
async fn certificates_ends(world: &World, alias: &str) -> Vec<f64> {
    let series = format!("mux_certificate_expiry_timestamp_seconds{{certificate=\"lnd-{alias}\"}}");
    let mut ends = Vec::new();
    for replica in &world.cluster.replicas {
        let page = String::from_utf8(fetch(replica.metrics, "/metrics").await.unwrap()).unwrap();
        ends.extend(page.lines().filter_map(|line| line.strip_prefix(&series)?.trim().parse::<f64>().ok()));
    }
    ends
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

/// Macaroon and certificate of an LND as Kubernetes mounts a secret: the files point into a directory that is exchanged
/// as a whole.
struct Secret(PathBuf);

impl Secret {
    const FILES: [&str; 2] = ["tls.cert", "macaroon"];

    fn mount(dir: PathBuf, contents: [&[u8]; 2]) -> Self {
        std::fs::create_dir(&dir).unwrap();
        let secret = Self(dir);
        secret.swap("v1", contents);
        for file in Self::FILES {
            symlink(format!("..data/{file}"), secret.0.join(file)).unwrap();
        }
        secret
    }

    fn swap(&self, version: &str, contents: [&[u8]; 2]) {
        let dir = self.0.join(version);
        std::fs::create_dir(&dir).unwrap();
        for (file, content) in Self::FILES.iter().zip(contents) {
            std::fs::write(dir.join(file), content).unwrap();
        }
        let new = self.0.join("..data_tmp");
        symlink(version, &new).unwrap();
        std::fs::rename(new, self.0.join("..data")).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_lnds_certificate_and_macaroon_are_exchanged_by_swapped_symlinks_and_the_link_goes_on() {
    let mut world = World::start(|_| {}).await;
    let lnd = &world.cluster.lnds[ALICE];
    let (alice, lnd_dir) = (lnd.node, lnd.tls_cert.parent().unwrap().to_owned());
    let read = |file: &str| std::fs::read(lnd_dir.join(file)).unwrap();
    let (cert, macaroon, narrow) = (read("tls.cert"), read("admin.macaroon"), read("multiplexer.macaroon"));
    let secret = Secret::mount(world.cluster.dir().join("secret"), [&cert, &macaroon]);
    for at in 0..3 {
        world.cluster.replicas[at].process.terminate(SOON).await.unwrap();
        let config = world.cluster.replicas[at].dir.join("muxd.toml");
        let mut text = std::fs::read_to_string(&config).unwrap();
        for (was, is) in ["tls.cert", "admin.macaroon"].into_iter().zip(Secret::FILES) {
            let (was, is) = (lnd_dir.join(was), secret.0.join(is));
            assert!(text.contains(was.to_str().unwrap()), "{text}");
            text = text.replace(was.to_str().unwrap(), is.to_str().unwrap());
        }
        std::fs::write(&config, text).unwrap();
        world.cluster.restart_replica(at).unwrap();
    }
    world.cluster.wait_ready(EXCHANGED_MAX).await.unwrap();
    // What is put there before a replica's first look at the files is never another one to it.
    let all = world.cluster.replicas.len();
    until("the first looks", SOON, || async {
        (certificates_ends(&world, "alice").await.len() == all).then_some(())
    })
    .await
    .unwrap();
    let pids = world.cluster.replicas.iter().map(|replica| replica.process.pid()).collect::<Vec<_>>();

    world.step("another macaroon is put there: the link goes on, and every replica has seen it");
    secret.swap("v2", [&cert, &narrow]);
    for replica in &world.cluster.replicas {
        logged(replica.process.log(), "reloaded: new connections use it what=\"macaroon-alice\"").await;
    }
    paid_over(&world, alice).await;

    world.step("the old macaroon is revoked: whoever connects anew is welcome with the new one");
    world.cluster.lnds[ALICE].process.kill().await.unwrap();
    std::fs::write(lnd_dir.join("admin.macaroon"), &narrow).unwrap();
    world.cluster.restart_lnd(ALICE).await.unwrap();
    everywhere(&mut world, alice, |front| front.is_some_and(|front| front.healthy)).await;
    paid_over(&world, alice).await;

    world.step("LND makes itself a new certificate: its link is refused until that is there, too");
    world.cluster.lnds[ALICE].process.kill().await.unwrap();
    for file in ["tls.cert", "tls.key"] {
        std::fs::remove_file(lnd_dir.join(file)).unwrap();
    }
    world.cluster.restart_lnd(ALICE).await.unwrap();
    seen(&world, alice, |front| front.link_state.contains("presents is not the one in")).await;
    let renewed = std::fs::read(lnd_dir.join("tls.cert")).unwrap();
    assert_ne!(renewed, cert);

    world.step("with it, but the revoked macaroon, LND refuses");
    secret.swap("v3", [&renewed, &macaroon]);
    seen(&world, alice, |front| front.link_state.contains("verification failed")).await;

    world.step("with both as they should be the link is back, and nothing was restarted");
    secret.swap("v4", [&renewed, &narrow]);
    seen(&world, alice, |front| front.healthy).await;
    paid_over(&world, alice).await;
    assert_eq!(world.cluster.replicas.iter().map(|replica| replica.process.pid()).collect::<Vec<_>>(), pids);
    assert!(world.cluster.replicas.iter_mut().all(mux_chaos::cluster::Replica::is_up));
    world.reckon().await;
}

async fn paid_over(world: &World, node: NodePubkey) {
    let (text, _) = world.invoice(400_000).await;
    world.pay_well(PaymentPlan::new("over this one", text, 1).only_through(node)).await;
}

/// Waits until every replica sees a front node so, which takes as long as its pauses between tries.
async fn seen(world: &World, node: NodePubkey, fits: impl Fn(&FrontNodeStatus) -> bool) {
    let last = parking_lot::Mutex::new(Vec::new());
    until("every replica sees the front node so", EXCHANGED_MAX, || async {
        let mut all = Vec::new();
        for replica in &world.cluster.replicas {
            let status = replica.client.status().await.ok()?;
            all.extend(status.front_nodes.into_iter().filter(|front| front.pub_key.as_ref() == node.0));
        }
        let fit = all.len() == world.cluster.replicas.len() && all.iter().all(&fits);
        *last.lock() = all;
        fit.then_some(())
    })
    .await
    .unwrap_or_else(|error| panic!("{error}: {:#?}", last.lock()));
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
