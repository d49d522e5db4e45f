use anyhow::{Context as _, ensure};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use std::fs::File;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Small, so that it fills soon.
const IMAGE_BYTES: u64 = 192 << 20;

/// `EXT4_IOC_SHUTDOWN` with `EXT4_GOING_FLAGS_NOLOGFLUSH` (Linux, fs/ext4/ext4.h).
const SHUT_DOWN: &str = "
import fcntl, os, struct, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
fcntl.ioctl(fd, 0x8004587d, struct.pack('I', 2))
";

/// A busy file system is let go of within this time.
const UNMOUNT: Duration = Duration::from_secs(10);

/// An ext4 of its own, on a loop device.
#[derive(Debug)]
pub(super) struct Disk {
    dir: TempDir,
    /// What it is made of, if it can break down.
    medium: Option<OwnedFd>,
    mounted: bool,
}

/// Why this machine cannot have one; `None`: it can.
pub(super) fn obstacle() -> Option<String> {
    for program in ["mkfs.ext4", "e2fsck", "mount", "umount", "python3"] {
        let found = Command::new(program).arg("--version").output().is_ok();
        if !found {
            return Some(format!("{program} is missing"));
        }
    }
    Disk::new()
        .and_then(|_| Disk::that_can_break())
        .err()
        .map(|error| format!("no file system of its own can be made: {error:#}"))
}

impl Disk {
    pub(super) fn new() -> anyhow::Result<Self> {
        Self::on(None)
    }

    /// One in memory, whose writes can be made to fail.
    pub(super) fn that_can_break() -> anyhow::Result<Self> {
        let medium = memfd_create("disk", MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC)?;
        ftruncate(&medium, IMAGE_BYTES)?;
        Self::on(Some(medium))
    }

    fn on(medium: Option<OwnedFd>) -> anyhow::Result<Self> {
        let dir = TempDir::new()?;
        std::fs::create_dir(dir.path().join("mnt"))?;
        let mut disk = Self { dir, medium, mounted: false };
        if disk.medium.is_none() {
            File::create(disk.image())?.set_len(IMAGE_BYTES)?;
        }
        run("mkfs.ext4", &[Path::new("-q"), Path::new("-F"), &disk.image()])?;
        disk.mount()?;
        Ok(disk)
    }

    /// The file that is its device, for other programs.
    fn image(&self) -> PathBuf {
        match &self.medium {
            None => self.dir.path().join("image"),
            Some(medium) => format!("/proc/{}/fd/{}", std::process::id(), medium.as_raw_fd()).into(),
        }
    }

    /// From now on every write to it fails (EIO). It can still be read.
    pub(super) fn break_down(&self) -> anyhow::Result<()> {
        let medium = self.medium.as_ref().context("this disk cannot break down")?;
        Ok(fcntl_add_seals(medium, SealFlags::FUTURE_WRITE)?)
    }

    /// Another one with what the broken one has, read anew: what was only in memory is gone.
    pub(super) fn replace(&mut self) -> anyhow::Result<()> {
        self.unmount()?;
        let (broken, medium) = (self.image(), self.medium.take());
        std::fs::copy(broken, self.image())?;
        drop(medium);
        let checked = Command::new("e2fsck").arg("-fy").arg(self.image()).output().context("e2fsck")?;
        // 1: it has repaired something.
        ensure!(matches!(checked.status.code(), Some(0 | 1)), "e2fsck: {}", checked.status);
        self.mount()
    }

    /// Where it is mounted.
    pub(super) fn path(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }

    pub(super) fn mount(&mut self) -> anyhow::Result<()> {
        run("mount", &[Path::new("-o"), Path::new("loop"), &self.image(), &self.path()])?;
        self.mounted = true;
        Ok(())
    }

    pub(super) fn unmount(&mut self) -> anyhow::Result<()> {
        let started = Instant::now();
        // The kernel may hold it for a moment after its last user has ended.
        while let Err(error) = run("umount", &[&self.path()]) {
            ensure!(started.elapsed() < UNMOUNT, "{error:#}");
            std::thread::sleep(Duration::from_millis(20));
        }
        self.mounted = false;
        Ok(())
    }

    /// As when the power goes: what was not synced is gone, and from now on every write fails.
    pub(super) fn cut_power(&self) -> anyhow::Result<()> {
        run("python3", &[Path::new("-c"), Path::new(SHUT_DOWN), &self.path()])
    }

    /// As when the machine starts again. What was written before in peace is on the disk then.
    pub(super) fn power_on(&mut self) -> anyhow::Result<()> {
        self.unmount()?;
        self.mount()
    }

    /// Leaves no room.
    pub(super) fn fill(&self) -> anyhow::Result<()> {
        let mut filler = File::create(self.path().join("filler"))?;
        let block = vec![0x5a; 1 << 16];
        while std::io::Write::write_all(&mut filler, &block).is_ok() {}
        Ok(())
    }

    pub(super) fn make_room(&self) -> anyhow::Result<()> {
        Ok(std::fs::remove_file(self.path().join("filler"))?)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted && self.unmount().is_err() {
            eprintln!("storage: {} is still mounted", self.path().display());
        }
    }
}

fn run(program: &str, arguments: &[&Path]) -> anyhow::Result<()> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.with_context(|| program.to_owned())?;
    let why = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program}: {}", why.trim());
    Ok(())
}
