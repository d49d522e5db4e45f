//! A replica as a process: probes, metrics, an orderly end.

#![allow(clippy::unwrap_used, clippy::panic)]

mod ports;

use mux_raft::consensus::Consensus as _;
use mux_raft::machine::Command as LogCommand;
use mux_raft::machine::command::COMMAND_FORMAT;
use mux_raft::replica::{Replica as RaftReplica, ReplicaConfig, SnapshotConfig, Timing, TlsPaths};
use muxd::config::Config;
use muxd::init::{ClusterPlan, write_cluster};
use muxd::keys::{ClusterKeys, ClusterSeed};
use ports::free;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(60);

/// Ended with the test, whatever happens.
struct Replica(Child);

impl Drop for Replica {
    fn drop(&mut self) {
        // Gone already, as a rule.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Replica {
    fn start(config: &Path, log: &Path) -> Self {
        let log = std::fs::File::create(log).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_muxd"));
        command.arg("run").arg("--config").arg(config).env_remove("RUST_LOG");
        Self(command.stderr(log).stdout(Stdio::null()).spawn().unwrap())
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.0.id().to_string()).status();
        assert!(sent.unwrap().success());
    }

    fn exit_code(&mut self, within: Duration) -> Option<i32> {
        let until = Instant::now() + within;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < until, "it does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A cluster of `replicas` replicas on free ports.
fn plan(dir: &Path, replicas: u16) -> ClusterPlan {
    let mut plan = ClusterPlan::loopback(dir.join("cluster"), replicas);
    for replica in &mut plan.replicas {
        replica.raft_listen = free();
        replica.raft_address = replica.raft_listen.to_string();
        replica.api_listen = free();
        replica.metrics_listen = free();
    }
    plan
}

/// Status code and body; 0 while nobody listens.
fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let Ok(mut stream) = TcpStream::connect(address) else { return (0, String::new()) };
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    if stream.read_to_string(&mut text).is_err() {
        return (0, text);
    }
    let code = text.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    (code, text)
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !done() {
        assert!(Instant::now() < until, "{what} takes too long");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_replica_gets_ready_tells_its_metrics_and_ends_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut plan = plan(dir.path(), 1);
    plan.settings = vec![("log.format".into(), "\"json\"".into())];
    let written = write_cluster(&plan).unwrap();
    let (log, http) = (dir.path().join("log"), plan.replicas[0].metrics_listen);
    let mut replica = Replica::start(&written.replicas[0].config, &log);
    until("getting ready", || get(http, "/readyz").0 == 200);
    assert_eq!(get(http, "/livez").0, 200);
    let (_, verbose) = get(http, "/readyz?verbose");
    assert!(verbose.contains("[+]quorum ok") && verbose.contains("[+]leader ok"), "{verbose}");
    for name in [
        "mux_ready 1",
        "mux_build_info{version=",
        "mux_invoices{state=\"open\"} 0",
        "mux_sets{state=\"accepted\"} 0",
        "mux_certificate_expiry_timestamp_seconds{certificate=\"api\"}",
        "mux_raft_is_leader 1",
        "mux_raft_applied_index",
        "# HELP mux_invoices",
    ] {
        until(name, || get(http, "/metrics").1.contains(name));
    }
    replica.signal("TERM");
    assert_eq!(replica.exit_code(Duration::from_secs(10)), Some(0));
    let log = std::fs::read_to_string(log).unwrap();
    for line in log.lines() {
        let parsed: Result<serde_json::Value, _> = serde_json::from_str(line);
        assert!(parsed.is_ok(), "not JSON: {line}");
    }
    let seed = std::fs::read_to_string(&written.seed).unwrap();
    assert!(!log.contains(seed.trim()), "no secret is logged");
}

#[test]
fn without_a_quorum_a_replica_is_alive_but_not_ready_and_still_ends_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(dir.path(), 3);
    let written = write_cluster(&plan).unwrap();
    let http = plan.replicas[1].metrics_listen;
    let mut replica = Replica::start(&written.replicas[1].config, &dir.path().join("log"));
    until("listening", || get(http, "/livez").0 == 200);
    let (code, why) = get(http, "/readyz");
    assert_eq!(code, 503);
    assert!(why.contains("[-]"), "it says why: {why}");
    replica.signal("INT");
    assert_eq!(replica.exit_code(Duration::from_secs(10)), Some(0));
}

/// Whether the program's file has this text in it.
fn has(program: &[u8], text: &str) -> bool {
    let (first, mut rest) = (text.as_bytes()[0], program);
    while let Some(at) = rest.iter().position(|byte| *byte == first) {
        rest = &rest[at..];
        if rest.starts_with(text.as_bytes()) {
            return true;
        }
        rest = &rest[1..];
    }
    false
}

#[cfg(not(feature = "mutants"))]
#[test]
fn what_is_planted_to_try_the_tests_is_no_part_of_the_program() {
    let program = std::fs::read(env!("CARGO_BIN_EXE_muxd")).unwrap();
    assert!(has(&program, "must join under a new id"), "texts are found in it");
    assert!(!has(&program, mux_raft::mutant::VARIABLE));
}

#[test]
fn a_port_that_is_taken_is_a_mistake_of_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(dir.path(), 1);
    let written = write_cluster(&plan).unwrap();
    let _taken = TcpListener::bind(plan.replicas[0].api_listen).unwrap();
    let log = dir.path().join("log");
    let mut replica = Replica::start(&written.replicas[0].config, &log);
    assert_eq!(replica.exit_code(DEADLINE), Some(64));
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("api.listen"), "{log}");
}

/// What `muxd run` starts of consensus.
fn consensus_of(config: &Config) -> ReplicaConfig {
    let keys = ClusterKeys::derive(&ClusterSeed::load(&config.cluster.seed_file).unwrap());
    let (cluster, raft) = (&config.cluster, &config.raft);
    ReplicaConfig {
        cluster_id: keys.cluster_id(&cluster.name, cluster.network),
        id: cluster.replica_id,
        data_dir: raft.data_dir.clone(),
        listen: raft.listen,
        initial_members: cluster.initial_members.clone(),
        tls: TlsPaths {
            ca: raft.tls_ca.clone(),
            cert: raft.tls_cert.clone(),
            key: raft.tls_key.clone(),
            domain: TlsPaths::DEFAULT_DOMAIN.into(),
        },
        timing: Timing::default(),
        snapshot: SnapshotConfig::default(),
        wall_offset_ms: 0,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_too_old_for_the_cluster_ends_and_its_last_words_name_the_one_needed() {
    let dir = tempfile::tempdir().unwrap();
    let written = write_cluster(&plan(dir.path(), 1)).unwrap();
    let path = &written.replicas[0].config;
    let config = consensus_of(&Config::load(path, &[]).unwrap());
    // A later version has raised the level.
    let newer = RaftReplica::start(config).await.unwrap();
    newer.status().wait_for(|status| status.leads).await.unwrap();
    let raise = LogCommand::RaiseFeatureLevel { level: COMMAND_FORMAT + 1, version: "9.8.7".into() };
    // This one cannot apply it.
    assert!(newer.propose(raise, None).await.is_err());
    newer.shutdown().await;
    drop(newer);
    let log = dir.path().join("log");
    let mut replica = Replica::start(path, &log);
    let code = tokio::task::spawn_blocking(move || replica.exit_code(DEADLINE)).await.unwrap();
    assert_eq!(code, Some(70));
    let log = std::fs::read_to_string(log).unwrap();
    let last = log.lines().last().unwrap_or_default();
    assert!(last.contains("needs muxd 9.8.7 or later") && last.contains("upgrade this replica"), "{log}");
}
