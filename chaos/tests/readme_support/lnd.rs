//! A simulated LND, as README finds it on its machine.

use super::machine::lines_up;
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::process::{Child, Command};

const START_MAX: Duration = Duration::from_secs(60);

pub struct Lnd {
    pub alias: String,
    /// Its files; `lncli` is at home here.
    pub dir: PathBuf,
    pub pubkey: String,
    /// `host:port` of LND's services.
    pub grpc: String,
    /// Where a payer reaches it.
    pub control: String,
    _process: Child,
}

impl Lnd {
    pub async fn start(demo: &Path, parent: &Path, alias: &str, seed: usize) -> Self {
        let dir = parent.join(alias);
        let process = Command::new(demo)
            .args(["__lndsim", "--network", "mainnet", "--channels", "2", "--alias", alias])
            .args(["--seed", &seed.to_string(), "--dir"])
            .arg(&dir)
            // Must stay open: a child ends with its parent.
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let read = || serde_json::from_slice::<Value>(&std::fs::read(dir.join("ready.json")).ok()?).ok();
        let ready = lines_up("a simulated LND", START_MAX, async || read()).await.unwrap();
        let text = |key: &str| ready[key].as_str().unwrap().to_owned();
        Self {
            alias: alias.to_owned(),
            pubkey: text("identity_pubkey"),
            grpc: text("grpc"),
            control: text("control"),
            dir,
            _process: process,
        }
    }
}
