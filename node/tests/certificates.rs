//! Certificates that have ended, and how they are renewed, with the programs themselves and with the commands in README.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's support may panic like a test")]

mod ports;

use muxd::init::{ClusterFiles, ClusterPlan, write_cluster};
use ports::free;
use rcgen::{CertificateParams, KeyPair};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime};

const DEADLINE: Duration = Duration::from_secs(60);

/// `muxcli`: no replica can be asked.
const UNAVAILABLE: i32 = 4;

/// Ended with the test, whatever happens.
struct Replica(Child);

impl Drop for Replica {
    fn drop(&mut self) {
        // Gone already, as a rule.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A cluster of one, on free ports.
struct World {
    dir: tempfile::TempDir,
    files: ClusterFiles,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut plan = ClusterPlan::loopback(dir.path().join("mux-cluster"), 1);
        let replica = &mut plan.replicas[0];
        replica.raft_listen = free();
        replica.raft_address = replica.raft_listen.to_string();
        (replica.api_listen, replica.metrics_listen) = (free(), free());
        let files = write_cluster(&plan).unwrap();
        Self { dir, files }
    }

    fn config(&self) -> &Path {
        &self.files.replicas[0].config
    }

    fn file(&self, name: &str) -> PathBuf {
        self.files.replicas[0].dir.join(name)
    }

    fn start(&self) -> Replica {
        let log = std::fs::File::create(self.dir.path().join("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_muxd"));
        command.arg("run").arg("--config").arg(self.config()).env_remove("RUST_LOG");
        Replica(command.stderr(log).stdout(Stdio::null()).spawn().unwrap())
    }

    /// Times that the replica said this.
    fn told(&self, text: &str) -> usize {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap().matches(text).count()
    }

    fn check(&self) -> Output {
        Command::new(env!("CARGO_BIN_EXE_muxd"))
            .arg("check-config")
            .arg("--config")
            .arg(self.config())
            .output()
            .unwrap()
    }

    fn status(&self) -> Output {
        Command::new(env!("CARGO_BIN_EXE_muxcli"))
            .arg("--config")
            .arg(self.config())
            .arg("status")
            .output()
            .unwrap()
    }

    /// Puts an API certificate there that ended long ago, with the key that is there.
    fn expire_api(&self) {
        let key = KeyPair::from_pem(&std::fs::read_to_string(self.file("api.key")).unwrap()).unwrap();
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).unwrap();
        let now = SystemTime::now();
        params.not_before = (now - Duration::from_secs(90_000)).into();
        params.not_after = (now - Duration::from_secs(3_600)).into();
        std::fs::write(self.file("api.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !done() {
        assert!(Instant::now() < until, "{what} takes too long");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn hang_up(replica: &Replica) {
    let sent = Command::new("kill").arg("-HUP").arg(replica.0.id().to_string()).status();
    assert!(sent.unwrap().success());
}

/// Seconds since the Unix epoch.
fn end_of(cert: &Path) -> i64 {
    let pem = std::fs::read(cert).unwrap();
    let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).unwrap();
    pem.parse_x509().unwrap().validity().not_after.timestamp()
}

#[test]
fn an_api_certificate_that_has_ended_is_named_by_everybody_and_renewed_without_a_restart() {
    let world = World::new();
    let sound = std::fs::read(world.file("api.pem")).unwrap();
    world.expire_api();

    let checked = world.check();
    let said = text(&checked);
    assert!(checked.status.success(), "it warns: the replica can run, and its clock may be wrong: {said}");
    assert!(said.contains("api.tls_cert") && said.contains("the certificate has expired"), "{said}");
    assert!(said.contains("put a new one in its place"), "{said}");

    let replica = world.start();
    let ended = format!("the certificate api in {} has ended", world.file("api.pem").display());
    until("the replica's own word", || world.told(&ended) == 1);
    let mut refused = None;
    until("the API", || {
        let output = world.status();
        let found = text(&output).contains("certificate expired");
        refused = Some(output);
        found
    });
    let refused = refused.unwrap();
    assert_eq!(refused.status.code(), Some(UNAVAILABLE));
    let said = text(&refused);
    assert!(said.contains("api.tls_cert, has ended: put a new one in its place"), "{said}");

    std::fs::write(world.file("api.pem"), &sound).unwrap();
    hang_up(&replica);
    until("the renewed certificate", || world.status().status.success());

    // One that has ended already takes the place of a sound one: told at once.
    world.expire_api();
    hang_up(&replica);
    until("the replica's word", || world.told(&ended) == 2);
    assert_eq!(world.status().status.code(), Some(UNAVAILABLE));
}

#[test]
fn muxcli_says_what_to_do_when_a_replica_shows_another_certificate() {
    let world = World::new();
    let _replica = world.start();
    until("the API", || world.status().status.success());
    let other = write_cluster(&ClusterPlan::loopback(world.dir.path().join("other"), 1)).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_muxcli"));
    let output = command
        .arg("--config")
        .arg(world.config())
        .arg("--tls-cert")
        .arg(other.api_cert)
        .arg("status")
        .output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(UNAVAILABLE));
    assert!(text(&output).contains("give the replica's current api.tls_cert"), "{}", text(&output));
}

/// The commands of README's section on certificates that openssl carries out.
fn commands() -> Vec<String> {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).unwrap();
    let section =
        readme.split("### Certificates and macaroons\n").nth(1).unwrap().split("\n### ").next().unwrap();
    let blocks = section.split("```console\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let text = blocks.collect::<String>().replace("\\\n", " ");
    text.lines().filter_map(|line| line.strip_prefix("$ ")).map(ToOwned::to_owned).collect()
}

#[test]
fn the_commands_in_the_readme_renew_a_replicas_certificates_while_it_runs() {
    let version = Command::new("openssl").arg("version").output();
    if !version.is_ok_and(|output| text(&output).starts_with("OpenSSL 3")) {
        println!("skipped: the recipe needs OpenSSL 3");
        return;
    }
    let world = World::new();
    world.expire_api();
    let replica = world.start();
    let ended = format!("the certificate api in {} has ended", world.file("api.pem").display());
    until("the first look", || world.told(&ended) == 1);
    let before = ["api.pem", "raft.pem"].map(|name| end_of(&world.file(name)));
    // Renewed within the same second the two would be the same.
    std::thread::sleep(Duration::from_millis(1_100));
    let commands = commands();
    assert!(commands.len() >= 5, "{commands:?}");
    for command in commands {
        let output =
            Command::new("sh").arg("-ec").arg(&command).current_dir(world.dir.path()).output().unwrap();
        assert!(output.status.success(), "{command}: {}", text(&output));
    }
    for (name, before) in ["api.pem", "raft.pem"].into_iter().zip(before) {
        assert!(end_of(&world.file(name)) > before, "{name}");
    }
    // Complains of a certificate that is not this replica's, or not the authority's.
    let checked = world.check();
    assert!(checked.status.success() && !text(&checked).contains("expire"), "{}", text(&checked));
    hang_up(&replica);
    until("both are in use", || world.told("reloaded: new connections use it") == 2);
    until("the API", || world.status().status.success());
}
