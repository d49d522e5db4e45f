//! What a configuration needs of the machine: free ports, a directory to write into.

use super::load::Problem;
use super::sections::{Cluster, Config};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

/// The note in a data directory that says whose it is.
const OWNER: &str = "CLUSTER";

/// What mounts are.
const MOUNTS: &str = "/proc/self/mounts";

impl Config {
    /// Problems and warnings. `starting`: this process is about to run the replica; otherwise it may be running
    /// already, and then its ports are its own.
    pub(super) fn check_machine(&self, starting: bool) -> (Vec<Problem>, Vec<Problem>) {
        let (mut problems, mut warnings) = (Vec::new(), Vec::new());
        let dir = &self.raft.data_dir;
        if is_locked(dir) {
            if starting {
                let wrong = format!("another process runs on {}", dir.display());
                let remedy = "stop it first, or give this replica its own directory";
                problems.push(Problem::new("raft.data_dir", wrong, remedy));
            }
            // The replica runs: its ports are taken, by itself.
            return (problems, warnings);
        }
        if let Some(made) = Owner::read(dir) {
            made.compare(&Owner::of(self), &mut problems);
        }
        if let Err(wrong) = writable(dir) {
            let remedy = "make it writable for this user, or choose another directory";
            problems.push(Problem::new("raft.data_dir", wrong, remedy));
        }
        if let Some(kind) = volatile(dir) {
            let wrong =
                format!("{} is on {kind}: what this replica promised is gone after a reboot", dir.display());
            warnings.push(Problem::new("raft.data_dir", wrong, "use a directory on a disk"));
        }
        self.check_ports(&mut problems);
        (problems, warnings)
    }

    fn check_ports(&self, problems: &mut Vec<Problem>) {
        let listeners = [
            ("raft.listen", self.raft.listen),
            ("api.listen", self.api.listen),
            ("metrics.listen", self.metrics.listen),
        ];
        let mut seen = BTreeMap::new();
        // Kept until all are tried, so that none gets another's port.
        let mut bound = Vec::new();
        for (key, address) in listeners {
            if let Some(other) = seen.insert(address, key)
                && address.port() != 0
            {
                let wrong = format!("{address} is {other}, too");
                problems.push(Problem::new(key, wrong, "give every listener its own port"));
                continue;
            }
            match TcpListener::bind(address) {
                Ok(listener) => bound.push(listener),
                Err(error) => {
                    let remedy = match error.kind() {
                        ErrorKind::AddrInUse => "stop what listens there, or choose another port",
                        ErrorKind::AddrNotAvailable => {
                            "use an address of this machine, or 0.0.0.0 for all of them"
                        }
                        ErrorKind::PermissionDenied => "choose a port of 1024 or more",
                        _ => "choose another address",
                    };
                    problems.push(Problem::new(key, format!("cannot listen on {address}: {error}"), remedy));
                }
            }
        }
    }
}

/// Who a data directory was made for. The log says so, too, and is believed; this can be read without opening it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    cluster: String,
    network: String,
    replica_id: u64,
}

impl Owner {
    /// Who is configured.
    pub(crate) fn of(config: &Config) -> Self {
        let Cluster { name, network, replica_id, .. } = &config.cluster;
        Self { cluster: name.clone(), network: network.name().into(), replica_id: *replica_id }
    }

    /// `None`: it is new, or an earlier version made it.
    fn read(dir: &Path) -> Option<Self> {
        toml::from_str(&std::fs::read_to_string(dir.join(OWNER)).ok()?).ok()
    }

    /// Leaves a note in a directory that has none. Blocks.
    ///
    /// # Errors
    /// The note cannot be written.
    pub(crate) fn note(&self, dir: &Path) -> std::io::Result<()> {
        let path = dir.join(OWNER);
        if path.exists() {
            return Ok(());
        }
        let text = toml::to_string(self).map_err(std::io::Error::other)?;
        std::fs::write(
            path,
            format!("# For whom this directory was made. Changing it changes nothing.\n{text}"),
        )
    }

    fn compare(&self, configured: &Self, problems: &mut Vec<Problem>) {
        let differing = [
            ("cluster.name", &self.cluster, &configured.cluster),
            ("cluster.network", &self.network, &configured.network),
            ("cluster.replica_id", &self.replica_id.to_string(), &configured.replica_id.to_string()),
        ];
        for (key, made, now) in differing {
            if made != now {
                let wrong =
                    format!("{now:?}, but raft.data_dir was made for {made:?}, and neither ever changes");
                let remedy = "put back what it was, or give raft.data_dir a new directory";
                problems.push(Problem::new(key, wrong, remedy));
            }
        }
    }
}

/// Whether a replica runs on this directory.
fn is_locked(dir: &Path) -> bool {
    let Ok(lock) = File::open(dir.join("LOCK")) else { return false };
    matches!(lock.try_lock(), Err(TryLockError::WouldBlock))
}

/// The directory itself or, if it is still to be made, the one it will be made in.
fn existing(dir: &Path) -> Option<PathBuf> {
    let absolute = std::path::absolute(dir).ok()?;
    absolute.ancestors().find(|dir| dir.exists()).map(Path::to_owned)
}

fn writable(dir: &Path) -> Result<(), String> {
    let Some(existing) = existing(dir) else { return Err(format!("there is no {}", dir.display())) };
    if !existing.is_dir() {
        return Err(format!("{} is no directory", existing.display()));
    }
    let probe = existing.join(format!(".muxd-check-{}", std::process::id()));
    let written = File::options().write(true).create_new(true).open(&probe);
    // It was made to be removed; if that fails, so would much else.
    let _ = std::fs::remove_file(&probe);
    written.map(drop).map_err(|error| format!("cannot write into {}: {error}", existing.display()))
}

/// The file system, if it forgets everything at a reboot.
fn volatile(dir: &Path) -> Option<String> {
    let dir = existing(dir)?.canonicalize().ok()?;
    let mounts = std::fs::read_to_string(MOUNTS).ok()?;
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((PathBuf::from(fields.next()?), fields.next()?))
    });
    let (_, kind) =
        mounts.filter(|(at, _)| dir.starts_with(at)).max_by_key(|(at, _)| at.components().count())?;
    matches!(kind, "tmpfs" | "ramfs").then(|| kind.to_owned())
}
