use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// What tells the run inside that it is, with a number behind it. It comes first.
const INSIDE: &str = "--inside";

/// Mounts that nobody sees outside, so that nobody keeps a disk busy whose power is off; they go with the run.
const UNSHARE: [&str; 3] = ["--mount", "--propagation=private", "--"];

/// Why there can be none here; `None`: there can.
pub(super) fn obstacle() -> Option<String> {
    let tried = Command::new("unshare").args(UNSHARE).arg("true").output();
    match tried {
        Err(error) => Some(format!("unshare (util-linux) cannot be started: {error}")),
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(format!(
            "no mounts of its own can be made: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}

/// Goes on as the same program with the same arguments, inside. Returns only why it cannot.
pub(super) fn enter(arguments: &[OsString]) -> std::io::Error {
    let executable = match std::env::current_exe() {
        Ok(executable) => executable,
        Err(error) => return error,
    };
    let own = std::process::id().to_string();
    Command::new("unshare").args(UNSHARE).arg(executable).args([INSIDE, &own]).args(arguments).exec()
}
