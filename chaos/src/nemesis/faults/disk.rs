//! Slow disks: by the kernel's throttle of block IO (cgroup v1), if there is one that may be used. And full ones: whether
//! that is what a replica ended for.

use parking_lot::Mutex;
use rustix::fs::{major, minor};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Where the throttle is.
const ROOT: &str = "/sys/fs/cgroup/blkio";

/// Writes a second that a slow disk does, and bytes.
const WRITES: u64 = 25;
const BYTES: u64 = 2 << 20;

/// What the system says when there is no room (ENOSPC).
const NO_ROOM: &str = "No space left on device";

/// What a process has written into its log since the log had so many bytes.
pub(super) fn said_since(log: &Path, bytes: u64) -> String {
    let all = std::fs::read(log).unwrap_or_default();
    let since = all.get(usize::try_from(bytes).unwrap_or(usize::MAX)..).unwrap_or_default();
    String::from_utf8_lossy(since).into_owned()
}

/// Whether a replica that said this ended for want of room.
pub(super) fn is_to_blame(said: &str) -> bool {
    said.contains(NO_ROOM)
}

/// A group of processes whose writes are slow. Gone when dropped, if they are out of it.
#[derive(Debug)]
pub(crate) struct SlowDisk {
    group: PathBuf,
    /// By fault: whose.
    slow: Mutex<BTreeMap<u64, u32>>,
}

impl SlowDisk {
    /// The name of a run's group.
    pub(crate) fn group(run: u32) -> PathBuf {
        Path::new(ROOT).join(format!("mux-nemesis-{run}"))
    }

    /// For the disk that this directory is on.
    ///
    /// # Errors
    /// There is no such throttle here, or not for this disk.
    pub(crate) fn open(run: u32, directory: &Path) -> std::io::Result<Self> {
        let device = rustix::fs::stat(directory)?.st_dev;
        let device = format!("{}:{}", major(device), minor(device));
        let group = Self::group(run);
        std::fs::create_dir(&group)?;
        let slow = Self { group, slow: Mutex::default() };
        for (file, limit) in [("write_iops_device", WRITES), ("write_bps_device", BYTES)] {
            let path = slow.group.join(format!("blkio.throttle.{file}"));
            std::fs::write(path, format!("{device} {limit}"))?;
        }
        Ok(slow)
    }

    /// This process's writes are slow from now on.
    pub(crate) fn impose(&self, fault: u64, pid: u32) -> std::io::Result<()> {
        std::fs::write(self.group.join("cgroup.procs"), pid.to_string())?;
        self.slow.lock().insert(fault, pid);
        Ok(())
    }

    /// They are as before.
    pub(crate) fn lift(&self, fault: u64) -> std::io::Result<()> {
        let Some(pid) = self.slow.lock().remove(&fault) else { return Ok(()) };
        match std::fs::write(Path::new(ROOT).join("cgroup.procs"), pid.to_string()) {
            // It has ended meanwhile.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => Ok(()),
            other => other,
        }
    }
}

impl Drop for SlowDisk {
    fn drop(&mut self) {
        for fault in self.slow.lock().keys().copied().collect::<Vec<_>>() {
            // Then the group cannot be removed either, which whoever started the run tries again.
            let _ = self.lift(fault);
        }
        let _ = std::fs::remove_dir(&self.group);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        process::Command,
        time::{Duration, Instant},
    };

    /// Synced writes of a process of its own.
    fn write(directory: &Path, slow: Option<&SlowDisk>) -> Duration {
        // It is slowed before it begins.
        let script = "read go; exec dd if=/dev/zero of=\"$0\" bs=4k count=25 oflag=dsync status=none";
        let mut command = Command::new("sh");
        command.args(["-c", script]).arg(directory.join("written")).stdin(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        if let Some(slow) = slow {
            slow.impose(1, child.id()).unwrap();
        }
        let began = Instant::now();
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
        if let Some(slow) = slow {
            slow.lift(1).unwrap();
        }
        began.elapsed()
    }

    #[test]
    fn a_full_disk_is_to_blame_only_for_an_end_for_want_of_room_since_it_was_full() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let before = "cannot go on: No space left on device (os error 28)\n";
        std::fs::write(file.path(), format!("{before}cannot go on: the state differs\n")).unwrap();
        let said = said_since(file.path(), before.len() as u64);
        assert_eq!(said, "cannot go on: the state differs\n");
        assert!(!is_to_blame(&said) && is_to_blame(&said_since(file.path(), 0)));
        assert!(!is_to_blame(&said_since(Path::new("there is none"), 0)), "nothing said is no reason");
    }

    #[test]
    fn a_slow_disk_is_slow() {
        // Beside the executable: the temporary directory may be in memory.
        let directory = tempfile::tempdir_in(std::env::current_exe().unwrap().parent().unwrap()).unwrap();
        let slow = match SlowDisk::open(std::process::id(), directory.path()) {
            Ok(slow) => slow,
            Err(error) => return println!("NOT TESTED: no throttle of block IO that may be used: {error}"),
        };
        let (free, slowed) = (write(directory.path(), None), write(directory.path(), Some(&slow)));
        // 25 writes at 25 a second; a bucket may let some through at once.
        assert!(slowed > Duration::from_millis(500) && slowed > 2 * free, "{slowed:?}, else {free:?}");
    }
}
