//! A scripted LND over real gRPC and TLS: just enough for the links' transport. Like LND it withholds the
//! response headers of an interceptor stream until the first HTLC, refuses a second client at once, and
//! presents a self-signed certificate that says it is a CA.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test's support may panic like a test")]

pub mod payments;

use futures::Stream;
use mux_proto::chainrpc::{BlockEpoch, chain_notifier_server as chain};
use mux_proto::lnrpc::lightning_server::{Lightning, LightningServer};
use mux_proto::lnrpc::state_server::{State as StateService, StateServer};
use mux_proto::lnrpc::{self, GetInfoResponse, LookupHtlcResolutionResponse, WalletState};
use mux_proto::routerrpc::router_server::{Router, RouterServer};
use mux_proto::routerrpc::{self, ForwardHtlcInterceptRequest, ForwardHtlcInterceptResponse, HtlcEvent};
use mux_raft::types::NodePubkey;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::net::TcpListener;
use tokio::sync::{broadcast, mpsc};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::{BroadcastStream, TcpListenerStream};
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

/// The macaroon that the fake wants.
pub const MACAROON: &[u8] = b"macaroon";

/// Identity of the fake.
pub const NODE: NodePubkey = NodePubkey([2; 33]);

/// Far enough from now.
const DAY: Duration = Duration::from_secs(86_400);

/// Longest that a test waits for anything.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What a client may send on a stream before the fake reads it; LND's is 64 KiB. Smaller, so that a test
/// needs few answers to fill it.
pub const ANSWERS_WINDOW_BYTES: u32 = 1_024;

type Answers = Vec<ForwardHtlcInterceptResponse>;
type BoxStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What the fake does, for the test to change while it runs.
pub struct Script {
    pub info: GetInfoResponse,
    pub wallet: WalletState,
    /// Somebody else holds the slot.
    pub slot_taken: bool,
    /// GetInfo is heard and not answered.
    pub info_withheld: bool,
    /// Answers are left unread; what the client may send meanwhile is [`ANSWERS_WINDOW_BYTES`].
    pub answers_unread: bool,
    /// Offers to the client on the stream; dropped: the stream ends.
    pub offers: Option<mpsc::UnboundedSender<Result<ForwardHtlcInterceptRequest, Status>>>,
    /// Everything that clients answered.
    pub answers: Answers,
    pub streams_opened: usize,
    pub streams_refused: usize,
    /// For LookupHtlcResolution.
    pub records: BTreeMap<(u64, u64), LookupHtlcResolutionResponse>,
    pub channels: Vec<lnrpc::Channel>,
}

/// The fake: one node, with one or more listeners.
#[derive(Clone)]
pub struct FakeLnd {
    pub script: Arc<Mutex<Script>>,
    pub events: broadcast::Sender<HtlcEvent>,
    pub blocks: broadcast::Sender<BlockEpoch>,
}

/// One listener of a fake.
pub struct Listener {
    pub address: SocketAddr,
    pub cert: PathBuf,
    /// Its own, so that dropping it cuts every connection, as a crash would.
    runtime: Option<tokio::runtime::Runtime>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl FakeLnd {
    pub fn new(height: u32) -> Self {
        let info = GetInfoResponse {
            identity_pubkey: NODE.to_string(),
            block_height: height,
            block_hash: "ab".repeat(32),
            synced_to_chain: true,
            version: "0.21.1-beta commit=v0.21.1-beta".into(),
            chains: vec![lnrpc::Chain { chain: "bitcoin".into(), network: "regtest".into() }],
            require_htlc_interceptor: true,
            store_final_htlc_resolutions: true,
            ..GetInfoResponse::default()
        };
        let script = Script {
            info,
            wallet: WalletState::ServerActive,
            slot_taken: false,
            info_withheld: false,
            answers_unread: false,
            offers: None,
            answers: Vec::new(),
            streams_opened: 0,
            streams_refused: 0,
            records: BTreeMap::new(),
            channels: Vec::new(),
        };
        let (events, blocks) = (broadcast::Sender::new(1_024), broadcast::Sender::new(16));
        Self { script: Arc::new(Mutex::new(script)), events, blocks }
    }

    /// Listens with a new certificate, written to `name` in `dir`.
    pub async fn listen(&self, dir: &Path, name: &str) -> Listener {
        self.listen_at(dir, name, SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    pub async fn listen_at(&self, dir: &Path, name: &str, address: SocketAddr) -> Listener {
        self.listen_until(dir, name, address, SystemTime::now() + DAY).await
    }

    /// With a certificate that has ended.
    pub async fn listen_expired(&self, dir: &Path, name: &str) -> Listener {
        self.listen_until(dir, name, SocketAddr::from(([127, 0, 0, 1], 0)), SystemTime::now() - DAY).await
    }

    async fn listen_until(&self, dir: &Path, name: &str, address: SocketAddr, until: SystemTime) -> Listener {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_after = until.into();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        let cert = dir.join(name);
        std::fs::write(&cert, &pem).unwrap();
        let identity = Identity::from_pem(pem, key.serialize_pem());
        let listener = bind(address).await.into_std().unwrap();
        let address = listener.local_addr().unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let services = Server::builder()
            // Of a stream, not of the connection: the other calls go on.
            .initial_stream_window_size(ANSWERS_WINDOW_BYTES)
            .tls_config(ServerTlsConfig::new().identity(identity))
            .unwrap()
            .add_service(LightningServer::new(self.clone()))
            .add_service(RouterServer::new(self.clone()))
            .add_service(StateServer::new(self.clone()))
            .add_service(chain::ChainNotifierServer::new(self.clone()));
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            services.serve_with_incoming(TcpListenerStream::new(listener)).await
        });
        Listener { address, cert, runtime: Some(runtime) }
    }

    /// Sends an HTLC to the client that holds the stream.
    pub fn offer(&self, request: ForwardHtlcInterceptRequest) {
        let script = self.script.lock();
        script.offers.as_ref().expect("a client holds the stream").send(Ok(request)).unwrap();
    }

    /// Ends the stream as after a bad answer.
    pub fn kill_stream(&self) {
        let offers = self.script.lock().offers.take();
        let _ =
            offers.unwrap().send(Err(Status::unknown("forward does not exist: (Chan ID=0:0:0, HTLC ID=0)")));
    }

    pub fn is_held(&self) -> bool {
        self.script.lock().offers.is_some()
    }

    /// What was answered to these HTLCs so far.
    pub fn actions(&self) -> Vec<(u64, routerrpc::ResolveHoldForwardAction)> {
        let script = self.script.lock();
        script
            .answers
            .iter()
            .map(|answer| (answer.incoming_circuit_key.unwrap().htlc_id, answer.action()))
            .collect()
    }

    fn check<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let given = request.metadata().get("macaroon").map(|value| value.as_bytes().to_vec());
        match given {
            None => Err(Status::unknown("expected 1 macaroon, got 0")),
            Some(value) if value == hex::encode(MACAROON).into_bytes() => match self.script.lock().wallet {
                WalletState::ServerActive | WalletState::RpcActive => Ok(()),
                _ => Err(Status::unknown("waiting to start, RPC services not available")),
            },
            Some(_) => Err(Status::unknown("verification failed: signature mismatch")),
        }
    }
}

/// A port that was in use a moment ago may take a moment to be free.
async fn bind(address: SocketAddr) -> TcpListener {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) => assert!(tokio::time::Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until this is true.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "timed out: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tonic::async_trait]
impl StateService for FakeLnd {
    type SubscribeStateStream = BoxStream<lnrpc::SubscribeStateResponse>;

    async fn subscribe_state(
        &self,
        _: Request<lnrpc::SubscribeStateRequest>,
    ) -> Result<Response<Self::SubscribeStateStream>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn get_state(
        &self,
        _: Request<lnrpc::GetStateRequest>,
    ) -> Result<Response<lnrpc::GetStateResponse>, Status> {
        Ok(Response::new(lnrpc::GetStateResponse { state: self.script.lock().wallet.into() }))
    }
}

#[tonic::async_trait]
impl chain::ChainNotifier for FakeLnd {
    type RegisterBlockEpochNtfnStream = BoxStream<BlockEpoch>;

    async fn register_block_epoch_ntfn(
        &self,
        request: Request<BlockEpoch>,
    ) -> Result<Response<Self::RegisterBlockEpochNtfnStream>, Status> {
        self.check(&request)?;
        let tip = BlockEpoch { height: self.script.lock().info.block_height, ..BlockEpoch::default() };
        let later = BroadcastStream::new(self.blocks.subscribe()).filter_map(Result::ok);
        Ok(Response::new(Box::pin(tokio_stream::once(tip).chain(later).map(Ok))))
    }
}

#[tonic::async_trait]
impl Router for FakeLnd {
    type HtlcInterceptorStream = BoxStream<ForwardHtlcInterceptRequest>;
    type SubscribeHtlcEventsStream = BoxStream<HtlcEvent>;

    async fn htlc_interceptor(
        &self,
        request: Request<Streaming<ForwardHtlcInterceptResponse>>,
    ) -> Result<Response<Self::HtlcInterceptorStream>, Status> {
        self.check(&request)?;
        let (offers, mut offered) = mpsc::unbounded_channel();
        let number = {
            let mut script = self.script.lock();
            if script.slot_taken || script.offers.is_some() {
                script.streams_refused += 1;
                return Err(Status::unknown("interceptor already exists"));
            }
            script.streams_opened += 1;
            script.offers = Some(offers);
            script.streams_opened
        };
        let mut answers = request.into_inner();
        let script = Arc::clone(&self.script);
        tokio::spawn(async move {
            loop {
                while script.lock().answers_unread {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                let Ok(Some(answer)) = answers.message().await else { break };
                script.lock().answers.push(answer);
            }
            let mut script = script.lock();
            if script.streams_opened == number {
                script.offers = None;
            }
        });
        // The headers go out with the first HTLC, not before.
        let first = offered.recv().await.ok_or_else(|| Status::unavailable("EOF"))?;
        let rest = futures::stream::unfold(offered, |mut offered| async {
            offered.recv().await.map(|request| (request, offered))
        });
        Ok(Response::new(Box::pin(tokio_stream::once(first).chain(rest))))
    }

    async fn subscribe_htlc_events(
        &self,
        request: Request<routerrpc::SubscribeHtlcEventsRequest>,
    ) -> Result<Response<Self::SubscribeHtlcEventsStream>, Status> {
        self.check(&request)?;
        let first = HtlcEvent {
            event: Some(routerrpc::htlc_event::Event::SubscribedEvent(routerrpc::SubscribedEvent {})),
            ..HtlcEvent::default()
        };
        let later = BroadcastStream::new(self.events.subscribe()).filter_map(Result::ok);
        Ok(Response::new(Box::pin(tokio_stream::once(first).chain(later).map(Ok))))
    }
}

#[tonic::async_trait]
impl Lightning for FakeLnd {
    type SubscribeChannelEventsStream = BoxStream<lnrpc::ChannelEventUpdate>;
    type CloseChannelStream = BoxStream<lnrpc::CloseStatusUpdate>;

    async fn get_info(
        &self,
        request: Request<lnrpc::GetInfoRequest>,
    ) -> Result<Response<GetInfoResponse>, Status> {
        self.check(&request)?;
        while self.script.lock().info_withheld {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(Response::new(self.script.lock().info.clone()))
    }

    async fn list_channels(
        &self,
        request: Request<lnrpc::ListChannelsRequest>,
    ) -> Result<Response<lnrpc::ListChannelsResponse>, Status> {
        self.check(&request)?;
        Ok(Response::new(lnrpc::ListChannelsResponse { channels: self.script.lock().channels.clone() }))
    }

    async fn get_chan_info(
        &self,
        _: Request<lnrpc::ChanInfoRequest>,
    ) -> Result<Response<lnrpc::ChannelEdge>, Status> {
        Err(Status::not_found("edge not found"))
    }

    async fn subscribe_channel_events(
        &self,
        request: Request<lnrpc::ChannelEventSubscription>,
    ) -> Result<Response<Self::SubscribeChannelEventsStream>, Status> {
        self.check(&request)?;
        std::future::pending().await
    }

    async fn lookup_htlc_resolution(
        &self,
        request: Request<lnrpc::LookupHtlcResolutionRequest>,
    ) -> Result<Response<LookupHtlcResolutionResponse>, Status> {
        self.check(&request)?;
        let request = request.into_inner();
        let record = self.script.lock().records.get(&(request.chan_id, request.htlc_index)).copied();
        record.map(Response::new).ok_or_else(|| Status::not_found("htlc unknown"))
    }

    async fn pending_channels(
        &self,
        _: Request<lnrpc::PendingChannelsRequest>,
    ) -> Result<Response<lnrpc::PendingChannelsResponse>, Status> {
        Ok(Response::new(lnrpc::PendingChannelsResponse::default()))
    }

    async fn closed_channels(
        &self,
        _: Request<lnrpc::ClosedChannelsRequest>,
    ) -> Result<Response<lnrpc::ClosedChannelsResponse>, Status> {
        Ok(Response::new(lnrpc::ClosedChannelsResponse::default()))
    }

    async fn close_channel(
        &self,
        _: Request<lnrpc::CloseChannelRequest>,
    ) -> Result<Response<Self::CloseChannelStream>, Status> {
        Err(Status::unimplemented("not scripted"))
    }
}
