//! Namespaces for the whole run: network, mounts, processes. The run inside them is another process of this executable.
//!
//! So nothing that it makes is seen outside, nobody outside is disturbed, and when it ends, however it ends, the kernel
//! removes all of it. It ends when its standard input closes, which it does when this process ends or is told to.

use super::faults::SlowDisk;
use std::{
    ffi::OsString,
    process::{ExitCode, ExitStatus, Stdio},
    time::Duration,
};
use tokio::{
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
};

/// How long the run may take to end in order when it is told to.
const END_MAX: Duration = Duration::from_secs(30);

/// What `unshare` makes for it. The last ends everything inside with `unshare` itself.
const UNSHARE: [&str; 7] =
    ["--net", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child", "--"];

/// Exit codes of a run that was interrupted, as shells have them.
const INTERRUPTED: u8 = 130;
const TERMINATED: u8 = 143;

/// Tries whether zones can be made here.
///
/// # Errors
/// Why not, for people.
pub(super) async fn probe(run: u32) -> Result<(), String> {
    let child = enclosed(run, &["--probe".into()]).stderr(Stdio::piped()).spawn();
    let child = child.map_err(|error| format!("unshare (util-linux) cannot be started: {error}"))?;
    let output = child.wait_with_output().await.map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

/// Runs the same command line inside, to its end.
///
/// # Errors
/// It cannot be started or waited for.
pub(super) async fn run(run: u32, arguments: &[OsString]) -> std::io::Result<ExitCode> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut child = enclosed(run, arguments).spawn()?;
    // Waiting would close it.
    let parent_lives = child.stdin.take();
    let interrupted = tokio::select! {
        status = child.wait() => Err(status?),
        _ = interrupt.recv() => Ok(INTERRUPTED),
        _ = terminate.recv() => Ok(TERMINATED),
    };
    drop(parent_lives);
    let code = match interrupted {
        Err(ended) => code(ended),
        Ok(code) => end(&mut child, code).await?,
    };
    // The one thing that namespaces do not hide. It is there only if the run inside was killed.
    let _ = std::fs::remove_dir(SlowDisk::group(run));
    Ok(code)
}

fn enclosed(run: u32, arguments: &[OsString]) -> Command {
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    // Whoever cannot tell where his executable is cannot start another of it.
    let executable = std::env::current_exe().unwrap_or_else(|_| "nemesis".into());
    command.args(UNSHARE).arg(executable).args(["--inside", &run.to_string()]).args(arguments);
    command.stdin(Stdio::piped()).kill_on_drop(true);
    command
}

/// It was told to end: its standard input is closed.
async fn end(child: &mut Child, interrupted: u8) -> std::io::Result<ExitCode> {
    if tokio::time::timeout(END_MAX, child.wait()).await.is_err() {
        child.kill().await?;
    }
    Ok(ExitCode::from(interrupted))
}

fn code(status: ExitStatus) -> ExitCode {
    ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(super::NOT_RUN))
}
