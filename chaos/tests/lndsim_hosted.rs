//! A simulated LND without sockets: its connections are only what calls say of themselves.

#![allow(clippy::unwrap_used)] // test code, outside of test functions

mod sim_support;

use mux_chaos::lndsim::{Config, Hosted, MemoryJournal, core::Command};
use mux_proto::{
    lndsim::v1::{self as ctl, Power, cut_streams_request::Mode, restart_request::Phase},
    lnrpc::{
        GetStateRequest, SubscribeStateRequest, SubscribeStateResponse, WalletState,
        state_client::StateClient,
    },
    routerrpc::{ForwardHtlcInterceptRequest, ForwardHtlcInterceptResponse, router_client::RouterClient},
};
use mux_raft::{clock::Clock as _, network::PeerChannel};
use sim_support::{PATIENCE, TokioClock, Wires, eventually, simulate, soon};
use std::time::Duration;
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};

const ADDRESS: &str = "alice:10009";

struct Rig {
    wires: Wires,
    clock: TokioClock,
    config: Config,
    journal: MemoryJournal,
    lnd: Hosted,
}

/// An interceptor stream that is being opened: LND answers with the first HTLC.
struct Interception {
    _answers: mpsc::Sender<ForwardHtlcInterceptResponse>,
    opening: JoinHandle<Result<Response<Streaming<ForwardHtlcInterceptRequest>>, Status>>,
}

impl Rig {
    fn new() -> Self {
        let (wires, clock) = (Wires::default(), TokioClock::new());
        let (config, journal) = (Config::new("alice"), MemoryJournal::default());
        let lnd = Hosted::start(&config, &journal, clock.wall_ms()).unwrap();
        wires.listen(ADDRESS, lnd.routes());
        Self { wires, clock, config, journal, lnd }
    }

    fn connect(&self) -> StateClient<PeerChannel> {
        StateClient::new(self.wires.channel(ADDRESS))
    }

    /// On this connection, by the side of what else is on it.
    async fn intercept(&self, channel: PeerChannel) -> Interception {
        let (answers, receiver) = mpsc::channel(8);
        let mut request = Request::new(ReceiverStream::new(receiver));
        let macaroon = hex::encode(self.lnd.macaroon()).parse().unwrap();
        request.metadata_mut().insert("macaroon", macaroon);
        let mut router = RouterClient::new(channel);
        let opening = tokio::spawn(async move { router.htlc_interceptor(request).await });
        eventually("the interceptor is there", || self.lnd.state().interceptor_connected).await;
        Interception { _answers: answers, opening }
    }

    fn cut(&self, mode: Mode) {
        let cut = ctl::CutStreamsRequest { mode: mode.into(), ..ctl::CutStreamsRequest::default() };
        self.lnd.command(Command::CutStreams(cut)).unwrap();
    }
}

async fn state(client: &mut StateClient<PeerChannel>) -> Result<WalletState, Code> {
    let answer = soon(client.get_state(GetStateRequest {})).await;
    answer.map(|answer| answer.into_inner().state()).map_err(|status| status.code())
}

async fn subscribe(client: &mut StateClient<PeerChannel>) -> Streaming<SubscribeStateResponse> {
    let mut states = soon(client.subscribe_state(SubscribeStateRequest {})).await.unwrap().into_inner();
    assert_eq!(soon(states.message()).await.unwrap().unwrap().state(), WalletState::ServerActive);
    states
}

#[test]
fn a_reset_ends_the_calls_of_one_connection_and_of_no_other() {
    simulate(async {
        let rig = Rig::new();
        let channel = rig.wires.channel(ADDRESS);
        let (mut same, mut other) = (StateClient::new(channel.clone()), rig.connect());
        let (mut with_it, mut apart) = (subscribe(&mut same).await, subscribe(&mut other).await);
        let interception = rig.intercept(channel).await;
        rig.cut(Mode::Reset);
        assert_eq!(soon(interception.opening).await.unwrap().unwrap_err().code(), Code::Unavailable);
        assert_eq!(soon(with_it.message()).await.unwrap_err().code(), Code::Unavailable);
        assert!(timeout(PATIENCE, apart.message()).await.is_err(), "it goes on, and has nothing to say");
        eventually("the slot is free", || !rig.lnd.state().interceptor_connected).await;
        assert_eq!(
            state(&mut same).await,
            Ok(WalletState::ServerActive),
            "a client connects again by itself"
        );
    });
}

#[test]
fn nothing_passes_on_a_stalled_connection_until_keepalives_give_it_up() {
    simulate(async {
        let rig = Rig::new();
        let channel = rig.wires.channel(ADDRESS);
        let (mut same, mut other) = (StateClient::new(channel.clone()), rig.connect());
        let mut with_it = subscribe(&mut same).await;
        let interception = rig.intercept(channel).await;
        let stalled = Instant::now();
        rig.cut(Mode::Stall);
        let keepalive = rig.config.ping_interval + rig.config.ping_timeout;
        assert!(timeout(keepalive / 2, state(&mut same)).await.is_err());
        assert_eq!(state(&mut other).await, Ok(WalletState::ServerActive));
        assert!(rig.lnd.state().interceptor_connected, "half open: the slot is taken");
        assert_eq!(soon(with_it.message()).await.unwrap_err().code(), Code::Unavailable);
        assert_eq!(stalled.elapsed(), keepalive);
        assert_eq!(soon(interception.opening).await.unwrap().unwrap_err().code(), Code::Unavailable);
        eventually("the slot is free", || !rig.lnd.state().interceptor_connected).await;
    });
}

#[test]
fn a_node_that_is_down_answers_nobody_and_comes_back_when_it_is_time() {
    simulate(async {
        let rig = Rig::new();
        let mut client = rig.connect();
        let mut states = subscribe(&mut client).await;
        let phases = vec![
            Phase { power: Power::Down.into(), duration_ms: 2_000 },
            Phase { power: Power::WaitingToStart.into(), duration_ms: 1_000 },
        ];
        let restart = ctl::RestartRequest { phases, ..ctl::RestartRequest::default() };
        let down = Instant::now();
        rig.lnd.command(Command::Restart(restart)).unwrap();
        assert_eq!(soon(states.message()).await.unwrap_err().code(), Code::Unavailable);
        assert_eq!(state(&mut client).await, Err(Code::Unavailable));
        tokio::time::sleep_until(down + Duration::from_millis(2_500)).await;
        assert_eq!(state(&mut client).await, Ok(WalletState::WaitingToStart));
        tokio::time::sleep_until(down + Duration::from_millis(3_500)).await;
        assert_eq!(state(&mut client).await, Ok(WalletState::ServerActive));
    });
}

#[test]
fn a_killed_node_is_silent_and_its_successor_has_what_was_in_the_journal() {
    simulate(async {
        let rig = Rig::new();
        let mut client = rig.connect();
        let mut states = subscribe(&mut client).await;
        let mine = Command::MineBlocks(ctl::MineBlocksRequest { blocks: 5 });
        rig.lnd.command(mine.clone()).unwrap();
        let (pubkey, before) = (rig.lnd.identity_pubkey().to_owned(), rig.lnd.state());
        rig.lnd.kill();
        assert_eq!(soon(states.message()).await.unwrap_err().code(), Code::Unavailable);
        assert_eq!(state(&mut client).await, Err(Code::Unavailable));
        rig.lnd.command(mine).unwrap_err();

        let again = Hosted::start(&rig.config, &rig.journal, rig.clock.wall_ms()).unwrap();
        rig.wires.listen(ADDRESS, again.routes());
        assert_eq!(state(&mut client).await, Ok(WalletState::ServerActive));
        assert_eq!((again.identity_pubkey(), again.macaroon()), (&*pubkey, rig.lnd.macaroon()));
        let after = again.state();
        assert_eq!(after.chain.as_ref().unwrap().height, 805);
        let ids = |state: &ctl::GetStateResponse| -> Vec<u64> {
            state.channels.iter().map(|channel| channel.chan_id).collect()
        };
        assert_eq!(ids(&after), ids(&before));
    });
}
