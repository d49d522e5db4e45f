//! The README's first command, as a user runs it, and as a user ends it.

#![allow(clippy::unwrap_used, clippy::panic)] // test code, outside of test functions

use mux_chaos::cluster::{ReplicaClient, until};
use mux_proto::mux::v1::AddInvoiceRequest;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

const SOON: Duration = Duration::from_secs(30);

fn demo() -> Command {
    Command::new(env!("CARGO_BIN_EXE_demo"))
}

#[test]
fn demo_pays_through_two_kills_and_its_ledger_balances() {
    let output = demo().args(["--payments", "30", "--json", "--seed", "7"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    let line: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    let count = |name: &str| line[name].as_u64().unwrap_or_else(|| panic!("{name} in {line}"));
    assert_eq!(count("payments"), 30, "{line}");
    assert_eq!(count("settled") + count("failed") + count("partial"), 30, "{line}");
    assert_eq!(count("partial"), 0);
    assert_eq!(count("violations"), 0);
    assert_eq!(count("replicas_killed"), 2);
    assert_eq!(count("failed_unintended"), 0, "{line}");
    let failover = &line["failover_ms"];
    assert!(failover["p50"].as_u64() > Some(0), "measured: {line}");
    assert!(failover["p50"].as_u64() <= failover["p95"].as_u64());
    assert!(failover["p95"].as_u64() <= failover["max"].as_u64());
}

/// A kept cluster, ready.
struct Kept {
    demo: Child,
    endpoints: Value,
}

impl Kept {
    fn start() -> Self {
        let mut demo =
            demo().args(["--payments", "0", "--keep", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(demo.stdout.take().unwrap()).lines();
        let line = lines.map(Result::unwrap).find(|line| line.starts_with('{')).expect("a line for machines");
        let line: Value = serde_json::from_str(&line).unwrap();
        Self { demo, endpoints: line["endpoints"].clone() }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.demo.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    fn all(&self, kind: &str, field: &str) -> Vec<String> {
        let entries = self.endpoints[kind].as_array().unwrap();
        entries.iter().map(|entry| entry[field].to_string().trim_matches('"').to_owned()).collect()
    }

    fn dir(&self) -> PathBuf {
        PathBuf::from(self.endpoints["dir"].as_str().unwrap())
    }

    /// Waits until every process of the cluster is gone.
    async fn wait_gone(&self) {
        let pids = [self.all("replicas", "pid"), self.all("lnd", "pid")].concat();
        assert_eq!(pids.len(), 5);
        until("every process is gone", SOON, || {
            std::future::ready(pids.iter().all(|pid| is_gone(pid)).then_some(()))
        })
        .await
        .unwrap();
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.demo.kill();
        let _ = self.demo.wait();
    }
}

fn is_gone(pid: &str) -> bool {
    match std::fs::read_to_string(Path::new("/proc").join(pid).join("stat")) {
        Err(_) => true,
        Ok(stat) => stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')),
    }
}

#[tokio::test]
async fn kept_cluster_can_be_paid_until_it_is_told_to_end() {
    let mut kept = Kept::start();
    let address = kept.all("replicas", "grpc")[1].parse().unwrap();
    let client = ReplicaClient::new(address, &kept.dir().join("cluster")).unwrap();
    let request = AddInvoiceRequest { amount_msat: 50_000, ..AddInvoiceRequest::default() };
    let invoice = client.add_invoice(request).await.unwrap().payment_request;
    for metrics in kept.all("replicas", "metrics") {
        std::net::TcpStream::connect(metrics).unwrap();
    }
    let mut pay = demo();
    pay.arg("pay");
    for control in kept.all("lnd", "control") {
        pay.args(["--lnd", &control]);
    }
    let paid = pay.args(["--parts", "2", &invoice]).output().unwrap();
    assert!(paid.status.success(), "{paid:?}");

    kept.signal(Signal::TERM);
    assert!(kept.demo.wait().unwrap().success());
    kept.wait_gone().await;
    assert!(!kept.dir().exists(), "the temporary directory is removed");
}

#[tokio::test]
async fn no_process_outlives_a_killed_demo() {
    let kept = Kept::start();
    kept.signal(Signal::KILL);
    kept.wait_gone().await;
    std::fs::remove_dir_all(kept.dir()).unwrap();
}
