//! A cluster is lost for good and begins anew from a backup that is older than what it did last.

#![allow(clippy::unwrap_used, clippy::panic)] // test code, outside of test functions

mod e2e_support;

use clap::Parser as _;
use e2e_support::{ALICE, BOB, SOON, World};
use mux_chaos::{cluster::until, ledger::PaymentEnd, payer::PaymentPlan};
use mux_proto::{
    lndsim::v1::{RestartRequest, Stage},
    mux::v1::{GetStatusResponse, InvoiceState},
};
use muxd::muxcli;
use std::{
    path::{Path, PathBuf},
    process::{Child, Output, Stdio},
    sync::Mutex,
    time::Duration,
};

const AMOUNT_MSAT: u64 = 400_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lnd_settled_after_the_backup_is_settled_in_full_by_the_restored_cluster() {
    let mut world = World::start(|_| {}).await;
    let (text, paid) = world.invoice(AMOUNT_MSAT).await;
    world.pay_well(PaymentPlan::new("paid before the backup", text, 2)).await;
    world.wait_state(paid, InvoiceState::Settled).await;
    let (later, _) = world.invoice(AMOUNT_MSAT).await;

    world.step("a backup is saved while both parts of a payment are held");
    cli(&world, &["settings", "--auto-settle", "false"]).await;
    world.limit(BOB, Stage::Mailbox).await;
    let (text, torn) = world.invoice(AMOUNT_MSAT).await;
    let paying = world.begin(PaymentPlan::new("decided after the backup", text, 2));
    world.wait_state(torn, InvoiceState::Accepted).await;
    let backup = world.cluster.dir().join("backup");
    cli(&world, &["backup", "save", path(&backup)]).await;
    cli(&world, &["backup", "inspect", path(&backup)]).await;

    world.step("the decision is taken; one part becomes final, the other one's answer is lost");
    cli(&world, &["invoice", "settle", &torn.to_string()]).await;
    world.wait_htlc(ALICE, torn, |htlc| htlc.stage() == Stage::Final).await;
    world.wait_htlc(BOB, torn, |htlc| !htlc.answers.is_empty()).await;
    for replica in &mut world.cluster.replicas {
        replica.process.kill().await.unwrap();
    }
    world.cluster.lnds[BOB].control().restart(RestartRequest::default()).await.unwrap();
    world.limit(BOB, Stage::Final).await;

    world.step("a new cluster of one replica begins from the backup");
    restore(&mut world, &backup);
    let status = wait_status(&world, |status| {
        status.restoration.as_ref().is_some_and(|restored| restored.in_doubt.is_empty())
    })
    .await;
    let restored = status.restoration.unwrap();
    assert_eq!((restored.asked, restored.differences.len()), (2, 1), "{restored:?}");
    assert!(restored.differences[0].what.starts_with("settled after the backup"), "{restored:?}");

    world.step("the other part is settled, too, and what was paid stays paid");
    let record = paying.await.unwrap();
    assert_eq!(record.ends, [PaymentEnd::Settled], "{record:?}");
    let invoice = world.wait_state(torn, InvoiceState::Settled).await;
    assert_eq!(invoice.amount_received_msat, AMOUNT_MSAT);
    world.wait_state(paid, InvoiceState::Settled).await;

    world.step("the new cluster is paid");
    cli(&world, &["settings", "--auto-settle", "true"]).await;
    world.pay_well(PaymentPlan::new("after the restoration", later, 2)).await;
    world.reckon().await;
}

/// Runs `muxcli` against the first replica.
async fn cli(world: &World, arguments: &[&str]) {
    let replica = &world.cluster.replicas[0];
    let (grpc, cert) = (replica.grpc.to_string(), path(&world.cluster.tls_cert).to_owned());
    let target = ["muxcli", "--rpc", &grpc, "--tls-cert", &cert, "--macaroon", path(&world.cluster.macaroon)];
    let cli = muxcli::Cli::try_parse_from(target.iter().chain(arguments)).unwrap();
    muxcli::run(cli).await.unwrap_or_else(|failure| panic!("{arguments:?}: {failure}"));
}

/// The first replica, alone, under another cluster's name and in a new data directory.
fn restore(world: &mut World, backup: &Path) {
    world.cluster.replicas.truncate(1);
    let config = config_of(world);
    let text = std::fs::read_to_string(&config).unwrap();
    let renamed = text.replacen("name = \"mux\"", "name = \"mux-2\"", 1);
    assert_ne!(text, renamed, "{text}");
    let data = world.cluster.replicas[0].dir.join(data_dir(&renamed));
    std::fs::write(&config, &renamed).unwrap();
    let executable = world.cluster.options().executable.path().to_owned();
    let run = |backup: &Path| {
        // Its standard input must stay open: a child of the demo ends with its parent.
        std::process::Command::new(&executable)
            .args(["__muxd", "restore", "--new-cluster", "--config", path(&config), path(backup)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map(Closing)
            .unwrap()
            .wait()
    };
    let founders = run(backup);
    let why = String::from_utf8_lossy(&founders.stderr).into_owned();
    assert!(founders.status.code() == Some(64) && why.contains("must name replica 1 alone"), "{why}");
    std::fs::write(&config, alone(&renamed)).unwrap();
    let refused = run(backup);
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(64) && why.contains("is not empty"), "{why}");
    std::fs::remove_dir_all(&data).unwrap();
    let done = run(backup);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(said.contains("2 HTLCs are in doubt"), "{said}");
    world.cluster.restart_replica(0).unwrap();
}

/// A child whose standard input closes when it has ended.
struct Closing(Child);

impl Closing {
    fn wait(mut self) -> Output {
        let stdin = self.0.stdin.take();
        let output = self.0.wait_with_output().unwrap();
        drop(stdin);
        output
    }
}

/// The same configuration with the first replica as the only founder.
fn alone(config: &str) -> String {
    let (before, members) = config.split_once("[cluster.initial_members]\n").unwrap();
    let mut lines = members.lines();
    let own = lines.next().unwrap();
    let rest: Vec<_> = lines.skip_while(|line| line.contains(" = \"")).collect();
    assert!(own.starts_with("1 = "), "{own}");
    format!("{before}[cluster.initial_members]\n{own}\n{}\n", rest.join("\n"))
}

fn config_of(world: &World) -> PathBuf {
    world.cluster.replicas[0].dir.join("muxd.toml")
}

fn data_dir(config: &str) -> PathBuf {
    let config: toml::Table = config.parse().unwrap();
    config["raft"]["data_dir"].as_str().unwrap().into()
}

async fn wait_status(world: &World, fits: impl Fn(&GetStatusResponse) -> bool) -> GetStatusResponse {
    let last = Mutex::new(String::from("no answer"));
    let client = &world.cluster.replicas[0].client;
    until("the restored replica says so", SOON + Duration::from_secs(20), || async {
        let status = client.status().await;
        *last.lock().unwrap() = format!("{status:?}");
        status.ok().filter(&fits)
    })
    .await
    .unwrap_or_else(|error| panic!("{error}: {}", last.lock().unwrap()))
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}
