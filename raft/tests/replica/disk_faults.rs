//! File systems that are full or read-only, and a disk that takes no more (EIO): real ones, of a few MB in memory,
//! mounted for a child process only.
//!
//! Needs root (user namespaces, but for the disk), `unshare` and `mount`, hence ignored:
//! `cargo test -p mux-raft --test replica -- --ignored disk_faults::a_`

use crate::cluster::{Cluster, PATIENCE, eventually};
use crate::invoices::{add, cancel, hash, raise};
use mux_raft::consensus::{Consensus as _, ProposeError};
use mux_raft::replica::SnapshotConfig;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;

const CASE_VARIABLE: &str = "MUX_DISK_FAULT_CASE";
/// Below the data directory: the log, the archive, the snapshots.
const DIRECTORIES: [&str; 3] = ["log", "archive", "snapshots"];
/// An invoice's text, in bytes. Snapshots and archive must outgrow what they have.
const TEXT: usize = 20_000;
const WHAT_TO_DO: &str = "check the disk (space, mount, permissions, health), then start again";

/// Runs a child that may mount, and is alone in seeing it.
fn in_a_namespace(case: &str, directory: &str) {
    // A file as a disk is root's, and nobody else's.
    let by_whom: &[&str] = if case == "io-error" { &[] } else { &["--map-root-user"] };
    let output = Command::new("unshare")
        .args(by_whom)
        .arg("--mount")
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "disk_faults::child", "--nocapture"])
        .env(CASE_VARIABLE, format!("{case} {directory}"))
        .output()
        .expect("this test needs unshare (util-linux)");
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{text}");
    assert!(
        output.status.success() && text.contains("the case has ended well"),
        "{case} {directory}: {} (where namespaces are not allowed this test cannot run)",
        output.status
    );
}

#[test]
#[ignore = "needs namespaces with mounts"]
fn a_full_file_system_stops_the_replica_and_costs_nothing_that_was_acknowledged() {
    DIRECTORIES.iter().for_each(|directory| in_a_namespace("full", directory));
}

#[test]
#[ignore = "needs namespaces with mounts"]
fn a_read_only_file_system_prevents_the_start_and_the_message_says_what_to_do() {
    DIRECTORIES.iter().for_each(|directory| in_a_namespace("read-only", directory));
}

#[test]
#[ignore = "needs root and loop devices"]
fn a_disk_with_io_errors_stops_the_replica_and_costs_nothing_that_was_acknowledged() {
    DIRECTORIES.iter().for_each(|directory| in_a_namespace("io-error", directory));
}

/// Linux makes nothing read-only that is open for writing, so this is for the directory where nothing is.
#[test]
#[ignore = "needs namespaces with mounts"]
fn a_snapshot_directory_that_becomes_read_only_stops_the_replica_and_costs_nothing() {
    in_a_namespace("becomes-read-only", "snapshots");
}

/// Not a test: what the child does.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by the other tests"]
async fn child() {
    let Ok(case) = std::env::var(CASE_VARIABLE) else { return };
    let (case, directory) = case.split_once(' ').unwrap();
    let mut disk = Disk::start(directory, case == "io-error").await;
    match case {
        "io-error" => {
            let acknowledged = disk.add_some(0, 20).await;
            disk.medium.as_ref().unwrap().break_down();
            let acknowledged = disk.add_until_it_stops(acknowledged, "Input/output error").await;
            disk.cluster.stop(1).await;
            disk.repair().await;
            disk.comes_back_with(acknowledged).await;
        }
        "full" => {
            let acknowledged = disk.add_some(0, 20).await;
            disk.fill();
            let acknowledged = disk.add_until_it_stops(acknowledged, "No space left on device").await;
            disk.make_room();
            disk.comes_back_with(acknowledged).await;
        }
        "becomes-read-only" => {
            let acknowledged = disk.add_some(0, 20).await;
            disk.remount("ro");
            let acknowledged = disk.add_until_it_stops(acknowledged, "Read-only file system").await;
            disk.remount("rw");
            disk.comes_back_with(acknowledged).await;
        }
        _ => {
            let acknowledged = disk.add_some(0, 120).await;
            disk.cluster.stop(1).await;
            disk.remount("ro");
            let error = disk.cluster.try_start(1).await.unwrap_err().to_string();
            disk.is_told(&error, "Read-only file system");
            disk.remount("rw");
            disk.cluster.start_one(1).await;
            disk.has(acknowledged).await;
        }
    }
    println!("the case has ended well");
}

/// A disk in memory.
struct Medium(OwnedFd);

impl Medium {
    fn new() -> Self {
        let memory = memfd_create("disk", MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&memory, 48 << 20).unwrap();
        Self(memory)
    }

    /// For other programs.
    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    /// From now on every write to the disk fails. It can still be read.
    fn break_down(&self) {
        fcntl_add_seals(&self.0, SealFlags::FUTURE_WRITE).unwrap();
    }
}

/// A replica with one directory on a small file system of its own.
struct Disk {
    cluster: Cluster,
    path: PathBuf,
    /// What the disk is made of, if the file system is on one.
    medium: Option<Medium>,
}

impl Disk {
    async fn start(directory: &str, on_a_disk: bool) -> Self {
        let mut cluster = Cluster::prepare(1);
        let config = cluster.configs.get_mut(&1).unwrap();
        config.snapshot = SnapshotConfig { logs_since_last: 50, keep_logs: 10, purge_batch: 1 };
        let path = config.data_dir.join(directory);
        std::fs::create_dir_all(&path).unwrap();
        let medium = on_a_disk.then(Medium::new);
        match &medium {
            None => mount(&["-t", "tmpfs", "-o", "size=24m", "none"], &path),
            Some(medium) => {
                run("mkfs.ext4", &["-q", "-F", &medium.path()]);
                mount(&["-o", "loop", &medium.path()], &path);
            }
        }
        cluster.start_all().await;
        cluster.leader().await;
        raise(&cluster, 1).await;
        Self { cluster, path, medium }
    }

    fn ballast(&self) -> PathBuf {
        self.path.join("ballast")
    }

    /// Another disk with what the broken one has, read anew: what was only in memory is gone.
    async fn repair(&self) {
        // sled's own threads let go of the files a moment after the replica has stopped.
        eventually("it is unmounted", || Command::new("umount").arg(&self.path).status().unwrap().success())
            .await;
        let image = self.cluster.dir.path().join("image");
        std::fs::copy(self.medium.as_ref().unwrap().path(), &image).unwrap();
        // It says by its exit code that it has repaired something.
        let _ = Command::new("e2fsck").arg("-fy").arg(&image).output().unwrap();
        mount(&["-o", "loop", image.to_str().unwrap()], &self.path);
    }

    /// Leaves no room at all.
    fn fill(&self) {
        let mut file = File::create(self.ballast()).unwrap();
        for piece in [1 << 20, 4_096, 1] {
            while file.write_all(&vec![7; piece]).is_ok() {}
        }
    }

    fn make_room(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }

    fn remount(&self, how: &str) {
        mount(&["-o", &format!("remount,{how}")], &self.path);
    }

    /// Adds invoices from this number on and cancels every other one, which archives it. Says how far it came.
    async fn add_some(&self, from: u64, count: u64) -> u64 {
        for number in from..from + count {
            self.add(number).await.unwrap();
        }
        from + count
    }

    async fn add(&self, number: u64) -> Result<(), ProposeError> {
        add(&self.cluster, 1, number, TEXT).await?;
        if number.is_multiple_of(2) { Ok(()) } else { cancel(&self.cluster, 1, number).await }
    }

    /// Says how many were acknowledged.
    async fn add_until_it_stops(&self, mut acknowledged: u64, fault: &str) -> u64 {
        let adding = async {
            while self.add(acknowledged).await.is_ok() {
                acknowledged += 1;
            }
        };
        tokio::time::timeout(PATIENCE * 2, adding).await.expect("it never stops");
        let stopped = self.cluster.replica(1).stopped();
        let reason = tokio::time::timeout(PATIENCE, stopped).await.expect("it says nothing");
        self.is_told(&reason, fault);
        let refused = self.cluster.propose(1).await;
        assert!(matches!(refused, Err(ProposeError::Fatal(_))), "{refused:?}");
        acknowledged
    }

    /// The message names the directory, the fault, and what to do.
    fn is_told(&self, message: &str, fault: &str) {
        println!("told: {message}");
        let path = self.path.display().to_string();
        for part in [&path, fault, WHAT_TO_DO] {
            assert!(message.contains(part), "{part:?} is not in {message:?}");
        }
    }

    async fn comes_back_with(&mut self, acknowledged: u64) {
        if self.cluster.running.contains_key(&1) {
            self.cluster.stop(1).await;
        }
        self.cluster.start_one(1).await;
        self.has(acknowledged).await;
        self.add_some(acknowledged + 1, 60).await;
        eventually("snapshots are made again", || self.cluster.status(1).snapshot > 0).await;
    }

    async fn has(&self, acknowledged: u64) {
        println!("{acknowledged} were acknowledged");
        assert!(acknowledged > 0);
        self.cluster.leader().await;
        self.cluster.commit(1).await;
        let state = self.cluster.replica(1).state();
        for number in 0..acknowledged {
            assert!(state.find_invoice(&hash(number)).unwrap().is_some(), "invoice {number} is lost");
        }
    }
}

fn mount(arguments: &[&str], path: &Path) {
    let status = Command::new("mount").args(arguments).arg(path).status().unwrap();
    assert!(status.success(), "mount {arguments:?} {}: {status}", path.display());
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status().unwrap();
    assert!(status.success(), "{program} {arguments:?}: {status}");
}
