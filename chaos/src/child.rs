//! The other processes of a cluster: the code of `muxd` and `lndsim`, started from the demo's or the
//! benchmark's own executable, so that they are there whatever was built.

use crate::{cluster::die_with_parent, lndsim};
use std::{ffi::OsString, process::ExitCode};

/// `<executable> __muxd ...` is `muxd ...`.
pub(crate) fn muxd(arguments: Vec<OsString>) -> ExitCode {
    child("muxd", arguments, muxd::cli::main)
}

/// `<executable> __lndsim ...` is `lndsim ...`.
pub(crate) fn lndsim(arguments: Vec<OsString>) -> ExitCode {
    child("lndsim", arguments, lndsim::cli::main)
}

fn child(name: &str, arguments: Vec<OsString>, main: fn(Vec<OsString>) -> ExitCode) -> ExitCode {
    if let Err(error) = die_with_parent() {
        eprintln!("{name}: {error}");
        return ExitCode::FAILURE;
    }
    main(std::iter::once(name.into()).chain(arguments).collect())
}
