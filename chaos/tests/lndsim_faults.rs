//! Faults of the simulated LND as a client sees them on the wire.

#![allow(clippy::unwrap_used)] // test code, outside of test functions

mod lndsim_support;

use std::{net::SocketAddr, time::Duration};

use lndsim_support::{
    Authed, SOON, WithMacaroon, channel_to, connect, control, htlc, intercept, macaroon, preimage, wait,
};
use mux_chaos::lndsim::{Config, Running, Server, core::Command};
use mux_proto::{
    lndsim::v1 as ctl,
    lnrpc::{self, lightning_client::LightningClient},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tonic::Code;

/// A wire that can go dead without either end being told.
struct Wire {
    addr: SocketAddr,
    dead: CancellationToken,
}

impl Wire {
    async fn to(node: &Running) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let dead = CancellationToken::new();
        let alive = dead.clone();
        let target = node.grpc_addr();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(target).await.unwrap();
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                tokio::spawn(Self::copy(from_client, to_server, alive.clone()));
                tokio::spawn(Self::copy(from_server, to_client, alive.clone()));
            }
        });
        Self { addr, dead }
    }

    async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, dead: CancellationToken) {
        let mut buffer = vec![0; 16_384];
        loop {
            let read = tokio::select! {
                biased;
                () = dead.cancelled() => return std::future::pending().await,
                read = from.read(&mut buffer) => read,
            };
            match read {
                Ok(0) | Err(_) => return,
                Ok(n) => {
                    if to.write_all(&buffer[..n]).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

fn quick_pings() -> Config {
    let (ping_interval, ping_timeout) = (Duration::from_secs(1), Duration::from_secs(1));
    Config { ping_interval, ping_timeout, ..Config::new("alice") }
}

#[tokio::test]
async fn a_half_open_death_holds_the_slot_until_keepalive_frees_it() {
    let node = Server::start(quick_pings()).await.unwrap();
    let wire = Wire::to(&node).await;
    let channel = channel_to(wire.addr, &node.tls_cert_pem()).await;
    let stream = intercept(&Authed::new(channel, WithMacaroon(Some(macaroon(&node)))));
    wait(&node, |state| state.interceptor_connected).await;
    wire.dead.cancel();
    let died = Instant::now();
    let refused = intercept(&connect(&node).await).next().await.unwrap_err();
    assert_eq!(refused.message(), "interceptor already exists");
    wait(&node, |state| !state.interceptor_connected).await;
    assert!(died.elapsed() >= Duration::from_millis(900), "freed by keepalive, not by the death");
    assert!(!stream.opening.is_finished(), "the client was told nothing");
    let _next = intercept(&connect(&node).await);
    wait(&node, |state| state.interceptor_connected).await;
}

#[tokio::test]
async fn a_living_client_that_says_nothing_keeps_the_slot() {
    let node = Server::start(quick_pings()).await.unwrap();
    let mut stream = intercept(&connect(&node).await);
    wait(&node, |state| state.interceptor_connected).await;
    // Longer than what kills a dead one; pings are answered by the HTTP/2 layer.
    tokio::time::sleep(Duration::from_millis(3_500)).await;
    assert!(node.state().interceptor_connected);
    control(&node).await.add_htlc(htlc(1, 800)).await.unwrap();
    stream.next().await.unwrap();
}

#[tokio::test]
async fn a_cut_with_a_held_slot_refuses_the_client_until_the_node_notices() {
    let node = Server::start(Config::new("alice")).await.unwrap();
    let mut control = control(&node).await;
    let mut stream = intercept(&connect(&node).await);
    wait(&node, |state| state.interceptor_connected).await;
    let cut = ctl::CutStreamsRequest { hold_slot_ms: 2_000, ..Default::default() };
    control.cut_streams(cut).await.unwrap();
    stream.next().await.expect_err("cut");
    let channel = connect(&node).await;
    assert_eq!(intercept(&channel).next().await.unwrap_err().message(), "interceptor already exists");
    control.add_htlc(htlc(1, 800)).await.unwrap();
    assert_eq!(node.state().held_htlcs, 1, "offered into the void, and held");
    wait(&node, |state| !state.interceptor_connected).await;
    intercept(&channel).next().await.expect("offered to the next client");
}

#[tokio::test]
async fn a_stalled_connection_looks_alive_until_the_nodes_keepalive() {
    let node = Server::start(quick_pings()).await.unwrap();
    let stream = intercept(&connect(&node).await);
    wait(&node, |state| state.interceptor_connected).await;
    let stall = ctl::CutStreamsRequest { mode: 2, ..Default::default() };
    control(&node).await.cut_streams(stall).await.unwrap();
    control(&node).await.add_htlc(htlc(1, 800)).await.unwrap();
    assert!(!stream.opening.is_finished() && node.state().interceptor_connected);
    wait(&node, |state| !state.interceptor_connected).await;
    intercept(&connect(&node).await).next().await.expect("the HTLC was held");
}

#[tokio::test]
async fn a_settle_lost_between_mailbox_and_signature_is_offered_again_after_the_crash() {
    let node = Server::start(Config::new("alice")).await.unwrap();
    let mut control = control(&node).await;
    let limit = |limit: ctl::Stage| ctl::SetStageLimitRequest { limit: limit.into(), ..Default::default() };
    control.set_stage_limit(limit(ctl::Stage::Mailbox)).await.unwrap();
    let mut stream = intercept(&connect(&node).await);
    wait(&node, |state| state.interceptor_connected).await;
    control.add_htlc(htlc(1, 800)).await.unwrap();
    let first = stream.next().await.unwrap();
    stream.settle(&first, preimage(1)).await;
    wait(&node, |state| state.mailbox_packets == 1).await;
    let phases = vec![
        ctl::restart_request::Phase { power: ctl::Power::Down.into(), duration_ms: 100 },
        ctl::restart_request::Phase { power: ctl::Power::WaitingToStart.into(), duration_ms: 3_000 },
    ];
    control.restart(ctl::RestartRequest { phases, ..Default::default() }).await.unwrap();
    stream.next().await.expect_err("the node crashed");
    wait(&node, |state| state.power() == ctl::Power::WaitingToStart).await;
    let channel = connect(&node).await;
    let waiting = intercept(&channel).next().await.unwrap_err();
    assert_eq!(waiting.message(), "waiting to start, RPC services not available");
    wait(&node, |state| state.power() == ctl::Power::ServerActive).await;
    control.set_stage_limit(limit(ctl::Stage::Final)).await.unwrap();
    let mut stream = intercept(&channel);
    assert_eq!(stream.next().await.unwrap(), first, "the same offer, word for word");
    stream.settle(&first, preimage(1)).await;
    wait(&node, |state| state.last_outcome_seq == 1).await;
    assert!(node.ledger().htlcs[0].node_paid);
    assert_eq!(node.ledger().htlcs[0].answers.len(), 2);
}

#[tokio::test]
async fn a_node_that_is_down_accepts_nobody() {
    let node = Server::start(Config::new("alice")).await.unwrap();
    let down = ctl::SetWalletStateRequest { power: ctl::Power::Down.into() };
    node.command(Command::SetWalletState(down)).unwrap();
    let cert = node.tls_cert_pem();
    let dial = lndsim_support::try_channel_to(node.grpc_addr(), &cert);
    assert!(tokio::time::timeout(SOON, dial).await.unwrap().is_err());
    let up = ctl::SetWalletStateRequest { power: ctl::Power::ServerActive.into() };
    node.command(Command::SetWalletState(up)).unwrap();
    connect(&node).await;
}

#[tokio::test]
async fn an_orderly_restart_tells_the_client_that_the_switch_is_shutting_down() {
    let node = Server::start(Config::new("alice")).await.unwrap();
    let mut stream = intercept(&connect(&node).await);
    wait(&node, |state| state.interceptor_connected).await;
    let restart = ctl::RestartRequest { graceful: true, ..Default::default() };
    control(&node).await.restart(restart).await.unwrap();
    let ended = stream.next().await.unwrap_err();
    assert_eq!((ended.code(), ended.message()), (Code::Unknown, "switch shutting down"));
}

#[tokio::test]
async fn a_client_that_does_not_drain_its_stream_stops_the_whole_node() {
    let node = Server::start(Config { max_accepted_htlcs: 5_000, ..Config::new("alice") }).await.unwrap();
    let channel = connect(&node).await;
    let mut stream = intercept(&channel);
    wait(&node, |state| state.interceptor_connected).await;
    // More than HTTP/2's window and the server's buffer take.
    const FLOOD: usize = 3_000;
    for _ in 0..FLOOD {
        node.command(Command::AddHtlc(htlc(1, 800))).unwrap();
    }
    let first = stream.next().await.unwrap();
    let (mut offers, deadline) = (0, Instant::now() + SOON);
    while offers != node.state().offers_sent || !node.state().blocked_on_send {
        assert!(Instant::now() < deadline, "never blocked: {offers} sent");
        offers = node.state().offers_sent;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert!((offers as usize) < FLOOD, "{offers} sent");
    // An answer is read, and waits behind the offer that nobody reads.
    stream.settle(&first, preimage(1)).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(node.state().last_outcome_seq, 0);
    for _ in 1..FLOOD {
        stream.next().await.unwrap();
    }
    wait(&node, |state| state.last_outcome_seq == 1).await;
    assert!(!node.state().blocked_on_send);
}

#[tokio::test]
async fn a_node_that_reads_no_answers_leaves_them_with_the_client() {
    let node = Server::start(Config::new("alice")).await.unwrap();
    let mut control = control(&node).await;
    control.freeze_reads(ctl::FreezeReadsRequest { frozen: true }).await.unwrap();
    let mut stream = intercept(&connect(&node).await);
    wait(&node, |state| state.interceptor_connected).await;
    control.add_htlc(htlc(1, 800)).await.unwrap();
    let offer = stream.next().await.unwrap();
    stream.settle(&offer, preimage(1)).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(node.ledger().htlcs[0].answers.is_empty());
    control.freeze_reads(ctl::FreezeReadsRequest { frozen: false }).await.unwrap();
    wait(&node, |state| state.last_outcome_seq == 1).await;
}

#[tokio::test]
async fn subscribers_of_a_crashed_node_are_cut_off() {
    let node = Server::start(Config::new("alice")).await.unwrap();
    let channel = connect(&node).await;
    let mut router = mux_proto::routerrpc::router_client::RouterClient::new(channel.clone());
    let events = router.subscribe_htlc_events(mux_proto::routerrpc::SubscribeHtlcEventsRequest {}).await;
    let mut events = events.unwrap().into_inner();
    events.message().await.unwrap();
    node.command(Command::Restart(ctl::RestartRequest::default())).unwrap();
    assert!(tokio::time::timeout(SOON, events.message()).await.unwrap().is_err());
    // A lazy tonic channel dials again by itself only with a connector that can; take a new one.
    let mut lightning = LightningClient::new(connect(&node).await);
    lightning.get_info(lnrpc::GetInfoRequest {}).await.unwrap();
}

#[tokio::test]
async fn a_node_killed_and_started_again_in_its_directory_keeps_its_ports_and_its_database() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { dir: Some(dir.path().to_owned()), ..Config::new("alice") };
    let node = Server::start(config.clone()).await.unwrap();
    let (grpc, pubkey, cert) = (node.grpc_addr(), node.identity_pubkey().to_owned(), node.tls_cert_pem());
    let mut stream = intercept(&connect(&node).await);
    wait(&node, |state| state.interceptor_connected).await;
    node.command(Command::AddHtlc(htlc(1, 800))).unwrap();
    node.command(Command::AddHtlc(htlc(2, 800))).unwrap();
    let offer = stream.next().await.unwrap();
    stream.settle(&offer, preimage(1)).await;
    wait(&node, |state| state.last_outcome_seq == 1).await;
    node.kill().await;
    let node = Server::start(config).await.unwrap();
    assert_eq!((node.identity_pubkey(), node.tls_cert_pem()), (pubkey.as_str(), cert));
    assert_eq!(node.grpc_addr(), grpc);
    let mut stream = intercept(&connect(&node).await);
    let again = stream.next().await.unwrap();
    assert_eq!(again.incoming_circuit_key.unwrap().htlc_id, 1, "the other one is final");
    assert!(node.ledger().htlcs[0].node_paid);
}
