//! Power cuts: what the log store has acknowledged is there afterwards.
//!
//! A child process writes to a file system of its own (ext4 on a loop device) and reports every entry that it
//! has synced. At a random moment the file system is shut down without flushing its journal: dirty pages and
//! whatever was not committed are gone, as when the power goes. It is mounted again, the store is opened, and
//! every reported entry must be there. (The disk's own cache survives, so this finds missing syncs, not lying
//! disks.)
//!
//! Needs root, loop devices, mkfs.ext4 and python3 (for the ioctl), hence ignored:
//! `cargo test -p mux-raft --test store_power_cut -- --ignored --exact acknowledged_entries_survive_power_cuts`

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

use mux_raft::store::{Change, Engine, Identity, Loaded, Mark, OpenEngine as _, Record, SledEngine};
use rand::{Rng as _, SeedableRng as _};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

const IDENTITY: Identity = Identity { cluster_id: [7; 32], replica: 1 };
const DIR_VARIABLE: &str = "MUX_POWER_CUT_DIR";
const BATCH_VARIABLE: &str = "MUX_POWER_CUT_BATCH";
/// The child keeps this many entries and purges the rest.
const KEEP: u64 = 5_000;

/// `EXT4_IOC_SHUTDOWN` with `EXT4_GOING_FLAGS_NOLOGFLUSH`.
const SHUT_DOWN: &str = "
import fcntl, os, struct, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
fcntl.ioctl(fd, 0x8004587d, struct.pack('I', 2))
";

fn entry(index: u64) -> Record {
    let length = 300 + usize::try_from(index % 7).unwrap() * 150;
    let bytes: Vec<u8> = (0..length).map(|at| (index.wrapping_mul(31) + at as u64) as u8).collect();
    Record { index, bytes: bytes.into() }
}

fn open(dir: &Path) -> (Box<dyn Engine>, Loaded) {
    SledEngine::opener().open(&dir.join("log"), IDENTITY).unwrap()
}

/// Not a test: what the child does.
#[test]
#[ignore = "run by the other test"]
fn child_writes_until_the_power_goes() {
    let Ok(dir) = std::env::var(DIR_VARIABLE) else { return };
    let batch: u64 = std::env::var(BATCH_VARIABLE).unwrap().parse().unwrap();
    let (mut engine, _) = open(Path::new(&dir));
    let (mut next, mut first) = (0, 0);
    let mut out = std::io::stdout().lock();
    loop {
        let mut changes: Vec<Change> = (next..next + batch).map(|index| Change::Put(entry(index))).collect();
        next += batch;
        if next - first > KEEP + 1_000 {
            // As the log does it: the mark with the deletions of at most a thousand.
            let upto = first + 1_000;
            changes.push(Change::Mark(Mark::Purged, upto.to_le_bytes().to_vec()));
            changes
                .extend((first..upto).map(|index| Change::Delete { index, bytes: entry(index).bytes.len() }));
            first = upto;
        }
        if engine.write(&changes).is_err() || engine.sync().is_err() {
            // The power has gone.
            std::process::exit(0);
        }
        writeln!(out, "\nacknowledged {first} {next}").and_then(|()| out.flush()).unwrap();
    }
}

struct Disk {
    dir: TempDir,
}

impl Disk {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        std::fs::create_dir(dir.path().join("mnt")).unwrap();
        let image = std::fs::File::create(dir.path().join("disk")).unwrap();
        image.set_len(256 << 20).unwrap();
        run("mkfs.ext4", &["-q", dir.path().join("disk").to_str().unwrap()]);
        let disk = Self { dir };
        disk.mount();
        disk
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }

    fn mount(&self) {
        let (image, mount) = (self.dir.path().join("disk"), self.path());
        run("mount", &["-o", "loop", image.to_str().unwrap(), mount.to_str().unwrap()]);
    }

    fn unmount(&self) {
        run("umount", &[self.path().to_str().unwrap()]);
    }

    fn cut_power(&self) {
        run("python3", &["-c", SHUT_DOWN, self.path().to_str().unwrap()]);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).stderr(Stdio::null()).status();
    }
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status().unwrap();
    assert!(status.success(), "{program} {arguments:?}: {status}");
}

/// Cuts the power after this time and returns what was acknowledged: first kept and next index.
fn write_until_cut(disk: &Disk, batch: u64, after: Duration) -> (u64, u64) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "child_writes_until_the_power_goes", "--nocapture"])
        .env(DIR_VARIABLE, disk.path())
        .env(BATCH_VARIABLE, batch.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let reader = std::thread::spawn(move || {
        let mut last = (0, 0);
        for line in lines.map_while(Result::ok) {
            if let Some((first, next)) =
                line.strip_prefix("acknowledged ").and_then(|numbers| numbers.split_once(' '))
            {
                last = (first.parse().unwrap(), next.parse().unwrap());
            }
        }
        last
    });
    std::thread::sleep(after);
    disk.cut_power();
    // sled may hang or panic on a dead disk; what was acknowledged by now counts.
    std::thread::sleep(Duration::from_millis(300));
    let _ = child.kill();
    child.wait().unwrap();
    reader.join().unwrap()
}

#[test]
#[ignore = "needs root, loop devices, mkfs.ext4 and python3"]
fn acknowledged_entries_survive_power_cuts() {
    let seed: u64 = rand::rng().random();
    println!("seed {seed}");
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    for round in 0..12 {
        let disk = Disk::new();
        let batch = [1, 16, 128][round % 3];
        let after = Duration::from_millis(random.random_range(300..2_000));
        let (first, next) = write_until_cut(&disk, batch, after);
        disk.unmount();
        disk.mount();
        let (engine, loaded) = open(&disk.path());
        let found: Vec<u64> = loaded.records.iter().map(|record| record.index).collect();
        println!("round {round}: batch {batch}, cut after {after:?}, acknowledged {first}..{next}");
        for index in first.max(found.first().copied().unwrap_or(0))..next {
            let at = found.binary_search(&index).unwrap_or_else(|_| panic!("entry {index} is lost"));
            assert_eq!(loaded.records[at], entry(index), "entry {index} is damaged");
        }
        assert!(found.first().is_none_or(|found| *found <= first + 1_000), "the beginning is lost");
        assert!(next == 0 || found.last().is_some_and(|last| *last + 1 >= next), "the end is lost");
        drop(engine);
        disk.unmount();
    }
}
