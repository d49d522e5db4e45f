//! `muxcli`: see [`muxd::muxcli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    muxd::muxcli::main(std::env::args_os().collect())
}
