//! A simulated LND, as README finds it on its machine.

use super::machine::lines_up;
use serde_json::Value;
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::process::{Child, Command};

/// Everything that a replica ever calls at an LND: its clients are private to this file.
const CLIENT: &str = include_str!("../../../node/src/lnd/client.rs");

/// Called only with `links.rescue = true`.
pub const RESCUE: &str = "uri:/lnrpc.Lightning/CloseChannel";

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

/// What a macaroon must allow, as `lncli bakemacaroon` wants it said: every call in [`CLIENT`].
pub fn calls() -> BTreeSet<String> {
    let services = [
        ("self.lightning.clone()", "lnrpc.Lightning"),
        ("self.router.clone()", "routerrpc.Router"),
        ("self.chain.clone()", "chainrpc.ChainNotifier"),
    ];
    let (mut calls, mut at) = (BTreeSet::new(), "");
    for line in CLIENT.lines().filter(|line| !line.trim_start().starts_with("//")) {
        if let Some((_, service)) = services.iter().find(|(client, _)| line.contains(client)) {
            at = service;
        }
        if let Some((method, _)) = line.split_once("client.").and_then(|(_, call)| call.split_once('(')) {
            assert!(!at.is_empty(), "{line}: of which service?");
            calls.insert(format!("uri:/{at}/{}", camel(method)));
        }
    }
    calls
}

/// `get_info`: `GetInfo`.
fn camel(method: &str) -> String {
    let upper =
        |word: &str| word.chars().take(1).flat_map(char::to_uppercase).chain(word.chars().skip(1)).collect();
    method.split('_').map(upper).collect::<Vec<String>>().concat()
}
