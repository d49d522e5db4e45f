//! The client API's services, and their listener.

use super::handled::CountHandled;
use crate::api::{Cluster, Context, Invoices, LnmuxService, RequireToken};
use mux_proto::lnmux::service_server::ServiceServer;
use mux_proto::mux::v1::cluster_service_server::ClusterServiceServer;
use mux_proto::mux::v1::invoice_service_server::InvoiceServiceServer;
use mux_raft::network::{ServerTls, tls_incoming};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

/// Idle connections are asked for a sign of life this often, and closed without one.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// A client that begins a TLS handshake has to end it.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Calls at the same time on one connection.
const STREAMS_PER_CONNECTION: u32 = 1_000;

/// Names that `grpc.health.v1` knows; the empty one is the whole.
const HEALTH_NAMES: [&str; 4] = ["", "lnmux.Service", "mux.v1.ClusterService", "mux.v1.InvoiceService"];

/// Certificate and key, PEM.
pub struct ApiTls {
    /// Certificate.
    pub cert: Vec<u8>,
    /// Key.
    pub key: zeroize::Zeroizing<Vec<u8>>,
}

impl ApiTls {
    /// Reads both.
    ///
    /// # Errors
    /// A text naming the file.
    pub fn read(cert: &Path, key: &Path) -> Result<Self, String> {
        let read = |path: &Path| std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
        Ok(Self { cert: read(cert)?, key: read(key)?.into() })
    }
}

/// What tells clients about the services. Made once: reading the descriptions takes milliseconds, and a simulation starts
/// replicas by the dozen in one process.
fn reflection() -> Result<Routes, String> {
    static MADE: OnceLock<Routes> = OnceLock::new();
    if let Some(made) = MADE.get() {
        return Ok(made.clone());
    }
    let service = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(mux_proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .with_service_name("lnmux.Service")
        .with_service_name("mux.v1.ClusterService")
        .with_service_name("mux.v1.InvoiceService")
        .with_service_name("grpc.health.v1.Health")
        .build_v1()
        .map_err(|error| super::run::chain(&error))?;
    Ok(MADE.get_or_init(|| Routes::new(service)).clone())
}

/// The calls of the API, to be served over whatever brings them.
#[derive(Clone)]
pub struct ApiRoutes {
    routes: Routes,
    health: HealthReporter,
}

impl ApiRoutes {
    /// All services. Health begins as "not serving".
    ///
    /// # Errors
    /// A text: the descriptions of the services cannot be used.
    pub async fn new(context: Arc<Context>, auth: RequireToken) -> Result<Self, String> {
        let (health, health_service) = tonic_health::server::health_reporter();
        let services = reflection()?
            .add_service(health_service)
            .add_service(ServiceServer::with_interceptor(LnmuxService(Arc::clone(&context)), auth.clone()))
            .add_service(ClusterServiceServer::with_interceptor(Cluster(Arc::clone(&context)), auth.clone()))
            .add_service(InvoiceServiceServer::with_interceptor(Invoices(context), auth));
        let routes = services.into_axum_router().layer(CountHandled).into();
        let this = Self { routes, health };
        this.set_ready(false).await;
        Ok(this)
    }

    /// What serves them.
    #[must_use]
    pub fn routes(&self) -> Routes {
        self.routes.clone()
    }

    /// What `grpc.health.v1` answers from now on.
    pub async fn set_ready(&self, ready: bool) {
        let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
        for name in HEALTH_NAMES {
            self.health.set_service_status(name, status).await;
        }
    }
}

/// The API's listener, running.
pub struct ApiServer {
    address: SocketAddr,
    tls: ServerTls,
    stop: CancellationToken,
    task: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl ApiServer {
    /// Serves on a bound listener until [`ApiServer::stop`].
    ///
    /// # Errors
    /// A text: certificate or key cannot be used, or the socket.
    pub fn start(api: &ApiRoutes, listener: TcpListener, tls: &ApiTls) -> Result<Self, String> {
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let tls = ServerTls::new(&tls.cert, &tls.key, None)
            .map_err(|error| format!("api.tls_cert, api.tls_key: {error}"))?;
        let router = Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .max_concurrent_streams(STREAMS_PER_CONNECTION)
            .add_routes(api.routes());
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let incoming = tls_incoming(listener, tls.clone(), HANDSHAKE_TIMEOUT);
        let task = tokio::spawn(router.serve_with_incoming_shutdown(incoming, stopped));
        Ok(Self { address, tls, stop, task })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it shows to new connections; can be exchanged while it runs.
    #[must_use]
    pub fn tls(&self) -> ServerTls {
        self.tls.clone()
    }

    /// Waits until it ends by itself, which it should not.
    pub async fn ended(&mut self) -> String {
        match (&mut self.task).await {
            Ok(Ok(())) => "the API server ended".into(),
            Ok(Err(error)) => super::run::chain(&error),
            Err(error) => error.to_string(),
        }
    }

    /// Takes no more calls and waits for those under way. Streams end when the context's token is
    /// cancelled, which has to come first.
    pub async fn stop(mut self) {
        self.stop.cancel();
        let why = self.ended().await;
        tracing::debug!(why, "API stopped");
    }
}
