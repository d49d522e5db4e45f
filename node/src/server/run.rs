//! From a configuration to a running replica, and back.

use super::grpc::{ApiServer, ApiTls};
use super::http::{HttpServer, router};
use super::readiness::Readiness;
use super::reload::{Exchangeable, Reloader};
use super::reloading::Reloading;
use super::settings;
use crate::api::{AdminToken, ApiConfig, Context, DrainOrder, DrainReport, LinkView, RequireToken};
use crate::config::{ApiAuth, Config};
use crate::keys::{ClusterKeys, ClusterSeed};
use crate::link::{ClusterScreener, Links};
use crate::shutdown::{self, step};
use crate::telemetry::{self, EXIT_FATAL, Sampler};
use mux_raft::clock::{Clock, SystemClock};
use mux_raft::consensus::Consensus;
use mux_raft::replica::{Replica, StartError, Wiring};
use mux_raft::types::ReplicaId;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::Signal;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How often gauges and health are brought up to date.
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

/// What leadership may take of the time for handing over; the links have the rest.
const TRANSFER_MAX: Duration = Duration::from_secs(3);

/// Between two tries to hand leadership over.
const TRANSFER_RETRY: Duration = Duration::from_millis(200);

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

/// Runs a replica, which knows the feature levels up to this one, until it is told to stop (Ok) or cannot go on.
///
/// # Errors
/// [`RunError`]
pub async fn run(config: Config, feature_level_max: u16) -> Result<(), RunError> {
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
        running = Box::pin(start(config, feature_level_max)) => running?,
    };
    running.until(signal, hangup).await
}

async fn start(config: Config, feature_level_max: u16) -> Result<Running, RunError> {
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
    let wiring = Wiring { feature_level_max, ..Wiring::default() };
    let replica =
        Replica::start_with(settings::replica(&config, &keys), wiring).await.map_err(start_error)?;
    readiness.watch_raft(replica.status());
    let consensus: Arc<dyn Consensus> = Arc::clone(&replica) as Arc<dyn Consensus>;

    let screener = Arc::new(ClusterScreener::new(Arc::clone(&keys)));
    let links_config = settings::links(&config, &keys);
    let links = Links::start(links_config, Arc::clone(&consensus), screener);
    let api = start_api(&config, &keys, (&consensus, &links), (api_listener, &tls)).await?;
    readiness.set_serving();
    tracing::info!(
        replica = config.cluster.replica_id,
        cluster = config.cluster.name,
        virtual_node = %keys.node_pubkey(),
        seed = %keys.fingerprint(),
        api = %api.server.address(),
        http = %http.address(),
        raft = %config.raft.listen,
        "replica runs"
    );
    Ok(Running { config, replica, links, api, readiness, http, metrics })
}

struct Api {
    server: ApiServer,
    drains: mpsc::Receiver<DrainOrder>,
    /// Ends its streams.
    streams: CancellationToken,
}

async fn start_api(
    config: &Config,
    keys: &Arc<ClusterKeys>,
    (consensus, links): (&Arc<dyn Consensus>, &Links),
    (listener, tls): (TcpListener, &ApiTls),
) -> Result<Api, RunError> {
    let api_config = ApiConfig {
        cluster_name: config.cluster.name.clone(),
        cluster_id: keys.cluster_id(&config.cluster.name, config.cluster.network),
        network: config.cluster.network,
        invoices: config.invoices.clone(),
        return_preimage: config.lnmux.return_preimage,
        front_nodes: config.front_nodes.clone(),
        dir: config.dir.clone(),
    };
    let shown = links.clone();
    let view: LinkView = Arc::new(move || shown.status());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let streams = CancellationToken::new();
    let context =
        Context::new(api_config, Arc::clone(consensus), Arc::clone(keys), view, clock, streams.clone());
    let token = match config.api.auth {
        ApiAuth::Macaroon => Some(AdminToken::derive(keys)),
        ApiAuth::None => None,
    };
    let drains = context.drain_orders();
    let server = ApiServer::start(context, listener, tls, RequireToken::new(token));
    Ok(Api { server: server.await.map_err(RunError::Config)?, drains, streams })
}

/// Everything that runs.
struct Running {
    config: Config,
    replica: Arc<Replica>,
    links: Links,
    api: Api,
    readiness: Arc<Readiness>,
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
        let mut sampler = Sampler::default();
        let clock = SystemClock::new();
        let mut sampled = tokio::time::interval(SAMPLE_INTERVAL);
        let mut reloading = Reloading::default();
        let mut reload = tokio::time::interval(RELOAD_INTERVAL);
        let stopped = self.replica.clone();
        let stopped = stopped.stopped();
        tokio::pin!(stopped);
        let mut raft = self.replica.status();
        let grace = Duration::from_secs(self.config.shutdown.grace_secs);
        let (why, grace, report) = loop {
            tokio::select! {
                biased;
                reason = &mut stopped => return Err(RunError::Fatal(format!("consensus stopped: {reason}"))),
                why = self.api.server.ended() => return Err(RunError::Fatal(why)),
                name = &mut signal => break (name, grace, None),
                Some(order) = self.api.drains.recv() => break ("drain", order.timeout, Some(order.report)),
                Ok(removed) = raft.wait_for(|raft| raft.removed.is_some()) => {
                    let reason = removed.removed.clone().unwrap_or_default();
                    tracing::error!("{reason}");
                    break ("removed", grace, None);
                }
                _ = sampled.tick() => {
                    let cell = self.replica.cell();
                    sampler.sample(|reader| cell.read(|state| reader(state)), clock.wall_ms());
                    let in_doubt = cell.read(|state| state.restored().map_or(0, |restored| restored.in_doubt.len()));
                    self.readiness.set_in_doubt(u64::try_from(in_doubt).unwrap_or(u64::MAX));
                    let ready = self.readiness.is_ready();
                    metrics::gauge!("mux_ready").set(f64::from(u8::from(ready)));
                    self.api.server.set_ready(ready).await;
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
        let (replica, links) = (Arc::clone(&self.replica), self.links.clone());
        let own = settings::certificates(&self.config);
        let reached = self.links.clone();
        Reloader::new(Exchangeable {
            api: self.api.server.tls(),
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
        self.readiness.drain();
        self.api.server.set_ready(false).await;
        let handed_over = self.hand_over(deadline).await;
        if let Some(report) = report {
            // The asker may be gone.
            let _ = report.send(handed_over);
        }
        self.api.streams.cancel();
        step("API", API_STOP_MAX, self.api.server.stop()).await;
        step("links", LINKS_STOP_MAX, self.links.stop()).await;
        step("consensus", REPLICA_STOP_MAX, self.replica.shutdown()).await;
        step("HTTP", HTTP_STOP_MAX, self.http.stop()).await;
        tracing::info!("stopped");
    }

    /// Links first: whoever leads then knows who has them.
    async fn hand_over(&self, deadline: Instant) -> DrainReport {
        let mut not_done = Vec::new();
        let left = || deadline.saturating_duration_since(Instant::now());
        self.replica.leave();
        let for_links = left().saturating_sub(TRANSFER_MAX.min(left() / 2));
        let kept = self.links.handover_within(for_links).await;
        if !kept.is_empty() {
            not_done.push(format!("the streams of {} were not taken over", kept.join(", ")));
        }
        let leader = self.transfer(deadline).await.unwrap_or_else(|why| {
            not_done.push(format!("leadership was not handed over: {why}"));
            None
        });
        for what in &not_done {
            tracing::warn!("{what}: the others find out by themselves");
        }
        let status = self.replica.status().borrow().clone();
        // Who ends now leads nobody, although it may not have been told otherwise yet.
        let leader = leader.or(status.leader).filter(|leader| *leader != status.id);
        DrainReport { leader, not_done }
    }

    /// Tries until somebody else leads. `None`: this replica did not lead, or is alone.
    async fn transfer(&self, deadline: Instant) -> Result<Option<ReplicaId>, String> {
        loop {
            let status = self.replica.status().borrow().clone();
            if !status.leads || status.members.values().filter(|member| member.voter).count() < 2 {
                return Ok(None);
            }
            let why = match tokio::time::timeout_at(deadline, self.replica.transfer_leader(None)).await {
                Ok(Ok(leader)) => {
                    tracing::info!(leader, "leadership handed over");
                    return Ok(Some(leader));
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => "there was no time for it".to_owned(),
            };
            if Instant::now() + TRANSFER_RETRY >= deadline {
                return Err(why);
            }
            tokio::time::sleep(TRANSFER_RETRY).await;
        }
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
