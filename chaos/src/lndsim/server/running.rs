use std::{
    fmt::Display,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use mux_proto::lndsim::v1::{self as ctl, Power};
use serde::{Deserialize, Serialize};
use tokio::{net::TcpListener, sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};

use super::{
    super::core::{Command, Core, Rejected, Reply},
    config::Config,
    hosted::Hosted,
    listener, macaroon,
    tls::Tls,
};

const READY_FILE: &str = "ready.json";
/// Connections between TLS and HTTP/2.
const ACCEPT_CAPACITY: usize = 64;
/// How long an orderly stop may take.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a simulated node did not start. All of it is for the operator.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A file or directory.
    #[error("file system: {0}")]
    Disk(io::Error),
    /// A port.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, io::Error),
    /// The certificate cannot be made or read.
    #[error("certificate: {0}")]
    Certificate(String),
    /// `node.key` is not a key.
    #[error("node.key is not a secret key in hexadecimal")]
    BadKey,
    /// Written by another version.
    #[error("{0} has a record that this version does not know")]
    BadJournal(PathBuf),
    /// A channel that was asked for cannot be opened.
    #[error(transparent)]
    Rejected(#[from] Rejected),
}

impl StartError {
    pub(super) fn disk(error: io::Error) -> Self {
        Self::Disk(error)
    }

    pub(super) fn certificate(error: impl Display) -> Self {
        Self::Certificate(error.to_string())
    }
}

/// What `ready.json` says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ready {
    /// LND's services.
    pub grpc: SocketAddr,
    /// The controls.
    pub control: SocketAddr,
    /// Hexadecimal.
    pub identity_pubkey: String,
    /// To pin.
    pub tls_cert: PathBuf,
    /// That permits everything.
    pub macaroon: PathBuf,
    /// Of the process.
    pub pid: u32,
}

/// Starts simulated nodes.
pub struct Server;

impl Server {
    /// Starts a node; it serves when this returns.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(config: Config) -> Result<Running, StartError> {
        let temporary = match &config.dir {
            Some(_) => None,
            None => Some(tempfile::tempdir().map_err(StartError::disk)?),
        };
        let dir = config.dir.clone().or_else(|| temporary.as_ref().map(|dir| dir.path().to_owned()));
        let dir = dir.expect("either given or temporary");
        std::fs::create_dir_all(&dir).map_err(StartError::disk)?;
        let before = std::fs::read(dir.join(READY_FILE)).ok();
        let before: Option<Ready> = before.and_then(|bytes| serde_json::from_slice(&bytes).ok());

        let tls = Arc::new(Tls::load_or_create(&dir, &config.alias)?);
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unix_us = u64::try_from(unix.as_micros()).unwrap_or(u64::MAX);
        let node = Hosted::in_dir(&config, &dir, Arc::clone(&tls), unix_us)?;
        let listener = bind(config.listen, before.as_ref().map(|ready| ready.grpc)).await?;
        let control = bind(config.control, before.as_ref().map(|ready| ready.control)).await?;
        let ready = Ready {
            grpc: listener.local_addr().map_err(StartError::disk)?,
            control: control.local_addr().map_err(StartError::disk)?,
            identity_pubkey: node.identity_pubkey().to_owned(),
            tls_cert: dir.join("tls.cert"),
            macaroon: dir.join(macaroon::admin_file()),
            pid: std::process::id(),
        };
        let tasks = spawn(&node, &config, (listener, &tls), control);
        node.turn_on(&config)?;
        let text = serde_json::to_vec(&ready).map_err(|error| StartError::Disk(error.into()))?;
        let new = dir.join("ready.tmp");
        std::fs::write(&new, text).map_err(StartError::disk)?;
        std::fs::rename(&new, dir.join(READY_FILE)).map_err(StartError::disk)?;
        Ok(Running { node, ready, dir, tls, tasks, _temporary: temporary })
    }
}

/// The wanted port; if any will do, the one used before, if it is free.
async fn bind(wanted: SocketAddr, before: Option<SocketAddr>) -> Result<TcpListener, StartError> {
    if wanted.port() == 0
        && let Some(before) = before.filter(|before| before.ip() == wanted.ip())
        && let Ok(listener) = TcpListener::bind(before).await
    {
        return Ok(listener);
    }
    TcpListener::bind(wanted).await.map_err(|error| StartError::Listen(wanted, error))
}

fn spawn(
    hosted: &Hosted,
    config: &Config,
    (listener, tls): (TcpListener, &Arc<Tls>),
    control: TcpListener,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let (sender, connections) = mpsc::channel(ACCEPT_CAPACITY);
    tasks.spawn(listener::accept(Arc::clone(&hosted.node), Arc::clone(tls), listener, sender));
    let stop = || hosted.node.stop.clone().cancelled_owned();
    let lnd = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(config.ping_interval))
        .http2_keepalive_timeout(Some(config.ping_timeout))
        .add_routes(hosted.services())
        .serve_with_incoming_shutdown(ReceiverStream::new(connections), stop());
    let controls = tonic::transport::Server::builder()
        .add_routes(hosted.control_routes())
        .serve_with_incoming_shutdown(TcpListenerStream::new(control), stop());
    for (name, server) in [("LND", Box::pin(lnd) as Serving), ("control", Box::pin(controls))] {
        tasks.spawn(async move {
            if let Err(error) = server.await {
                tracing::error!(%error, name, "server ended");
            }
        });
    }
    tasks
}

type Serving = std::pin::Pin<Box<dyn Future<Output = Result<(), tonic::transport::Error>> + Send>>;

/// A running node. Dropping it kills it, as [`Self::kill`] does: what is in the journal stays.
pub struct Running {
    node: Hosted,
    ready: Ready,
    dir: PathBuf,
    tls: Arc<Tls>,
    tasks: JoinSet<()>,
    _temporary: Option<tempfile::TempDir>,
}

impl Running {
    /// Addresses, key and files.
    #[must_use]
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// LND's services (TLS).
    #[must_use]
    pub fn grpc_addr(&self) -> SocketAddr {
        self.ready.grpc
    }

    /// `http://…` of the controls.
    #[must_use]
    pub fn control_url(&self) -> String {
        format!("http://{}", self.ready.control)
    }

    /// Hexadecimal.
    #[must_use]
    pub fn identity_pubkey(&self) -> &str {
        &self.ready.identity_pubkey
    }

    /// The certificate now in use.
    #[must_use]
    pub fn tls_cert_pem(&self) -> String {
        self.tls.pem()
    }

    /// Where everything is.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A control, without gRPC.
    ///
    /// # Errors
    /// The request was not carried out.
    pub fn command(&self, command: Command) -> Result<Reply, Rejected> {
        self.node.command(command)
    }

    /// `GetState`, without gRPC.
    #[must_use]
    pub fn state(&self) -> ctl::GetStateResponse {
        self.node.state()
    }

    /// `GetLedger`, without gRPC.
    #[must_use]
    pub fn ledger(&self) -> ctl::GetLedgerResponse {
        self.node.ledger()
    }

    /// Returns when a control or the core made the condition true.
    pub async fn wait_for(&self, condition: impl FnMut(&Core) -> bool) {
        self.node.wait_for(condition).await;
    }

    /// Returns when the server ended by itself (its journal cannot be written).
    pub async fn failed(&self) {
        self.node.node.stop.cancelled().await;
    }

    /// The end of the process, as SIGKILL would bring it; its ports are free when this returns.
    pub async fn kill(mut self) {
        self.node.kill();
        self.tasks.shutdown().await;
    }

    /// An orderly stop: streams are told, then everything ends.
    pub async fn stop(mut self) {
        let down = ctl::restart_request::Phase { power: Power::Down.into(), duration_ms: u64::MAX };
        let stop = ctl::RestartRequest { phases: vec![down], graceful: true, peers_stay_offline: false };
        drop(self.command(Command::Restart(stop)));
        self.node.node.stop.cancel();
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        // Connections that do not end are cut by the drop.
        drop(tokio::time::timeout(STOP_TIMEOUT, ended).await);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.node.kill();
        self.tasks.abort_all();
    }
}
