//! The machine and the program that were measured.

use super::quantiles::Quantiles;
use serde::Serialize;
use std::{
    fs,
    io::{self, Seek as _, Write as _},
    path::Path,
    process::Command,
    time::Instant,
};

/// Writes of the probe.
const SYNCS: usize = 300;

/// Of one write, in bytes: about what one payment puts into the log.
const SYNC_BYTES: usize = 4096;

/// What was measured, and on what.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Model.
    pub cpu: String,
    /// Cores this process may use.
    pub cores: usize,
    /// In MiB.
    pub memory_mib: u64,
    /// Release.
    pub kernel: String,
    /// Type and options of the file system under the data.
    pub file_system: String,
    /// A write of 4 KiB over old data and `fdatasync` there.
    pub fsync: Quantiles,
    /// `rustc --version`.
    pub rustc: String,
    /// Of this package.
    pub version: &'static str,
    /// Optimised?
    pub release_build: bool,
    /// Git commit, if the sources are in a repository; `+` if they were changed.
    pub commit: String,
}

impl Machine {
    /// Looks at the machine, and probes the disk in this directory.
    ///
    /// # Errors
    /// If nothing can be written there.
    pub fn look(dir: &Path) -> io::Result<Self> {
        Ok(Self {
            cpu: field("/proc/cpuinfo", "model name"),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory_mib: field("/proc/meminfo", "MemTotal")
                .split_whitespace()
                .next()
                .and_then(|kib| kib.parse::<u64>().ok())
                .map_or(0, |kib| kib / 1024),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            file_system: file_system(dir),
            fsync: probe(dir)?,
            rustc: output("rustc", &["--version"]),
            version: env!("CARGO_PKG_VERSION"),
            release_build: !cfg!(debug_assertions),
            commit: commit(),
        })
    }
}

/// The machine in a line.
#[must_use]
pub fn machine_in_words() -> String {
    let memory = field("/proc/meminfo", "MemTotal");
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{} cores of {}, {memory}, Linux {}",
        std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        field("/proc/cpuinfo", "model name"),
        kernel.trim()
    )
}

fn field(file: &str, key: &str) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix(':'));
    line.map_or_else(|| "unknown".into(), |value| value.trim().to_owned())
}

/// From the mount with the longest path above the directory.
fn file_system(dir: &Path) -> String {
    let dir = fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut best: Option<(usize, String)> = None;
    for line in mounts.lines() {
        let mut words = line.split(' ').skip(1);
        let (Some(at), Some(kind), Some(options)) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        if dir.starts_with(at) && best.as_ref().is_none_or(|(len, _)| at.len() >= *len) {
            best = Some((at.len(), format!("{kind} ({options})")));
        }
    }
    best.map_or_else(|| "unknown".into(), |(_, found)| found)
}

fn probe(dir: &Path) -> io::Result<Quantiles> {
    let mut file = tempfile::tempfile_in(dir)?;
    // As in a log that was written before: the file system has nothing to note down but the data.
    file.write_all(&vec![7; SYNCS * SYNC_BYTES])?;
    file.sync_all()?;
    file.rewind()?;
    let mut samples = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let began = Instant::now();
        file.write_all(&[8; SYNC_BYTES])?;
        file.sync_data()?;
        samples.push(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX));
    }
    Ok(Quantiles::of(samples))
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let text = output.ok().filter(|output| output.status.success()).map(|output| output.stdout);
    text.map_or_else(|| "unknown".into(), |text| String::from_utf8_lossy(&text).trim().to_owned())
}

/// When it was made, Unix seconds.
#[must_use]
pub fn commit_time() -> Option<u64> {
    output("git", &["log", "-1", "--format=%ct"]).parse().ok()
}

/// Of the sources this was built from, which may be gone by now; `+` if they were changed.
#[must_use]
pub fn commit() -> String {
    if !Path::new(env!("CARGO_MANIFEST_DIR")).exists() {
        return "unknown".into();
    }
    let commit = output("git", &["rev-parse", "--short", "HEAD"]);
    let changed = output("git", &["status", "--porcelain", "--untracked-files=no"]);
    if commit == "unknown" || changed.is_empty() { commit } else { commit + "+" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_is_probed_and_nothing_left_there() {
        let dir = tempfile::tempdir().unwrap();
        let machine = Machine::look(dir.path()).unwrap();
        assert_eq!(machine.fsync.count, SYNCS);
        assert!(machine.fsync.max_ms > 0.0 && machine.cores > 0);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
