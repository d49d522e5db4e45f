use super::config::{ReplicaConfig, StartError, Wiring};
use super::core::{Core, CoreParts, raft_config};
use super::directory::DataDirectory;
use super::gateway::Gateway;
use super::latch::Latch;
use super::opening::{CHECK_DISK, JOIN_ANEW, Opening};
use super::raft::Raft;
use super::time_keeper::TimeKeeper;
use crate::archive::{Archive, ArchiveOpenError};
use crate::blocking::{Blocking, Work};
use crate::clock::OffsetClock;
use crate::consensus::StateCell;
use crate::log::LogStore;
use crate::machine::State;
use crate::network::{
    ArchiveFetch, ArchiveSource, Callers, Clearance, Guard, HANDSHAKE_TIMEOUT, MESSAGE_BYTES_MAX, May, Net,
    Peers, Stores, TlsMaterial, TlsNet, Transport, tls_incoming,
};
use crate::snapshot::{Machine, SnapshotDirectory, SnapshotError};
use crate::store::{EngineError, Identity};
use mux_proto::mux::raft::v1::archive_transfer_server::ArchiveTransferServer;
use mux_proto::mux::raft::v1::leader_gateway_server::LeaderGatewayServer;
use mux_proto::mux::raft::v1::raft_transport_server::RaftTransportServer;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Server;

const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(4);

/// A replica that was just started.
pub(super) struct Started {
    pub(super) core: Arc<Core>,
    pub(super) log: LogStore,
    pub(super) directory: DataDirectory,
    pub(super) snapshots: SnapshotDirectory,
    pub(super) archive: Arc<dyn Archive>,
    pub(super) blocking: Blocking,
    pub(super) clearance: Clearance,
    /// None if the network is not ours.
    pub(super) tls: Option<Arc<TlsMaterial>>,
    pub(super) routes: Routes,
    /// None if the network is not ours.
    pub(super) server: Option<JoinHandle<()>>,
    /// Ends the server: no new calls, and connections close when their calls have ended.
    pub(super) stop_serving: CancellationToken,
}

struct Opened {
    directory: DataDirectory,
    log: LogStore,
    snapshots: SnapshotDirectory,
    archive: Arc<dyn Archive>,
    tls: Option<Arc<TlsMaterial>>,
}

/// Opens everything, recovers the state and serves the listener.
pub(super) async fn start(config: ReplicaConfig, mut wiring: Wiring) -> Result<Started, StartError> {
    check(&config)?;
    let (latch, blocking) = (Latch::new(), wiring.blocking.clone());
    let listener = match wiring.net {
        None => Some(bind(&config, wiring.listener.take())?),
        Some(_) => None,
    };
    let Opened { directory, log, snapshots, archive, tls } = open(&config, &wiring, latch.clone()).await?;
    go_on_from_snapshot(&config, &blocking, &log, &snapshots).await?;
    let cell = Arc::new(StateCell::new(State::default(), Arc::clone(&archive)));
    let stores = Stores::new(config.id, log.id(), Arc::clone(&cell), latch.clone())
        .map_err(|error| StartError::Storage(format!("reading randomness: {error}")))?;
    let (net, callers) = net(wiring.net.take(), tls.as_ref())?;
    let links = wiring.links;
    let peers =
        Peers::new(config.id, config.cluster_id, net, blocking.clone(), (links.clone(), stores.clone()));
    let machine = Machine::new(Arc::clone(&cell), snapshots.clone(), blocking.clone(), latch.clone());
    #[cfg(feature = "mutants")]
    let machine = machine.with_clock(Arc::clone(&wiring.clock));
    let clearance = Clearance::new(may(&config, &log));
    if clearance.get() == May::Vote {
        stores.introduce();
    }
    let mut settings = raft_config(&config.timing, &config.snapshot)
        .validate()
        .map_err(|error| StartError::Config(error.to_string()))?;
    settings.enable_elect = clearance.get() == May::Vote;
    let raft = Box::pin(Raft::new(config.id, Arc::new(settings), peers.clone(), log.clone(), machine)).await;
    let raft = match raft {
        Ok(raft) => raft,
        Err(error) => {
            log.close().await;
            close(archive, &blocking).await;
            return Err(StartError::Storage(latch.reason().unwrap_or_else(|| error.to_string())));
        }
    };
    let clock = OffsetClock::new(Arc::clone(&wiring.clock), config.wall_offset_ms);
    let core = Arc::new(Core::new(CoreParts {
        timing: config.timing,
        initial_members: config.initial_members.clone(),
        raft,
        cell,
        peers,
        clearance: clearance.clone(),
        latch,
        time: TimeKeeper::new(Arc::new(clock)),
        feature_level_max: wiring.feature_level_max,
    }));
    let guard = Guard::new(config.id, config.cluster_id, callers, links, stores);
    let routes = routes(&core, guard, &snapshots, &clearance);
    let stop_serving = CancellationToken::new();
    let server = listener.zip(tls.as_ref()).map(|(listener, tls)| {
        serve(listener, tls, routes.clone(), core.latch.clone(), stop_serving.clone())
    });
    Ok(Started {
        core,
        log,
        directory,
        snapshots,
        archive,
        blocking,
        clearance,
        tls,
        routes,
        server,
        stop_serving,
    })
}

/// openraft takes for granted that the log and the snapshot agree.
async fn go_on_from_snapshot(
    config: &ReplicaConfig,
    blocking: &Blocking,
    log: &LogStore,
    snapshots: &SnapshotDirectory,
) -> Result<(), StartError> {
    let (snapshots, cluster_id) = (snapshots.clone(), config.cluster_id);
    // One that is damaged is told of when its state is read.
    let last = move || snapshots.current().ok()??.meta(&cluster_id).ok()?.last_log_id;
    let last = blocking.run(Work::Open, last).await.ok().flatten();
    match last {
        Some(last) => log.go_on_from(last).await.map_err(|error| StartError::Storage(error.to_string())),
        None => Ok(()),
    }
}

/// The network that was given, or TCP with TLS; and how callers are told apart on it.
fn net(
    given: Option<Arc<dyn Net>>,
    tls: Option<&Arc<TlsMaterial>>,
) -> Result<(Arc<dyn Net>, Callers), StartError> {
    match (given, tls) {
        (Some(net), _) => Ok((net, Callers::ByNet)),
        (None, Some(tls)) => {
            let net = TlsNet::new(Arc::clone(tls));
            Ok((Arc::new(net), Callers::ByCertificate(Arc::clone(tls))))
        }
        (None, None) => Err(StartError::Config("neither certificates nor a network".into())),
    }
}

/// What this replica may do at first: others may know better who it is. Where nobody can be asked, the operator's
/// word counts that the replica is new.
fn may(config: &ReplicaConfig, log: &LogStore) -> May {
    let alone = log.is_pristine() && config.initial_members.is_empty();
    if alone && log.probation().is_none() { May::Vote } else { May::Nothing }
}

fn check(config: &ReplicaConfig) -> Result<(), StartError> {
    let wrong = |reason: &str| Err(StartError::Config(reason.into()));
    if config.id == 0 {
        return wrong("replica id 0 is not allowed");
    }
    if config.timing.heartbeat * 2 >= config.timing.election_min {
        return wrong("the election timeout must be more than two heartbeats");
    }
    if config.snapshot.logs_since_last == 0 {
        return wrong("snapshots after every 0 entries");
    }
    Ok(())
}

fn bind(config: &ReplicaConfig, bound: Option<std::net::TcpListener>) -> Result<TcpListener, StartError> {
    let listen = || {
        let listener = match bound {
            Some(listener) => listener,
            None => std::net::TcpListener::bind(config.listen)?,
        };
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    };
    listen().map_err(|source| StartError::Listen { address: config.listen, source })
}

/// Opens what is on disk. The engines may panic on damaged files, hence the separate job.
async fn open(config: &ReplicaConfig, wiring: &Wiring, latch: Latch) -> Result<Opened, StartError> {
    let dir = config.data_dir.clone();
    let (config, blocking) = (config.clone(), wiring.blocking.clone());
    let (engine, archive) = (Arc::clone(&wiring.engine), Arc::clone(&wiring.archive));
    let with_tls = wiring.net.is_none();
    let opened = wiring.blocking.run(Work::Open, move || {
        let tls = if with_tls {
            let tls = TlsMaterial::load(&config.tls, config.id);
            Some(Arc::new(tls.map_err(|error| StartError::Config(error.to_string()))?))
        } else {
            None
        };
        let directory = DataDirectory::open(&config.data_dir)?;
        let _opening = Opening::begin(&config.data_dir);
        let wrong = |reason: String| StartError::WrongStore { path: config.data_dir.clone(), reason };
        let identity = Identity { cluster_id: config.cluster_id, replica: config.id };
        let log = LogStore::open(engine.as_ref(), &directory.log(), identity, latch.clone(), &blocking)
            .map_err(|error| match error {
                EngineError::Foreign(reason) => wrong(reason),
                error => StartError::Storage(log_unusable(&directory.log(), &error)),
            })?;
        let snapshots = SnapshotDirectory::open(&directory.snapshots(), config.cluster_id).map_err(
            |error| match error {
                SnapshotError::Foreign(_) => wrong(error.to_string()),
                error @ (SnapshotError::Io { .. } | SnapshotError::Damaged { .. }) => {
                    StartError::Storage(error.to_string())
                }
            },
        )?;
        let archive =
            archive.open(&directory.archive(), &config.cluster_id, latch).map_err(|error| match error {
                ArchiveOpenError::Foreign(reason) => wrong(reason),
                ArchiveOpenError::Unusable(reason) => StartError::Storage(reason),
            })?;
        Ok(Opened { directory, log, snapshots, archive, tls })
    });
    let dir = dir.display();
    opened
        .await
        .map_err(|error| StartError::Storage(format!("a file in {dir} is damaged ({error}): {JOIN_ANEW}")))?
}

/// With what to do about it.
fn log_unusable(dir: &Path, error: &EngineError) -> String {
    let dir = dir.display();
    match error {
        EngineError::Io { .. } => {
            format!("the log in {dir}: {error}: {CHECK_DISK}; if the file is damaged, {JOIN_ANEW}")
        }
        EngineError::Damaged(_) | EngineError::Foreign(_) => {
            format!("the log in {dir}: {error}: {JOIN_ANEW}")
        }
    }
}

/// Writes what the archive holds back and closes its file, whoever still has a reference.
pub(super) async fn close(archive: Arc<dyn Archive>, blocking: &Blocking) {
    if blocking.run(Work::Close, move || archive.close()).await.is_err() {
        tracing::error!("the archive was not closed");
    }
}

/// What other replicas may ask of this one.
fn routes(core: &Arc<Core>, guard: Guard, snapshots: &SnapshotDirectory, clearance: &Clearance) -> Routes {
    let blocking = core.peers.blocking().clone();
    let transport = Transport {
        raft: core.raft.clone(),
        guard: guard.clone(),
        snapshots: snapshots.clone(),
        blocking: blocking.clone(),
        archives: ArchiveFetch::new(
            Arc::clone(&core.cell),
            core.peers.clone(),
            Arc::clone(&core.archive_fetched),
        ),
        heard: Arc::clone(&core.heard),
        clearance: clearance.clone(),
        latch: core.latch.clone(),
    };
    let transport = RaftTransportServer::new(transport)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let records = ArchiveSource { archive: Arc::clone(core.cell.archive()), guard: guard.clone(), blocking };
    let records = ArchiveTransferServer::new(records).max_encoding_message_size(MESSAGE_BYTES_MAX);
    let gateway = LeaderGatewayServer::new(Gateway { core: Arc::clone(core), guard })
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    Routes::new(transport).add_service(gateway).add_service(records)
}

fn serve(
    listener: TcpListener,
    tls: &TlsMaterial,
    routes: Routes,
    latch: Latch,
    stop: CancellationToken,
) -> JoinHandle<()> {
    let incoming = tls_incoming(listener, tls.server(), HANDSHAKE_TIMEOUT);
    let mut server = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .initial_stream_window_size(2 << 20)
        .initial_connection_window_size(8 << 20);
    let serving = server.add_routes(routes).serve_with_incoming_shutdown(incoming, stop.cancelled_owned());
    tokio::spawn(async move {
        match Box::pin(serving).await {
            Ok(()) => {}
            Err(error) => latch.trip(format!("the Raft listener failed: {error}")),
        }
    })
}
