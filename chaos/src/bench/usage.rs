//! What processes use, from `/proc` (Linux). What cannot be read counts as nothing.

use serde::Serialize;
use std::{fs, path::Path};

/// `USER_HZ`: the unit of CPU times in `/proc`, 100 on every Linux that Rust runs on.
const TICKS_PER_S: f64 = 100.0;

/// Resident memory now, in bytes (`VmRSS`).
pub(super) fn resident_bytes(pid: u32) -> u64 {
    status_kib(pid, "VmRSS:").saturating_mul(1024)
}

fn status_kib(pid: u32, key: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// CPU time so far, user and system, in seconds.
fn cpu_seconds(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in parentheses may contain anything; utime and stime are fields 14 and 15.
    let fields = text.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    let ticks: f64 = fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    ticks / TICKS_PER_S
}

/// What a directory's files take on disk, in bytes.
pub(super) fn disk_bytes(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path()),
        Ok(metadata) => metadata.blocks().saturating_mul(512),
        Err(_) => 0,
    });
    sizes.sum()
}

/// The CPU time of a process over a measurement.
#[derive(Clone, Debug, Serialize)]
pub struct CpuShare {
    /// Which process.
    pub process: String,
    /// Cores used on average.
    pub cores: f64,
}

/// CPU times at the beginning of a measurement.
pub(super) struct CpuMeter {
    began: std::time::Instant,
    processes: Vec<(String, u32, f64)>,
}

impl CpuMeter {
    pub(super) fn start(processes: Vec<(String, u32)>) -> Self {
        let processes = processes.into_iter().map(|(name, pid)| (name, pid, cpu_seconds(pid))).collect();
        Self { began: std::time::Instant::now(), processes }
    }

    pub(super) fn read(&self) -> Vec<CpuShare> {
        let elapsed = self.began.elapsed().as_secs_f64().max(f64::EPSILON);
        let share = |(name, pid, before): &(String, u32, f64)| CpuShare {
            process: name.clone(),
            cores: (cpu_seconds(*pid) - before).max(0.0) / elapsed,
        };
        self.processes.iter().map(share).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory_and_files_use_disk() {
        assert!(resident_bytes(std::process::id()) > 1 << 20);
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("below")).unwrap();
        fs::write(dir.path().join("below/file"), vec![1; 100_000]).unwrap();
        assert!(disk_bytes(dir.path()) >= 100_000);
    }
}
