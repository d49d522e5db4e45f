//! A replica's API with everything real but consensus and LND.

#![allow(dead_code)] // Not every test program needs all of it.

use mux_proto::lnmux::service_client::ServiceClient;
use mux_proto::mux::v1::cluster_service_client::ClusterServiceClient;
use mux_proto::mux::v1::invoice_service_client::InvoiceServiceClient;
use mux_proto::mux::v1::{AddInvoiceRequest, AddInvoiceResponse, GetInvoiceRequest, Invoice};
use mux_raft::clock::Clock;
use mux_raft::consensus::Consensus;
use mux_raft::local::LocalConsensus;
use mux_raft::machine::command::{ChainTip, Command, FinalOutcome, HtlcFinal, HtlcOffer};
use mux_raft::machine::model::{FrontNodePolicy, Settings};
use mux_raft::machine::{Reply, RequestId};
use mux_raft::types::{BlockHeight, Msat, NodePubkey, PaymentHash};
use muxd::NodeWiring;
use muxd::api::{AdminToken, ApiConfig, Context, DrainOrder, DrainReport, RequireToken};
use muxd::config::Invoices;
use muxd::init::{ClusterFiles, ClusterPlan, write_cluster};
use muxd::invoice;
use muxd::keys::{ClusterKeys, ClusterSeed, Network};
use muxd::server::{ApiRoutes, ApiServer, ApiTls};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status};

pub(crate) const NOW_MS: u64 = 1_700_000_000_000;
pub(crate) const HEIGHT: BlockHeight = 800_000;
pub(crate) const EXPIRY: BlockHeight = HEIGHT + 160;

/// Nothing here takes that long unless it hangs.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

struct FixedClock;

impl Clock for FixedClock {
    fn wall_ms(&self) -> u64 {
        NOW_MS
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

/// Sends the macaroon.
#[derive(Clone)]
pub(crate) struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, tonic::Status> {
        request.metadata_mut().insert("macaroon", self.0.clone());
        Ok(request)
    }
}

type Link = InterceptedService<Channel, Bearer>;

pub(crate) struct Server {
    pub(crate) consensus: Arc<LocalConsensus>,
    pub(crate) keys: Arc<ClusterKeys>,
    pub(crate) files: ClusterFiles,
    pub(crate) address: SocketAddr,
    pub(crate) routes: ApiRoutes,
    pub(crate) api: ApiServer,
    pub(crate) streams: CancellationToken,
    context: Arc<Context>,
    bearer: Bearer,
    _dir: tempfile::TempDir,
}

/// What differs between tests.
pub(crate) struct Setup {
    pub(crate) front_nodes: u8,
    pub(crate) auto_settle: bool,
    pub(crate) return_preimage: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self { front_nodes: 1, auto_settle: false, return_preimage: false }
    }
}

impl Server {
    pub(crate) async fn start(setup: Setup) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let files = write_cluster(&ClusterPlan::loopback(dir.path().join("cluster"), 1)).unwrap();
        let keys = Arc::new(ClusterKeys::derive(&ClusterSeed::load(&files.seed).unwrap()));
        let own = &files.replicas[0].dir;
        let tls = ApiTls::read(&own.join("api.pem"), &own.join("api.key")).unwrap();
        let consensus = Arc::new(LocalConsensus::new(1, NOW_MS));
        let config = ApiConfig {
            cluster_name: "mux".into(),
            cluster_id: keys.cluster_id("mux", Network::Regtest),
            network: Network::Regtest,
            invoices: Invoices::default(),
            return_preimage: setup.return_preimage,
            front_nodes: Vec::new(),
            dir: files.replicas[0].dir.clone(),
        };
        let streams = CancellationToken::new();
        let context = Context::new(
            config,
            Arc::clone(&consensus) as Arc<dyn Consensus>,
            Arc::clone(&keys),
            Arc::new(Vec::new),
            NodeWiring { clock: Arc::new(FixedClock), ..NodeWiring::default() },
            streams.clone(),
        );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let auth = RequireToken::new(Some(AdminToken::derive(&keys)));
        let routes = ApiRoutes::new(Arc::clone(&context), auth).await.unwrap();
        let api = ApiServer::start(&routes, listener, &tls).unwrap();
        let macaroon = hex::encode(std::fs::read(&files.admin_macaroon).unwrap());
        let (address, bearer) = (api.address(), Bearer(macaroon.parse().unwrap()));
        let server =
            Self { consensus, keys, files, address, routes, api, streams, context, bearer, _dir: dir };
        server.run(Command::raise_feature_level());
        server.run(Command::Configure(Settings { auto_settle: setup.auto_settle, ..Settings::default() }));
        (1..=setup.front_nodes).for_each(|number| server.connect_front_node(number));
        server
    }

    /// Takes one order to drain, answers it, and returns how long it was to take.
    pub(crate) fn drains(&self, report: DrainReport) -> impl Future<Output = Duration> + use<> {
        let mut orders = self.context.drain_orders();
        async move {
            let DrainOrder { timeout, report: to } = orders.recv().await.unwrap();
            to.send(report).unwrap();
            timeout
        }
    }

    /// Over TLS, trusting what `muxd init` wrote.
    pub(crate) async fn channel(&self) -> Channel {
        let cert = Certificate::from_pem(std::fs::read(&self.files.api_cert).unwrap());
        let endpoint = Endpoint::from_shared(format!("https://{}", self.address)).unwrap();
        endpoint.tls_config(ClientTlsConfig::new().ca_certificate(cert)).unwrap().connect().await.unwrap()
    }

    pub(crate) async fn invoices(&self) -> InvoiceServiceClient<Link> {
        InvoiceServiceClient::with_interceptor(self.channel().await, self.bearer.clone())
    }

    pub(crate) async fn cluster(&self) -> ClusterServiceClient<Link> {
        ClusterServiceClient::with_interceptor(self.channel().await, self.bearer.clone())
    }

    pub(crate) async fn lnmux(&self) -> ServiceClient<Link> {
        ServiceClient::with_interceptor(self.channel().await, self.bearer.clone())
    }

    pub(crate) async fn add(&self, amount_msat: u64) -> AddInvoiceResponse {
        let request = AddInvoiceRequest { amount_msat, ..Default::default() };
        self.invoices().await.add_invoice(request).await.unwrap().into_inner()
    }

    pub(crate) async fn get(&self, hash: &[u8]) -> Invoice {
        let request = GetInvoiceRequest { hash: hash.to_vec().into(), consistency: 0 };
        self.invoices().await.get_invoice(request).await.unwrap().into_inner().invoice.unwrap()
    }

    /// Commits a command, as links would.
    pub(crate) fn run(&self, command: Command) -> Reply {
        self.consensus.commit(command, None).reply
    }

    pub(crate) fn connect_front_node(&self, number: u8) {
        let node = front_node(number);
        let policy =
            FrontNodePolicy { scid: u64::from(number), fee_base_msat: 0, fee_ppm: 0, cltv_delta: 80 };
        self.run(Command::PutFrontNode { node, alias: format!("n{number}"), policy });
        self.run(Command::AssignLink { node, replica: Some(1) });
        self.run(Command::LinkUp { node, replica: 1, stream: RequestId([number; 16]) });
        self.report(number, Vec::new());
    }

    /// The link is alive; channel 7 is active unless it is named.
    pub(crate) fn report(&self, number: u8, inactive_channels: Vec<u64>) {
        let tip = Some(ChainTip { height: HEIGHT, hash: [1; 32], synced: true });
        self.run(Command::LinkReport { node: front_node(number), session: 1, tip, inactive_channels });
    }

    /// An HTLC arrives that pays a part of an invoice.
    pub(crate) fn offer(
        &self,
        number: u8,
        htlc_id: u64,
        text: &str,
        part_msat: u64,
        total_msat: u64,
    ) -> Reply {
        let own = invoice::parse(&self.keys, Network::Regtest, text).unwrap();
        let offer = HtlcOffer {
            chan_id: 7,
            htlc_id,
            hash: own.hash,
            secret: own.secret,
            terms: own.terms,
            total_msat: Msat(total_msat),
            outgoing_amount_msat: Msat(part_msat),
            incoming_amount_msat: Msat(part_msat),
            outgoing_expiry: EXPIRY - 80,
            incoming_expiry: EXPIRY,
            auto_fail_height: EXPIRY - 19,
            on_chain: false,
        };
        self.run(Command::OfferHtlcs { node: front_node(number), session: 1, offers: vec![offer] })
    }

    /// LND says how an HTLC of channel 7 ended.
    pub(crate) fn finish(&self, number: u8, htlc_id: u64, outcome: FinalOutcome) {
        let finals = vec![HtlcFinal { chan_id: 7, htlc_id, outcome }];
        self.run(Command::HtlcFinals { node: front_node(number), finals });
    }
}

pub(crate) fn front_node(number: u8) -> NodePubkey {
    let key = secp256k1::SecretKey::from_slice(&[number; 32]).unwrap();
    NodePubkey(key.public_key(secp256k1::SECP256K1).serialize())
}

/// What a payer holds after a payment.
pub(crate) fn pays(preimage: &[u8], hash: &[u8]) -> bool {
    let preimage = mux_raft::types::Preimage(preimage.try_into().unwrap());
    preimage.payment_hash() == PaymentHash::try_from(hash).unwrap()
}

/// Fails the test rather than to hang.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, what).await.expect("it takes too long")
}

/// What the server says shortly before the caller's deadline, which is so far away. On a busy machine the transport may be
/// the first to notice the deadline: then it is asked again.
pub(crate) async fn told<Q: Clone, A: std::fmt::Debug, F>(
    deadline: Duration,
    asked: &Q,
    call: impl Fn(Request<Q>) -> F,
) -> Status
where
    F: Future<Output = Result<A, Status>>,
{
    let told = async {
        loop {
            let mut request = Request::new(asked.clone());
            request.set_timeout(deadline);
            let error = call(request).await.expect_err("it cannot be answered in time");
            if !matches!(error.code(), Code::Cancelled | Code::DeadlineExceeded) {
                return error;
            }
        }
    };
    soon(told).await
}
