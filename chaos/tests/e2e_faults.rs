//! Disks, files, LND nodes, names and certificates that fail: a clear message, and the safe thing, of real processes.

#![allow(clippy::unwrap_used, clippy::panic)] // test code, outside of test functions

mod e2e_support;

use e2e_support::{ALICE, BOB, SOON, World};
use mux_chaos::{
    cluster::{Executable, Process, Way, fetch, until},
    payer::PaymentPlan,
};
use mux_proto::mux::v1::{AddInvoiceRequest, InvoiceState};
use mux_raft::types::PaymentHash;
use rcgen::{CertificateParams, Issuer, KeyPair};
use std::{
    collections::BTreeMap,
    io::Write as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};
use tokio::net::{TcpListener, TcpStream};

/// Exit codes: the operator must change something; a supervisor may start it again.
const WRONG_CONFIG: i32 = 64;
const CANNOT_GO_ON: i32 = 70;

/// Longest that a replica may take to notice that its disk is full, under load.
const FULL_SOON: Duration = Duration::from_secs(120);

impl World {
    fn config(&self, at: usize) -> PathBuf {
        self.cluster.replicas[at].dir.join("muxd.toml")
    }

    fn log_bytes(&self, at: usize) -> usize {
        self.log(at).len()
    }

    fn log(&self, at: usize) -> String {
        String::from_utf8_lossy(&std::fs::read(self.cluster.replicas[at].process.log()).unwrap()).into_owned()
    }

    async fn stop(&mut self, at: usize) {
        self.cluster.replicas[at].process.terminate(SOON).await.unwrap();
    }

    /// Starts a replica under a shell, with this before it; `$@` is the replica.
    fn start_under(&mut self, at: usize, script: &str) {
        let config = self.config(at);
        let arguments: Vec<std::ffi::OsString> = ["-c".into(), script.into(), "sh".into()]
            .into_iter()
            .chain([env!("CARGO_BIN_EXE_demo").into(), "__muxd".into(), "run".into(), "--config".into()])
            .chain([config.into()])
            .collect();
        let logs = self.cluster.replicas[at].process.log().parent().unwrap().to_owned();
        let name = self.cluster.replicas[at].name.clone();
        let process = Process::start(&name, &Executable::at("/bin/sh"), &arguments, &logs).unwrap();
        self.cluster.replicas[at].process = process;
    }

    /// Waits for a replica's end: its exit code, and what it said since it was started.
    async fn end(&mut self, at: usize, from: usize, within: Duration) -> (i32, String) {
        let process = &mut self.cluster.replicas[at].process;
        let code = process.ended(within).await.unwrap().code().unwrap_or(-1);
        (code, self.log(at)[from..].to_owned())
    }

    /// Starts a replica that cannot start.
    async fn refused(&mut self, at: usize, script: &str) -> (i32, String) {
        let from = self.log_bytes(at);
        self.start_under(at, script);
        self.end(at, from, SOON).await
    }

    /// Why a replica said that it had lost this front node, and how often.
    fn reasons_for_losing(&self, at: usize, alias: &str) -> BTreeMap<String, usize> {
        let of_it = format!("front_node={alias} ");
        let mut reasons = BTreeMap::new();
        for line in
            self.log(at).lines().filter(|line| line.contains("front node lost") && line.contains(&of_it))
        {
            let (_, why) = line.split_once("error=").unwrap();
            *reasons.entry(why.to_owned()).or_default() += 1;
        }
        reasons
    }

    /// Starts a replica again with a clock that is off by this much.
    async fn with_clock(&mut self, at: usize, wall_offset_ms: i64) {
        self.stop(at).await;
        self.cluster.replicas[at].start_as.wall_offset_ms = wall_offset_ms;
        self.cluster.restart_replica(at).unwrap();
    }

    /// A gauge as a replica shows it.
    async fn gauge(&self, at: usize, series: &str) -> Option<f64> {
        let page = fetch(self.cluster.replicas[at].metrics, "/metrics").await.ok()?;
        let page = String::from_utf8(page).unwrap();
        page.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
    }

    /// Waits until a replica has said this since its log was so long, and shows these gauges; says how often it said it.
    async fn tells(&self, at: usize, from: usize, words: &[&str], gauges: &[(String, f64)]) -> usize {
        let since = || self.log(at)[from..].to_owned();
        let what = format!("replica {} tells {words:?} and shows {gauges:?}", at + 1);
        let told = until(&what, SOON, || async {
            for (series, value) in gauges {
                self.gauge(at, series).await.filter(|shown| (shown - value).abs() < 0.5)?;
            }
            let times = since().lines().filter(|line| words.iter().all(|word| line.contains(word))).count();
            (times > 0).then_some(times)
        });
        told.await.unwrap_or_else(|error| panic!("{error}: {}", since()))
    }

    async fn link_of(&self, lnd: usize, state: &str) {
        let alias = self.cluster.lnds[lnd].alias.clone();
        until(&format!("{alias} is {state}"), SOON, || async {
            let status = self.cluster.replicas[0].client.status().await.ok()?;
            let node = status.front_nodes.iter().find(|node| node.alias == alias)?;
            let healthy = if node.healthy { "healthy" } else { "unhealthy" };
            (healthy == state).then_some(())
        })
        .await
        .unwrap();
    }

    /// A replica knows what was acknowledged elsewhere.
    async fn knows(&self, at: usize, hash: PaymentHash) {
        let client = self.cluster.replicas[at].client.clone();
        let known = until("it has caught up", SOON, || async { client.invoice(hash).await.ok().flatten() });
        known.await.unwrap();
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_full_or_damaged_stops_its_replica_with_the_reason_and_costs_nothing_acknowledged() {
    let mut world = World::start(|_| {}).await;
    let at = 2;
    let data = world.cluster.replicas[at].dir.join("data");

    world.step("a disk that takes no more: the replica ends with 70 and says why, the others go on");
    world.stop(at).await;
    let from = world.log_bytes(at);
    // The greatest file is the archive's; the log reaches the limit first that it has not reached yet.
    let greatest = std::fs::metadata(data.join("archive/records.redb")).unwrap().len();
    let blocks = greatest / 512 + 64;
    world.start_under(at, &format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\""));
    let client = world.cluster.replicas[0].client.clone();
    let mut acknowledged = Vec::new();
    let began = std::time::Instant::now();
    while world.cluster.replicas[at].process.is_running() && began.elapsed() < FULL_SOON {
        let what = mux_proto::mux::v1::add_invoice_request::What::Description("x".repeat(600));
        let request = AddInvoiceRequest { amount_msat: 1_000, what: Some(what), ..Default::default() };
        if let Ok(added) = client.add_invoice(request).await {
            acknowledged.push(PaymentHash::try_from(added.hash.as_ref()).unwrap());
        }
    }
    let (code, said) = world.end(at, from, SOON).await;
    assert_eq!(code, CANNOT_GO_ON, "{said}");
    assert!(said.contains("File too large") && said.contains("check the disk"), "{said}");
    assert!(said.contains(&data.display().to_string()), "{said}");
    assert!(!acknowledged.is_empty());

    world.step("payments settle meanwhile; with room again it catches up, and has what was acknowledged");
    let (text, hash) = world.invoice(300_000).await;
    world.pay_well(PaymentPlan::new("without the third", text, 2)).await;
    world.wait_state(hash, InvoiceState::Settled).await;
    world.cluster.restart_replica(at).unwrap();
    for hash in [acknowledged[0], acknowledged[acknowledged.len() - 1], hash] {
        world.knows(at, hash).await;
    }

    world.step("damaged files: it does not start, names the directory and the way out");
    world.stop(at).await;
    let sound = data.with_extension("sound");
    copy(&data, &sound);
    for file in ["log/conf", "archive/records.redb"] {
        let path = data.join(file);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let (code, said) = world.refused(at, "exec \"$@\"").await;
        assert_eq!(code, CANNOT_GO_ON, "{file}: {said}");
        assert!(said.contains(&data.display().to_string()) && said.contains("new id"), "{file}: {said}");
        std::fs::write(&path, &bytes).unwrap();
    }

    world.step("a directory that cannot be written: the configuration is named");
    let (code, said) = world.refused(at, "exec \"$@\" --set raft.data_dir=/proc").await;
    assert_eq!(code, WRONG_CONFIG, "{said}");
    assert!(said.contains("raft.data_dir") && said.contains("/proc"), "{said}");

    world.step("sound again, it takes part");
    std::fs::remove_dir_all(&data).unwrap();
    copy(&sound, &data);
    world.cluster.restart_replica(at).unwrap();
    world.knows(at, hash).await;
    world.reckon().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_lnd_that_is_gone_for_long_costs_its_link_only_and_a_few_lines() {
    let mut world = World::start(|options| options.proxied = true).await;
    let lines = |world: &World| (0..3).map(|at| world.log(at).lines().count()).sum::<usize>();
    let alias = world.cluster.lnds[BOB].alias.clone();

    world.step("nobody reaches one LND");
    for ways in &world.cluster.ways {
        ways[BOB].set(Way::Cut);
    }
    world.link_of(BOB, "unhealthy").await;
    until("every replica says which node it lost, and why", SOON, || async {
        let told = |at| world.reasons_for_losing(at, &alias).keys().any(|why| why.contains("cannot reach"));
        (0..3).all(told).then_some(())
    })
    .await
    .unwrap();
    let before = lines(&world);

    world.step("the others are paid; the status says what is wrong");
    let gone = std::time::Instant::now();
    while gone.elapsed() < Duration::from_secs(10) {
        let (text, hash) = world.invoice(200_000).await;
        let record = world.pay_well(PaymentPlan::new("by the other one", text, 1)).await;
        assert_eq!(record.parts[0].front, world.cluster.lnds[ALICE].node);
        world.wait_state(hash, InvoiceState::Settled).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let status = world.cluster.replicas[0].client.status().await.unwrap();
    let node = status.front_nodes.iter().find(|node| node.alias == alias).unwrap();
    assert!(node.link_state.contains("cannot reach"), "{node:?}");

    world.step("the log is not flooded");
    let paid = (0..3).map(|at| world.log(at).matches("payment settles").count()).sum::<usize>();
    let grown = lines(&world) - before;
    assert!(grown <= paid + 45, "{grown} lines in 10 s, {paid} payments");
    let reasons: Vec<_> = (0..3).map(|at| world.reasons_for_losing(at, &alias)).collect();
    println!("{reasons:#?}");
    for (at, reasons) in reasons.iter().enumerate() {
        assert!(
            reasons.values().all(|times| *times == 1),
            "replica {}: each reason once: {reasons:?}",
            at + 1
        );
    }

    world.step("it comes back by itself");
    for ways in &world.cluster.ways {
        ways[BOB].set(Way::Open);
    }
    let bob = world.cluster.lnds[BOB].node;
    // SOON is twice the longest pause between two tries.
    world.link_of(BOB, "healthy").await;
    let (text, _) = world.invoice(200_000).await;
    let record = world.pay_well(PaymentPlan::new("by the one that is back", text, 1).only_through(bob)).await;
    assert_eq!(record.parts[0].front, bob);
    world.reckon().await;
}

/// Accepts at an address and passes on, until it is aborted.
async fn relay(listener: TcpListener, target: std::net::SocketAddr) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((mut client, _)) = listener.accept().await {
        connections.spawn(async move {
            let Ok(mut server) = TcpStream::connect(target).await else { return };
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        });
    }
}

/// How a process gets mounts of its own here: as root, or in a user namespace.
fn private_mounts() -> Option<&'static str> {
    ["unshare -m", "unshare --map-root-user --mount"].into_iter().find(|unshare| {
        let mount = format!("exec {unshare} mount --bind /etc/passwd /etc/hosts");
        let tried = std::process::Command::new("/bin/sh").args(["-c", &mount]).output();
        tried.is_ok_and(|output| output.status.success())
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_is_looked_up_again_for_every_connection() {
    let Some(unshare) = private_mounts() else {
        let why = "no private /etc/hosts here: neither `unshare -m` nor `unshare --map-root-user --mount` may mount";
        // Not by a macro: their output is shown of tests that fail only.
        writeln!(
            std::io::stderr(),
            "NOT RUN: {why}. Nothing is shown about names that move on this machine."
        )
        .unwrap();
        return;
    };
    let mut world = World::start(|options| {
        options.replicas = 1;
        options.lnds = 1;
    })
    .await;
    let lnd = world.cluster.lnds[ALICE].grpc;
    let first = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = first.local_addr().unwrap().port();
    let second = TcpListener::bind(("127.0.0.2", port)).await.unwrap();
    let hosts = world.cluster.dir().join("hosts");
    std::fs::write(&hosts, "127.0.0.1 localhost lnd.test\n").unwrap();
    world.stop(0).await;
    let config = std::fs::read_to_string(world.config(0)).unwrap();
    let config = config.replace(&format!("\"{lnd}\""), &format!("\"lnd.test:{port}\""));
    std::fs::write(world.config(0), config).unwrap();

    world.step("the link goes to where the name points");
    let serving = tokio::spawn(relay(first, lnd));
    let script = format!(
        "exec {unshare} sh -c 'mount --bind {} /etc/hosts && exec \"$@\"' sh \"$@\"",
        hosts.display()
    );
    world.start_under(0, &script);
    world.link_of(ALICE, "healthy").await;

    world.step("the node moves, and the name with it");
    serving.abort();
    let _ = serving.await;
    std::fs::write(&hosts, "127.0.0.1 localhost\n127.0.0.2 lnd.test\n").unwrap();
    world.link_of(ALICE, "unhealthy").await;
    let moved = tokio::spawn(relay(second, lnd));
    world.link_of(ALICE, "healthy").await;
    let (text, _) = world.invoice(100_000).await;
    world.pay_well(PaymentPlan::new("after the move", text, 1)).await;
    moved.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_certificate_of_a_replica_is_named_on_both_sides_and_the_others_go_on() {
    let mut world = World::start(|_| {}).await;
    let at = 1;
    world.stop(at).await;
    let dir = world.cluster.replicas[at].dir.clone();
    let sound: Vec<_> =
        ["raft.pem", "raft.key"].map(|file| (dir.join(file), std::fs::read(dir.join(file)).unwrap())).into();
    let ca = dir.parent().unwrap();
    let read = |file: &str| std::fs::read_to_string(ca.join(file)).unwrap();
    let issuer =
        Issuer::from_ca_cert_pem(&read("ca.pem"), KeyPair::from_pem(&read("ca.key")).unwrap()).unwrap();
    let name = format!("replica-{}", at + 1);
    let mut params = CertificateParams::new(vec![name.clone(), format!("{name}.mux")]).unwrap();
    let now = SystemTime::now();
    params.not_before = (now - Duration::from_secs(90_000)).into();
    params.not_after = (now - Duration::from_secs(3_600)).into();
    let key = KeyPair::generate().unwrap();
    std::fs::write(dir.join("raft.pem"), params.signed_by(&key, &issuer).unwrap().pem()).unwrap();
    std::fs::write(dir.join("raft.key"), key.serialize_pem()).unwrap();

    world.step("the replica warns at start, its peers say which certificate it is");
    world.cluster.restart_replica(at).unwrap();
    until("it is told", SOON, || async {
        let own = world.log(at);
        let (own, ended) = (own.contains("has expired"), own.contains("raft.pem has ended"));
        let others = [0, 2].iter().any(|other| {
            world
                .log(*other)
                .lines()
                .any(|line| line.contains("certificate expired") && line.contains("replica=2"))
        });
        (own && ended && others).then_some(())
    })
    .await
    .unwrap();
    let told = world.log(0).lines().filter(|line| line.contains("certificate expired")).count();
    assert!(told <= 4, "{told} lines");

    world.step("the others go on");
    let (text, hash) = world.invoice(150_000).await;
    world.pay_well(PaymentPlan::new("without it", text, 1)).await;
    world.wait_state(hash, InvoiceState::Settled).await;

    world.step("with its certificate renewed it takes part again");
    world.stop(at).await;
    for (path, bytes) in sound {
        std::fs::write(path, bytes).unwrap();
    }
    world.cluster.restart_replica(at).unwrap();
    world.knows(at, hash).await;
    world.reckon().await;
}

fn differs(id: u64) -> String {
    format!("mux_raft_clock_differs{{peer=\"{id}\"}} ")
}

const OUTVOTED: &str = "mux_raft_clock_outvoted ";
const WRONG: &str = "wall clocks are wrong on these replicas: log time does not follow them";
const NO_MAJORITY: &str = "wall clocks differ and no majority agrees";
const LEADER_WRONG: &str = "this leader's wall clock is wrong";

/// Further than clocks may be apart, less than certificates mind.
const OFF_MS: i64 = 60_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_that_are_wrong_are_told_shown_and_not_followed() {
    // It is the same leader that must notice, and tell once, whatever else this machine does.
    let patient = [("raft.election_min_ms", "1200"), ("raft.election_max_ms", "1500")];
    let mut world = World::start(|options| {
        options.settings.extend(patient.map(|(key, value)| (key.to_owned(), value.to_owned())));
    })
    .await;
    let leader = world.cluster.leader().await.unwrap();
    let [one, two] = [(leader + 1) % 3, (leader + 2) % 3];
    let id = |at: usize| at as u64 + 1;
    let named = |ats: &[usize]| {
        let mut ids: Vec<u64> = ats.iter().map(|at| id(*at)).collect();
        ids.sort_unstable();
        format!("replicas={ids:?}")
    };

    world.step("a follower's clock is wrong: the leader says whose, once");
    let from = world.log_bytes(leader);
    world.with_clock(one, OFF_MS).await;
    let gauges = [(differs(id(one)), 1.0), (differs(id(two)), 0.0), (OUTVOTED.into(), 0.0)];
    assert_eq!(world.tells(leader, from, &[WRONG, &named(&[one])], &gauges).await, 1);
    world.cluster.wait_ready(SOON).await.unwrap();

    world.step("the other one's, too: no majority agrees, and payments go on");
    let from_two = world.log_bytes(leader);
    world.with_clock(two, -OFF_MS).await;
    let gauges = [(differs(id(one)), 1.0), (differs(id(two)), 1.0), (OUTVOTED.into(), 0.0)];
    assert_eq!(world.tells(leader, from_two, &[NO_MAJORITY, &named(&[one, two])], &gauges).await, 1);
    world.cluster.wait_ready(SOON).await.unwrap();
    let (text, hash) = world.invoice(150_000).await;
    world.pay_well(PaymentPlan::new("while no clocks agree", text, 2)).await;
    world.wait_state(hash, InvoiceState::Settled).await;
    let since = world.log(leader)[from..].to_owned();
    assert!(!since.contains(LEADER_WRONG) && !since.contains("log time stepped"), "{since}");

    world.step("the other two agree: the leader says that it is wrong, and leads no more");
    let (from, from_one, from_two) = (world.log_bytes(leader), world.log_bytes(one), world.log_bytes(two));
    world.with_clock(two, OFF_MS).await;
    let outvoted = until("the leader shows that it is outvoted", SOON, || async {
        world.gauge(leader, OUTVOTED).await.filter(|times| *times > 0.5)
    });
    outvoted.await.unwrap();
    let handed_over = until("another leads", SOON, || async {
        let status = world.cluster.replicas[one].client.status().await.ok()?;
        (status.leader != 0 && status.leader != id(leader)).then_some(status.leader)
    });
    let next = usize::try_from(handed_over.await.unwrap() - 1).unwrap();
    let gauges = [(differs(id(one)), 0.0), (differs(id(two)), 0.0), (OUTVOTED.into(), 0.0)];
    let outvoted = world.tells(leader, from, &[LEADER_WRONG], &gauges).await;
    assert!((1..=10).contains(&outvoted), "{outvoted} times");
    let from_next = if next == one { from_one } else { from_two };
    let gauges = [(differs(id(leader)), 1.0), (OUTVOTED.into(), 0.0)];
    world.tells(next, from_next, &[WRONG, &named(&[leader])], &gauges).await;
    // By a majority, as README tells.
    world.tells(next, from_next, &["log time stepped forward"], &[]).await;

    world.step("all agree again");
    world.with_clock(leader, OFF_MS).await;
    world
        .tells(next, from_next, &["the replicas' wall clocks agree again"], &[(differs(id(leader)), 0.0)])
        .await;
    world.cluster.wait_ready(SOON).await.unwrap();
    let (text, hash) = world.invoice(150_000).await;
    world.pay_well(PaymentPlan::new("when all agree", text, 2)).await;
    world.wait_state(hash, InvoiceState::Settled).await;
    world.reckon().await;
}
