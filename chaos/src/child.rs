//! The other processes of a cluster: the code of `muxd`, `muxcli` and `lndsim`, started from the demo's or the
//! benchmark's own executable, so that they are there whatever was built.

use crate::{cluster::die_with_parent, lndsim};
use std::{ffi::OsString, process::ExitCode};

/// `<executable> __muxd ...` is `muxd ...`; up to a lower feature level it is as an older version.
pub(crate) fn muxd(arguments: Vec<OsString>, feature_level_max: Option<u16>) -> ExitCode {
    child("muxd", arguments, |arguments| match feature_level_max {
        None => muxd::cli::main(arguments),
        Some(level) => muxd::cli::main_up_to_level(arguments, level),
    })
}

/// `<executable> __muxcli ...` is `muxcli ...`.
pub(crate) fn muxcli(arguments: Vec<OsString>) -> ExitCode {
    child("muxcli", arguments, muxd::muxcli::main)
}

/// `<executable> __lndsim ...` is `lndsim ...`.
pub(crate) fn lndsim(arguments: Vec<OsString>) -> ExitCode {
    child("lndsim", arguments, lndsim::cli::main)
}

fn child(name: &str, arguments: Vec<OsString>, main: impl FnOnce(Vec<OsString>) -> ExitCode) -> ExitCode {
    if let Err(error) = die_with_parent() {
        eprintln!("{name}: {error}");
        return ExitCode::FAILURE;
    }
    main(std::iter::once(name.into()).chain(arguments).collect())
}
