//! The simulated LND as a process: killed, and started again in its directory.

#![allow(clippy::unwrap_used)] // test code, outside of test functions

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use mux_chaos::lndsim::Ready;
use mux_proto::lndsim::v1::{self as ctl, control_client::ControlClient};

struct Process(Child, Ready);

impl Process {
    fn start(dir: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_lndsim"))
            .args(["--alias", "alice", "--height", "900", "--channels", "2", "--dir"])
            .arg(dir)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Ready = serde_json::from_str(&line).unwrap();
        let file: Ready = serde_json::from_slice(&std::fs::read(dir.join("ready.json")).unwrap()).unwrap();
        assert_eq!((file.grpc, file.pid), (ready.grpc, child.id()));
        Self(child, ready)
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_killed_process_comes_back_as_the_same_node_with_its_database() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = Process::start(dir.path());
    let mut control = ControlClient::connect(format!("http://{}", process.1.control)).await.unwrap();
    control.mine_blocks(ctl::MineBlocksRequest { blocks: 5 }).await.unwrap();
    let request = ctl::AddHtlcRequest {
        payment_hash: vec![1; 32].into(),
        incoming_amount_msat: 1_000,
        outgoing_amount_msat: 1_000,
        incoming_expiry: 1_100,
        onion_blob: vec![0; 1366].into(),
        ..Default::default()
    };
    control.add_htlc(request).await.unwrap();
    let before = control.get_ledger(ctl::GetLedgerRequest {}).await.unwrap().into_inner();
    let pubkey = process.1.identity_pubkey.clone();
    let (cert, macaroon) =
        (std::fs::read(&process.1.tls_cert).unwrap(), std::fs::read(&process.1.macaroon).unwrap());
    process.kill();

    let again = Process::start(dir.path());
    assert_eq!(again.1.identity_pubkey, pubkey);
    assert_eq!(std::fs::read(&again.1.tls_cert).unwrap(), cert);
    assert_eq!(std::fs::read(&again.1.macaroon).unwrap(), macaroon);
    let mut control = ControlClient::connect(format!("http://{}", again.1.control)).await.unwrap();
    let state = control.get_state(ctl::GetStateRequest {}).await.unwrap().into_inner();
    assert_eq!((state.chain.unwrap().height, state.channels.len()), (905, 2));
    let after = control.get_ledger(ctl::GetLedgerRequest {}).await.unwrap().into_inner();
    assert_eq!(after, before);
    let ledger = control.stream_ledger(ctl::StreamLedgerRequest { skip: 0 }).await.unwrap();
    assert_eq!(ledger.into_inner().message().await.unwrap().unwrap(), before.htlcs[0]);
    assert_eq!(after.htlcs[0].stage(), ctl::Stage::Final, "failed, as no client was there");
}
