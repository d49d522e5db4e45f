//! One machine that plays all of README's: every replica's host, every LND's, and the one with the cluster's files.
//!
//! Commands are run by a shell as they stand. What differs from README is what differs on every machine: addresses
//! (`zone-a.example:7401` is a free port here), keys of LND nodes, names of backups. Where a replica listens is said by
//! the environment, which wins over files. `muxd run` is left running, as by a service manager.

use super::{
    document::{Block, Place, What},
    lnd::{self, Lnd},
};
use rand::Rng as _;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs::{self, File},
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    process::{Child, Command},
};

/// No single command takes longer.
const COMMAND_MAX: Duration = Duration::from_secs(120);
/// Until a replica listens, ends, or a cluster has come to rest.
const SETTLE_MAX: Duration = Duration::from_secs(60);
/// A command that follows something for ever must last this long.
const FOLLOW: Duration = Duration::from_secs(2);
/// Below those that systems give to outgoing connections.
const PORTS: std::ops::Range<u16> = 12_000..32_000;
/// Most replicas that README ever names.
const REPLICAS: u64 = 6;
/// Small enough for the next step.
const LAG_MAX: u64 = 200;

pub struct Machine {
    dir: TempDir,
    demo: PathBuf,
    /// Whoever reads from it ends when this is closed: with the test.
    _life: File,
    /// Ports for the other replicas.
    raft_ports: BTreeMap<u64, u16>,
    pub lnds: Vec<Lnd>,
    services: BTreeMap<u64, Child>,
}

impl Machine {
    pub async fn new(demo: &Path, aliases: &[&str]) -> Self {
        let dir = tempfile::Builder::new().prefix("mux-readme-").tempdir().unwrap();
        let base = dir.path();
        for sub in ["bin", "ports", "logs", "target/release", "lnd"] {
            fs::create_dir_all(base.join(sub)).unwrap();
        }
        let fifo = base.join("life");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let life = File::options().read(true).write(true).open(&fifo).unwrap();
        let raft_ports = ports(base);
        scripts(base, demo);
        let mut lnds = Vec::new();
        for (seed, alias) in aliases.iter().enumerate() {
            lnds.push(Lnd::start(demo, &base.join("lnd"), alias, seed).await);
        }
        Self { demo: demo.to_owned(), _life: life, raft_ports, lnds, services: BTreeMap::new(), dir }
    }

    /// Where the cluster's directory is.
    pub fn base(&self) -> &Path {
        self.dir.path()
    }

    pub fn replica_dir(&self, id: u64) -> PathBuf {
        self.base().join(format!("mux-cluster/replica-{id}"))
    }

    /// Replicas that were started and not ended since.
    pub fn running(&self) -> Vec<u64> {
        self.services.keys().copied().collect()
    }

    pub fn log(&self, id: u64) -> String {
        fs::read_to_string(self.base().join(format!("logs/replica-{id}.log"))).unwrap_or_default()
    }

    /// Carries out a block.
    ///
    /// # Errors
    /// The command that failed, and what it said.
    pub async fn carry_out(&mut self, block: &Block) -> Result<(), String> {
        match (&block.what, &block.place) {
            (What::Flags, _) => Ok(()),
            (What::Console(commands), Place::In(dir)) => self.run_all(commands, &self.base().join(dir)).await,
            (What::Console(commands), Place::EachLnd) => {
                for at in 0..self.lnds.len() {
                    self.run_all(commands, &self.lnds[at].dir.clone()).await?;
                }
                Ok(())
            }
            (What::Console(commands), Place::EachHost) => {
                let hosts = match self.running() {
                    none if none.is_empty() => (1..=3).collect(),
                    running => running,
                };
                for id in hosts {
                    // Whoever rolls through a cluster waits between its replicas.
                    if self.services.len() > 2 {
                        self.wait_members().await?;
                    }
                    self.run_all(commands, &self.replica_dir(id)).await?;
                }
                Ok(())
            }
            (What::Toml(text), Place::EachConfiguration) => {
                self.name_lnds(text);
                Ok(())
            }
            (What::Toml(text), Place::Into(file)) => merge(&self.base().join(file), &self.localized(text)),
            (what, place) => Err(format!("nobody knows how to do {what:?} at {place:?}")),
        }
    }

    async fn run_all(&mut self, commands: &[String], dir: &Path) -> Result<(), String> {
        if commands.is_empty() {
            return Err("there is no command in it".into());
        }
        for command in commands {
            let local = self.localized(command);
            println!("    $ {local}");
            match local.strip_prefix("muxd run --config ") {
                Some(config) => self.serve(&dir.join(config)).await?,
                None => self.run(&local, dir).await.map(drop)?,
            }
        }
        Ok(())
    }

    /// Runs a command line as it stands; its output.
    ///
    /// # Errors
    /// It failed, or took too long.
    pub async fn run(&self, line: &str, dir: &Path) -> Result<String, String> {
        let follows = line.ends_with("invoice watch");
        let mut shell = Command::new("bash");
        shell.arg("-c").arg(if follows { format!("exec {line}") } else { line.to_owned() });
        shell.current_dir(dir).env("PATH", self.path()).kill_on_drop(true);
        shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = shell.spawn().map_err(|error| error.to_string())?;
        let limit = if follows { FOLLOW } else { COMMAND_MAX };
        match tokio::time::timeout(limit, child.wait_with_output()).await {
            Err(_) if follows => Ok(String::new()),
            Err(_) => Err(format!("{line}: does not end")),
            Ok(Err(error)) => Err(format!("{line}: {error}")),
            Ok(Ok(output)) if output.status.success() && !follows => {
                Ok(String::from_utf8_lossy(&output.stdout).into_owned())
            }
            Ok(Ok(output)) => Err(format!(
                "{line}: {}\n{}{}",
                output.status,
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            )),
        }
    }

    fn path(&self) -> String {
        format!("{}:{}", self.base().join("bin").display(), std::env::var("PATH").unwrap_or_default())
    }

    /// As a service manager does: starts it, and again when it has ended.
    async fn serve(&mut self, config: &Path) -> Result<(), String> {
        let text = fs::read_to_string(config).map_err(|error| format!("{}: {error}", config.display()))?;
        let table: toml::Table = text.parse().map_err(|error| format!("{error}"))?;
        let id = table["cluster"]["replica_id"].as_integer().and_then(|id| u64::try_from(id).ok()).unwrap();
        if self.services.contains_key(&id) {
            self.ended_well(id).await?;
        }
        let log = self.base().join(format!("logs/replica-{id}.log"));
        let log = File::options().create(true).append(true).open(log).unwrap();
        let mut process = Command::new(self.base().join("bin/muxd"));
        process.args(["run", "--config"]).arg(config).env_remove("RUST_LOG").kill_on_drop(true);
        process.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut process = process.spawn().map_err(|error| error.to_string())?;
        let address = (Ipv4Addr::LOCALHOST, self.raft_ports[&id]);
        let listens = lines_up("the replica", SETTLE_MAX, async || {
            let ended = process.try_wait().unwrap();
            let listens = TcpStream::connect(address).await.is_ok();
            (ended.is_some() || listens).then_some(ended)
        });
        match listens.await? {
            None => {
                self.services.insert(id, process);
                Ok(())
            }
            Some(status) => Err(format!("replica {id} ended with {status}:\n{}", self.log(id))),
        }
    }

    /// Waits for the end of a replica, which must be one in order.
    ///
    /// # Errors
    /// It was not, or does not come.
    pub async fn ended_well(&mut self, id: u64) -> Result<(), String> {
        let mut process = self.services.remove(&id).unwrap();
        match tokio::time::timeout(SETTLE_MAX, process.wait()).await {
            Err(_) => Err(format!("replica {id} does not end")),
            Ok(ended) if ended.as_ref().is_ok_and(ExitStatus::success) => Ok(()),
            Ok(ended) => Err(format!("replica {id} ended with {ended:?}:\n{}", self.log(id))),
        }
    }

    /// A machine is gone.
    pub async fn lose(&mut self, id: u64) {
        if let Some(mut process) = self.services.remove(&id) {
            process.kill().await.unwrap();
        }
    }

    /// README's words with this machine's addresses and names.
    fn localized(&self, text: &str) -> String {
        let mut text = text.replace("mux-2026-11-21-1200.backup", "mux-*.backup");
        let raft = |id: u64| format!("127.0.0.1:{}", self.raft_ports[&id]);
        for (id, zone) in (1..).zip(["a", "b", "c"]) {
            text = text.replace(&format!("zone-{zone}.example:7401"), &raft(id));
        }
        for id in 1..=REPLICAS {
            text = text.replace(&format!("127.0.0.1:740{id}"), &raft(id));
        }
        for lnd in self.lnds.iter().filter(|lnd| text.contains(&lnd.alias)).collect::<Vec<_>>() {
            text = text
                .replace(&format!("{}.example:10009", lnd.alias), &lnd.grpc)
                .replace("02...", &lnd.pubkey);
        }
        text
    }

    /// README's block for one LND, for the first two; with their files beside it.
    fn name_lnds(&self, text: &str) {
        for lnd in self.lnds.iter().take(2) {
            let block = self.localized(&text.replace("alice", &lnd.alias));
            for id in 1..=3 {
                let config = self.replica_dir(id).join("muxd.toml");
                let whole = format!("{}\n{block}\n", fs::read_to_string(&config).unwrap());
                fs::write(&config, whole).unwrap();
                self.carry_files(lnd, id);
            }
        }
    }

    /// Certificate and macaroon of an LND, brought to a replica.
    pub fn carry_files(&self, lnd: &Lnd, id: u64) {
        let to = |kind: &str| self.replica_dir(id).join(format!("{}.{kind}", lnd.alias));
        fs::copy(lnd.dir.join("tls.cert"), to("cert")).unwrap();
        fs::copy(lnd.dir.join("mux.macaroon"), to("macaroon")).unwrap();
        fs::set_permissions(to("macaroon"), fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// What `muxcli` says at a replica, as a program reads it.
    async fn ask(&self, id: u64, arguments: &str) -> Result<Value, String> {
        let out =
            self.run(&format!("muxcli --config muxd.toml {arguments} --json"), &self.replica_dir(id)).await?;
        serde_json::from_str(&out).map_err(|error| format!("{error}: {out}"))
    }

    /// As README tells to wait: until `member list` shows all up, with small lags.
    ///
    /// # Errors
    /// It does not come about.
    pub async fn wait_members(&self) -> Result<(), String> {
        let asked = self.running()[0];
        lines_up("all members up", SETTLE_MAX, async || {
            let list = self.ask(asked, "member list").await.ok()?;
            let well = |member: &Value| {
                member["reachable"] == true
                    && member["leaving"] == false
                    && member["lag_entries"].as_u64().is_some_and(|lag| lag <= LAG_MAX)
            };
            list["members"].as_array()?.iter().all(well).then_some(())
        })
        .await
    }

    /// The cluster is paid over the first two LNDs, by an invoice of whichever replica.
    ///
    /// # Errors
    /// It is not.
    pub async fn is_paid(&self) -> Result<(), String> {
        let asked = self.running()[0];
        lines_up("healthy front nodes", SETTLE_MAX, async || {
            let status = self.ask(asked, "status").await.ok()?;
            let healthy = |front: &Value| front["healthy"] == true || front["disabled"] == true;
            let front_nodes = status["front_nodes"].as_array()?;
            (front_nodes.len() >= 2 && front_nodes.iter().all(healthy)).then_some(())
        })
        .await?;
        let invoice = self.ask(asked, "invoice add 2500sat").await?;
        let text = invoice["payment_request"].as_str().unwrap_or_default();
        let controls: Vec<_> = self.lnds.iter().take(2).map(|lnd| format!("--lnd {}", lnd.control)).collect();
        let pay = format!("{} pay --parts 2 {} {text}", self.demo.display(), controls.join(" "));
        self.run(&pay, self.base()).await.map(drop)
    }
}

/// Waits for something.
///
/// # Errors
/// It does not come about in time.
pub async fn lines_up<T>(
    what: &str,
    within: Duration,
    mut ready: impl AsyncFnMut() -> Option<T>,
) -> Result<T, String> {
    let began = Instant::now();
    loop {
        if let Some(ready) = ready().await {
            return Ok(ready);
        }
        if began.elapsed() > within {
            return Err(format!("{what}: not within {within:?}"));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Free ports for every replica that README names, and a file of each one's environment.
fn ports(base: &Path) -> BTreeMap<u64, u16> {
    let mut random = rand::rng();
    let mut held = Vec::new();
    let mut free = || loop {
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, random.random_range(PORTS))) {
            let port = listener.local_addr().unwrap().port();
            held.push(listener);
            return port;
        }
    };
    let mut raft_ports = BTreeMap::new();
    for id in 1..=REPLICAS {
        let mut text = String::new();
        for section in ["RAFT", "API", "METRICS"] {
            let port = free();
            text.push_str(&format!("export MUX__{section}__LISTEN=127.0.0.1:{port}\n"));
            raft_ports.entry(id).or_insert(port);
        }
        fs::write(base.join(format!("ports/{id}")), text).unwrap();
    }
    raft_ports
}

/// What is on an operator's path.
fn scripts(base: &Path, demo: &Path) {
    let (life, ports, demo) = (base.join("life"), base.join("ports"), demo.display());
    for program in ["muxd", "muxcli"] {
        let text = format!(
            "#!/bin/sh\n\
             before=\n\
             for word in \"$@\"; do\n\
             if [ \"$before\" = --config ]; then\n\
             id=$(sed -n 's/^replica_id = //p' \"$word\")\n\
             [ -z \"$id\" ] || . {}/\"$id\"\n\
             fi\n\
             before=$word\n\
             done\n\
             exec {demo} __{program} \"$@\" < {}\n",
            ports.display(),
            life.display()
        );
        script(&base.join("bin").join(program), &text);
    }
    // It is built already.
    script(&base.join("bin/cargo"), "#!/bin/sh\n[ \"$*\" = 'build --release -p muxd' ]\n");
    symlink(base.join("bin/muxd"), base.join("target/release/muxd")).unwrap();
    // Exactly the calls that are made: no macaroon otherwise.
    let calls: Vec<_> = lnd::calls().into_iter().filter(|call| call != lnd::RESCUE).collect();
    let lncli = format!(
        "#!/bin/sh\n\
         [ \"$1 $2\" = 'bakemacaroon --save_to' ] || exit 1\n\
         file=$3\n\
         shift 3\n\
         echo '{}' >{1}\n\
         printf '%s\\n' \"$@\" | LC_ALL=C sort | diff {1} - >&2 && cp multiplexer.macaroon \"$file\"\n",
        calls.join("\n"),
        base.join("calls").display()
    );
    script(&base.join("bin/lncli"), &lncli);
}

fn script(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Edits a configuration as README tells: keys get new values, a table that is given is all there is.
fn merge(file: &Path, change: &str) -> Result<(), String> {
    let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let mut whole: toml::Table = text.parse().map_err(|error| format!("{error}"))?;
    let change: toml::Table = change.parse().map_err(|error| format!("{error}"))?;
    for (section, values) in change {
        let values = values.as_table().cloned().ok_or_else(|| format!("{section} is no section"))?;
        let section = whole.get_mut(&section).and_then(toml::Value::as_table_mut).ok_or("a new section")?;
        section.extend(values);
    }
    fs::write(file, toml::to_string(&whole).unwrap()).map_err(|error| error.to_string())
}
