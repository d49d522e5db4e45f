//! The process and its disk, under the names that every Prometheus exporter uses.

use rustix::process::{Resource, getrlimit};
use std::path::Path;

/// Sets the gauges of the process, and of the file system that holds `data_dir`. What the system does not
/// tell (there is no `/proc`) is left out.
pub fn record_process(data_dir: &Path) {
    if let Ok(disk) = rustix::fs::statvfs(data_dir) {
        metrics::gauge!("mux_data_dir_free_bytes").set(product(disk.f_bavail, disk.f_frsize));
        metrics::gauge!("mux_data_dir_size_bytes").set(product(disk.f_blocks, disk.f_frsize));
    }
    if let Some(seconds) = cpu_seconds() {
        metrics::counter!("process_cpu_seconds_total").absolute(seconds);
    }
    if let Some(seconds) = start_seconds() {
        metrics::gauge!("process_start_time_seconds").set(seconds as f64);
    }
    if let Some(kib) = resident_kib() {
        metrics::gauge!("process_resident_memory_bytes").set(product(kib, 1_024));
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        // The listing holds one itself.
        metrics::gauge!("process_open_fds").set(open.count().saturating_sub(1) as f64);
    }
    if let Some(limit) = getrlimit(Resource::Nofile).current {
        metrics::gauge!("process_max_fds").set(limit as f64);
    }
}

fn product(count: u64, size: u64) -> f64 {
    count.saturating_mul(size) as f64
}

/// A field of `/proc/self/stat`, counted from the process's state (proc(5): field 3), which follows its name.
fn stat_field(after_name: usize) -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(after_name)?.parse().ok()
}

fn cpu_seconds() -> Option<u64> {
    let ticks = stat_field(11)?.checked_add(stat_field(12)?)?;
    ticks.checked_div(rustix::param::clock_ticks_per_second())
}

fn start_seconds() -> Option<u64> {
    let after_boot = stat_field(19)?.checked_div(rustix::param::clock_ticks_per_second())?;
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let boot = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    boot.trim().parse::<u64>().ok()?.checked_add(after_boot)
}

fn resident_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_process_knows_itself() {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let start = start_seconds().unwrap();
        assert!(start <= now + 2 && now - start.min(now) < 86_400, "{start} {now}");
        assert!(cpu_seconds().is_some());
        assert!(resident_kib().unwrap() > 1_000);
    }
}
