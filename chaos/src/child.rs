//! The other processes of a cluster: the code of `muxd`, `muxcli` and `lndsim`, started from the demo's or the
//! benchmark's own executable, so that they are there whatever was built.

use crate::{cluster::die_with_parent, lndsim};
use muxd::cli::Disguise;
use std::{ffi::OsString, process::ExitCode};

/// `<executable> __muxd ...` is `muxd ...`, perhaps in a disguise.
pub(crate) fn muxd(arguments: Vec<OsString>, disguise: Disguise) -> ExitCode {
    child("muxd", arguments, |arguments| muxd::cli::main_as(arguments, disguise))
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
