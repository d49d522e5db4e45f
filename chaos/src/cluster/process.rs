//! One child process: started, signalled by its own pid, and gone when its owner is.
//!
//! The child's standard input is a pipe that nobody writes to: when the parent dies, however it dies, the
//! pipe closes, and the child (which watches it, see [`die_with_parent`]) ends itself.

use rustix::process::{Pid, Signal, kill_process};
use std::{
    ffi::OsString,
    fs::OpenOptions,
    io::Read as _,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};
use tokio::process::{Child, ChildStdin, Command};

/// Exit code of a child whose parent is gone.
const ORPHANED: i32 = 3;

/// Why a process could not be started or ended.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The system said no.
    #[error("{name}: {source}")]
    System {
        /// Which process.
        name: String,
        /// Why.
        source: std::io::Error,
    },
    /// It did not end in time.
    #[error("{name} (pid {pid}) did not end within {within:?}")]
    StillRunning {
        /// Which process.
        name: String,
        /// Its pid.
        pid: u32,
        /// How long it had.
        within: Duration,
    },
    /// It is not running.
    #[error("{0} is not running")]
    NotRunning(String),
}

/// The executable that can be every process of the cluster: `<path> __muxd …`, `<path> __lndsim …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executable(PathBuf);

impl Executable {
    /// The running executable.
    ///
    /// # Errors
    /// If the system does not tell where it is.
    pub fn this() -> std::io::Result<Self> {
        std::env::current_exe().map(Self)
    }

    /// The demo's executable, for tests, which are executables of their own.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

/// A child process. Killed when dropped.
pub struct Process {
    name: String,
    pid: u32,
    child: Child,
    log: PathBuf,
    paused: bool,
    _parent_lives: Option<ChildStdin>,
}

impl Process {
    /// Starts `<executable> <arguments>`; what it prints is appended to `<logs>/<name>.log`.
    ///
    /// # Errors
    /// [`ProcessError::System`].
    pub fn start(
        name: &str,
        executable: &Executable,
        arguments: &[OsString],
        logs: &Path,
    ) -> Result<Self, ProcessError> {
        Self::start_in(&[], name, executable, arguments, logs)
    }

    /// The same at another place: the command line begins with how one [gets there](super::Spot::enter).
    ///
    /// # Errors
    /// [`ProcessError::System`].
    pub fn start_in(
        enter: &[OsString],
        name: &str,
        executable: &Executable,
        arguments: &[OsString],
        logs: &Path,
    ) -> Result<Self, ProcessError> {
        let system = |source| ProcessError::System { name: name.to_owned(), source };
        std::fs::create_dir_all(logs).map_err(system)?;
        let log = logs.join(format!("{name}.log"));
        let out = OpenOptions::new().create(true).append(true).open(&log).map_err(system)?;
        let own = executable.path().as_os_str().to_owned();
        let (program, before) = match enter.split_first() {
            None => (own, Vec::new()),
            Some((program, rest)) => (program.clone(), rest.iter().cloned().chain([own]).collect()),
        };
        let mut child = Command::new(program)
            .args(before)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(out.try_clone().map_err(system)?)
            .stderr(out)
            .kill_on_drop(true)
            .spawn()
            .map_err(system)?;
        let pid = child.id().ok_or_else(|| ProcessError::NotRunning(name.to_owned()))?;
        let parent_lives = child.stdin.take();
        Ok(Self { name: name.to_owned(), pid, child, log, paused: false, _parent_lives: parent_lives })
    }

    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Where its output goes.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// It has not ended, as far as is known.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// It was stopped by [`Process::pause`].
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// SIGKILL, and waits until it is gone.
    ///
    /// # Errors
    /// [`ProcessError::System`].
    pub async fn kill(&mut self) -> Result<(), ProcessError> {
        self.paused = false;
        self.child.kill().await.map_err(|source| ProcessError::System { name: self.name.clone(), source })
    }

    /// SIGSTOP: it does nothing any more, and its connections stay.
    ///
    /// # Errors
    /// [`ProcessError`], if it is not running.
    pub fn pause(&mut self) -> Result<(), ProcessError> {
        self.signal(Signal::STOP)?;
        self.paused = true;
        Ok(())
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// [`ProcessError`], if it is not running.
    pub fn resume(&mut self) -> Result<(), ProcessError> {
        self.signal(Signal::CONT)?;
        self.paused = false;
        Ok(())
    }

    /// SIGTERM. Its end is not waited for.
    ///
    /// # Errors
    /// [`ProcessError`], if it is not running.
    pub fn ask_to_end(&mut self) -> Result<(), ProcessError> {
        self.signal(Signal::TERM)
    }

    /// SIGTERM, and waits for its end.
    ///
    /// # Errors
    /// [`ProcessError::StillRunning`], if it takes longer than `within`.
    pub async fn terminate(&mut self, within: Duration) -> Result<ExitStatus, ProcessError> {
        self.signal(Signal::TERM)?;
        self.ended(within).await
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// [`ProcessError::StillRunning`], if it takes longer than `within`.
    pub async fn ended(&mut self, within: Duration) -> Result<ExitStatus, ProcessError> {
        match tokio::time::timeout(within, self.child.wait()).await {
            Ok(status) => status.map_err(|source| ProcessError::System { name: self.name.clone(), source }),
            Err(_) => Err(ProcessError::StillRunning { name: self.name.clone(), pid: self.pid, within }),
        }
    }

    /// The pid belongs to this child as long as it was not waited for, so no other process can be hit.
    fn signal(&mut self, signal: Signal) -> Result<(), ProcessError> {
        if !self.is_running() {
            return Err(ProcessError::NotRunning(self.name.clone()));
        }
        let pid = i32::try_from(self.pid)
            .ok()
            .and_then(Pid::from_raw)
            .ok_or_else(|| ProcessError::NotRunning(self.name.clone()))?;
        kill_process(pid, signal)
            .map_err(|errno| ProcessError::System { name: self.name.clone(), source: errno.into() })
    }
}

/// Called by a child at its start: ends this process when the parent's end of the standard input closes.
///
/// # Errors
/// If the watching thread cannot be started.
pub fn die_with_parent() -> std::io::Result<()> {
    let watch = || {
        let mut byte = [0];
        // Whatever comes out, end of file or an error: the parent is gone or has let go.
        while let Ok(1..) = std::io::stdin().lock().read(&mut byte) {}
        std::process::exit(ORPHANED);
    };
    std::thread::Builder::new().name("parent".into()).spawn(watch)?;
    Ok(())
}
