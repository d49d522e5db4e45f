//! From a configuration to a running replica, and back.

use super::grpc::{ApiServer, ApiTls};
use super::http::{HttpServer, router};
use super::node::{Node, NodeConfig, NodeEnd};
use super::readiness::Readiness;
use super::reload::{Exchangeable, Reloader};
use super::reloading::Reloading;
use super::settings;
use crate::NodeWiring;
use crate::api::DrainReport;
use crate::cli::Disguise;
use crate::config::{Config, Owner};
use crate::keys::{ClusterKeys, ClusterSeed};
use crate::shutdown::{self, step};
use crate::telemetry::{self, EXIT_FATAL};
use mux_raft::clock::{Clock, OffsetClock, SystemClock};
use mux_raft::consensus::Consensus;
use mux_raft::replica::{Replica, StartError, Wiring};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::Signal;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// How often gauges of the process are brought up to date.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// How often files that can be exchanged are looked at.
const RELOAD_INTERVAL: Duration = Duration::from_secs(10);

/// For closing everything, once it is handed over or there is no more time for that.
const API_STOP_MAX: Duration = Duration::from_secs(1);
const LINKS_STOP_MAX: Duration = Duration::from_secs(1);
const REPLICA_STOP_MAX: Duration = Duration::from_secs(1);
const HTTP_STOP_MAX: Duration = Duration::from_millis(300);

/// Those together, and a little for the process's own end.
const CLOSING_MAX: Duration = Duration::from_millis(3_600);

/// Kept back of the time that a shutdown may take, for the process's own end.
const LIMIT_RESERVE: Duration = Duration::from_millis(300);

/// Why a replica did not run, or does not any more.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The operator must correct something; nothing was started.
    #[error("{0}")]
    Config(String),
    /// It cannot go on.
    #[error("{0}")]
    Fatal(String),
}

/// Runs a replica until it is told to stop (Ok) or cannot go on.
///
/// # Errors
/// [`RunError`]
pub async fn run(config: Config, disguise: Disguise) -> Result<(), RunError> {
    // First of all: from here on a signal ends the replica in order.
    let signal = shutdown::on_signal().map_err(|error| RunError::Fatal(error.to_string()))?;
    let mut signal = Box::pin(signal);
    let hangup = shutdown::on_hangup().map_err(|error| RunError::Fatal(error.to_string()))?;
    let running = tokio::select! {
        biased;
        name = &mut signal => {
            tracing::info!(signal = name, "stopped while starting");
            return Ok(());
        }
        running = Box::pin(start(config, disguise)) => running?,
    };
    running.until(signal, hangup).await
}

async fn start(config: Config, disguise: Disguise) -> Result<Running, RunError> {
    let metrics = telemetry::install_metrics().map_err(RunError::Fatal)?;
    let seed =
        ClusterSeed::load(&config.cluster.seed_file).map_err(|error| RunError::Config(error.to_string()))?;
    let keys = Arc::new(ClusterKeys::derive(&seed));
    drop(seed);
    let tls = ApiTls::read(&config.api.tls_cert, &config.api.tls_key).map_err(RunError::Config)?;
    let api_listener = bind("api.listen", config.api.listen).await?;
    let http_listener = bind("metrics.listen", config.metrics.listen).await?;

    let readiness = Arc::new(Readiness::default());
    let http = HttpServer::start(http_listener, router(Arc::clone(&readiness), metrics.clone()))
        .map_err(|error| RunError::Fatal(error.to_string()))?;
    let clock: Arc<dyn Clock> =
        Arc::new(OffsetClock::new(Arc::new(SystemClock::new()), disguise.wall_offset_ms));
    let feature_level_max = disguise.feature_level_max;
    let wiring = Wiring { feature_level_max, clock: Arc::clone(&clock), ..Wiring::default() };
    let replica =
        Replica::start_with(settings::replica(&config, &keys), wiring).await.map_err(start_error)?;
    note_owner(&config).await;
    let consensus = Arc::clone(&replica) as Arc<dyn Consensus>;
    let (of_node, wiring) = (NodeConfig::of(&config, &keys), NodeWiring { clock, ..NodeWiring::default() });
    let node = Node::start(of_node, Arc::clone(&keys), consensus, readiness, wiring);
    let node = Box::pin(node).await.map_err(RunError::Config)?;
    let api = ApiServer::start(node.api(), api_listener, &tls).map_err(RunError::Config)?;
    tracing::info!(
        replica = config.cluster.replica_id,
        cluster = config.cluster.name,
        virtual_node = %keys.node_pubkey(),
        seed = %keys.fingerprint(),
        api = %api.address(),
        http = %http.address(),
        raft = %config.raft.listen,
        "replica runs"
    );
    Ok(Running { config, replica, node, api, http, metrics })
}

/// For `muxd check-config`.
async fn note_owner(config: &Config) {
    let (owner, dir) = (Owner::of(config), config.raft.data_dir.clone());
    let noted = tokio::task::spawn_blocking(move || owner.note(&dir)).await;
    if let Err(error) = noted.map_err(std::io::Error::other).and_then(|noted| noted) {
        tracing::warn!(%error, "cannot note whose data directory this is");
    }
}

/// Everything that runs.
struct Running {
    config: Config,
    replica: Arc<Replica>,
    node: Node,
    api: ApiServer,
    http: HttpServer,
    metrics: metrics_exporter_prometheus::PrometheusHandle,
}

impl Running {
    /// Watches until a signal or a fatal end.
    async fn until(
        mut self,
        mut signal: impl Future<Output = &'static str> + Unpin,
        mut hangup: Signal,
    ) -> Result<(), RunError> {
        let mut sampled = tokio::time::interval(SAMPLE_INTERVAL);
        let mut reloading = Reloading::default();
        let mut reload = tokio::time::interval(RELOAD_INTERVAL);
        let stopped = self.replica.clone();
        let stopped = stopped.stopped();
        tokio::pin!(stopped);
        let grace = Duration::from_secs(self.config.shutdown.grace_secs);
        let (why, grace, report) = loop {
            tokio::select! {
                biased;
                reason = &mut stopped => return Err(RunError::Fatal(format!("consensus stopped: {reason}"))),
                why = self.api.ended() => return Err(RunError::Fatal(why)),
                name = &mut signal => break (name, grace, None),
                end = self.node.ended() => match end {
                    NodeEnd::Drain(order) => break ("drain", order.timeout, Some(order.report)),
                    NodeEnd::Removed(reason) => {
                        tracing::error!("{reason}");
                        break ("removed", grace, None);
                    }
                },
                _ = sampled.tick() => {
                    telemetry::record_process(&self.config.raft.data_dir);
                    self.metrics.run_upkeep();
                }
                _ = reload.tick() => reloading.begin(|| self.reloader()),
                Some(()) = hangup.recv() => {
                    tracing::info!("SIGHUP: looking at certificates and macaroons");
                    reloading.begin(|| self.reloader());
                }
                () = reloading.ended() => {}
            }
        };
        tracing::info!(signal = why, grace_ms = grace.as_millis(), "stopping");
        self.stop(grace, report).await;
        Ok(())
    }

    fn reloader(&self) -> Reloader {
        let (replica, links) = (Arc::clone(&self.replica), self.node.links());
        let own = settings::certificates(&self.config);
        let reached = self.node.links();
        Reloader::new(Exchangeable {
            api: self.api.tls(),
            api_cert: self.config.api.tls_cert.clone(),
            api_key: self.config.api.tls_key.clone(),
            raft: Box::new(move || replica.reload_certificates()),
            front_nodes: Box::new(move || links.front_nodes()),
            ending: Box::new(move || {
                let lnd = settings::lnd_certificates(reached.front_nodes());
                own.iter().cloned().chain(lnd).collect()
            }),
        })
    }

    /// In order, and in time.
    async fn stop(self, grace: Duration, report: Option<oneshot::Sender<DrainReport>>) {
        let deadline = Instant::now() + grace.saturating_sub(CLOSING_MAX);
        shutdown::arm_hard_limit(grace.saturating_sub(LIMIT_RESERVE), EXIT_FATAL);
        let handed_over = self.node.hand_over(deadline).await;
        if let Some(report) = report {
            // The asker may be gone.
            let _ = report.send(handed_over);
        }
        self.node.end_streams();
        step("API", API_STOP_MAX, self.api.stop()).await;
        step("links", LINKS_STOP_MAX, self.node.stop()).await;
        telemetry::ending();
        step("consensus", REPLICA_STOP_MAX, self.replica.shutdown()).await;
        step("HTTP", HTTP_STOP_MAX, self.http.stop()).await;
        tracing::info!("stopped");
    }
}

async fn bind(key: &str, address: SocketAddr) -> Result<TcpListener, RunError> {
    TcpListener::bind(address)
        .await
        .map_err(|error| RunError::Config(format!("{key}: cannot listen on {address}: {error}")))
}

fn start_error(error: StartError) -> RunError {
    match error {
        StartError::Config(_)
        | StartError::Locked(_)
        | StartError::WrongStore { .. }
        | StartError::Listen { .. } => RunError::Config(error.to_string()),
        StartError::Storage(_) => RunError::Fatal(error.to_string()),
    }
}

/// An error with its causes: transports hide what matters in the last one.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
