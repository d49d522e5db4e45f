//! Compiles the .proto files with protox, so that no protoc has to be installed.

use std::{env, error::Error, path::PathBuf};

use prost::Message as _;

const FILES: &[&str] = &[
    "lnd/lightning.proto",
    "lnd/stateservice.proto",
    "lnd/router.proto",
    "lnd/chainnotifier.proto",
    "lnmux/lnmux.proto",
    "mux/v1/mux.proto",
    "mux/raft/v1/raft.proto",
    "lndsim/v1/control.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    let descriptors = protox::compile(FILES, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    for file in FILES {
        println!("cargo:rerun-if-changed={file}");
    }
    Ok(())
}
