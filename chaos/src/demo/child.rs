//! The other processes of the demo's cluster: the code of `muxd` and `lndsim`, started from the demo's own
//! executable, so that they are there whatever was built.

use crate::{cluster::die_with_parent, lndsim};
use std::{ffi::OsString, process::ExitCode};

/// `demo __muxd ...` is `muxd ...`.
pub(super) fn muxd(arguments: Vec<OsString>) -> ExitCode {
    child("muxd", arguments, muxd::cli::main)
}

/// `demo __lndsim ...` is `lndsim ...`.
pub(super) fn lndsim(arguments: Vec<OsString>) -> ExitCode {
    child("lndsim", arguments, lndsim::cli::main)
}

fn child(name: &str, arguments: Vec<OsString>, main: fn(Vec<OsString>) -> ExitCode) -> ExitCode {
    if let Err(error) = die_with_parent() {
        eprintln!("{name}: {error}");
        return ExitCode::FAILURE;
    }
    main(std::iter::once(name.into()).chain(arguments).collect())
}
