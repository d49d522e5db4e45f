//! What an operator types: `muxd` and `muxcli` as processes of their own, as README tells to run them.

use super::{Cluster, ClusterError, ProcessError};
use std::{ffi::OsStr, process::Stdio, time::Duration};
use tokio::process::Command;

/// No command takes longer here; those that wait for something are given less.
const COMMAND_MAX: Duration = Duration::from_secs(90);

/// How a command ended, and what it said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Its exit code; `None`: it was killed.
    pub code: Option<i32>,
    /// The result.
    pub out: String,
    /// Warnings, progress, failures.
    pub err: String,
}

impl Said {
    /// It was done.
    #[must_use]
    pub fn done(&self) -> bool {
        self.code == Some(0)
    }
}

impl Cluster {
    /// `muxcli --config <that replica's muxd.toml> <arguments>`.
    ///
    /// # Errors
    /// [`ClusterError::Process`], if it cannot be started or does not end.
    pub async fn muxcli<S: AsRef<OsStr>>(&self, at: usize, arguments: &[S]) -> Result<Said, ClusterError> {
        let config = self.replicas[at].dir.join("muxd.toml");
        let arguments = arguments.iter().map(S::as_ref);
        let target = [OsStr::new("__muxcli"), OsStr::new("--config"), config.as_os_str()];
        self.run(target.into_iter().chain(arguments)).await
    }

    /// `muxd <arguments>`, one that ends by itself.
    ///
    /// # Errors
    /// As [`Cluster::muxcli`].
    pub async fn muxd<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<Said, ClusterError> {
        let arguments = arguments.iter().map(S::as_ref);
        self.run(std::iter::once(OsStr::new("__muxd")).chain(arguments)).await
    }

    async fn run(&self, arguments: impl Iterator<Item = &OsStr>) -> Result<Said, ClusterError> {
        let name = "command";
        let system = |source| ProcessError::System { name: name.to_owned(), source };
        let mut child = Command::new(self.options.executable.path())
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(system)?;
        let pid = child.id().unwrap_or(0);
        // Must stay open: a child ends with its parent.
        let parent_lives = child.stdin.take();
        let ended = tokio::time::timeout(COMMAND_MAX, child.wait_with_output()).await;
        drop(parent_lives);
        let still = |_| ProcessError::StillRunning { name: name.to_owned(), pid, within: COMMAND_MAX };
        let output = ended.map_err(still)?.map_err(system)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Said { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) })
    }
}
