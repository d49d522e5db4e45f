//! A replica around its consensus, without listeners, files and signals.

use super::grpc::ApiRoutes;
use super::readiness::Readiness;
use super::settings;
use crate::NodeWiring;
use crate::api::{AdminToken, ApiConfig, Context, DrainOrder, DrainReport, LinkView, RequireToken};
use crate::config::{ApiAuth, Config};
use crate::keys::ClusterKeys;
use crate::link::{ClusterScreener, Links, LinksConfig};
use crate::telemetry::Sampler;
use mux_raft::clock::Clock;
use mux_raft::consensus::{Consensus, RaftStatus};
use mux_raft::types::ReplicaId;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::service::Routes;

/// How often gauges and health are brought up to date.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// What leadership may take of the time for handing over; the links have the rest.
const TRANSFER_MAX: Duration = Duration::from_secs(3);

/// How long a quorum that is out of contact is waited for: it may be a change of leader.
const QUORUM_MAX: Duration = Duration::from_secs(3);

/// Between two tries to hand leadership over.
const TRANSFER_RETRY: Duration = Duration::from_millis(200);

/// What a [`Node`] is started with.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Of the client API.
    pub api: ApiConfig,
    /// Who may call it.
    pub auth: ApiAuth,
    /// Of links and their assignment.
    pub links: LinksConfig,
}

impl NodeConfig {
    /// What a configuration says.
    #[must_use]
    pub fn of(config: &Config, keys: &ClusterKeys) -> Self {
        let api = ApiConfig {
            cluster_name: config.cluster.name.clone(),
            cluster_id: keys.cluster_id(&config.cluster.name, config.cluster.network),
            network: config.cluster.network,
            invoices: config.invoices.clone(),
            return_preimage: config.lnmux.return_preimage,
            front_nodes: config.front_nodes.clone(),
            dir: config.dir.clone(),
        };
        Self { api, auth: config.api.auth, links: settings::links(config, keys) }
    }
}

/// Links, assignment, screening, client API and housekeeping of one replica. Consensus is given; whoever started it
/// ends it, after this. Dropping it ends nothing but the housekeeping.
pub struct Node {
    consensus: Arc<dyn Consensus>,
    links: Links,
    api: ApiRoutes,
    drains: mpsc::Receiver<DrainOrder>,
    raft: watch::Receiver<RaftStatus>,
    readiness: Arc<Readiness>,
    /// Ends the API's streams.
    streams: CancellationToken,
    _housekeeping: AbortOnDropHandle<()>,
}

/// Why a replica has to end.
#[derive(Debug)]
pub enum NodeEnd {
    /// An operator drains it.
    Drain(DrainOrder),
    /// It is no member any more; why.
    Removed(String),
}

impl Node {
    /// Starts everything. Its routes take calls when this returns; a leader may not be known yet.
    ///
    /// # Errors
    /// A text: the API cannot be described.
    pub async fn start(
        config: NodeConfig,
        keys: Arc<ClusterKeys>,
        consensus: Arc<dyn Consensus>,
        readiness: Arc<Readiness>,
        wiring: NodeWiring,
    ) -> Result<Self, String> {
        let raft = consensus.status();
        readiness.watch_raft(raft.clone());
        let screener = Arc::new(ClusterScreener::new(Arc::clone(&keys)));
        let links = Links::start_with(config.links, Arc::clone(&consensus), screener, wiring.clone());
        let shown = links.clone();
        let view: LinkView = Arc::new(move || shown.status());
        let token = match config.auth {
            ApiAuth::Macaroon => Some(AdminToken::derive(&keys)),
            ApiAuth::None => None,
        };
        let (streams, clock) = (CancellationToken::new(), Arc::clone(&wiring.clock));
        let context = Context::new(config.api, Arc::clone(&consensus), keys, view, wiring, streams.clone());
        let drains = context.drain_orders();
        let api = ApiRoutes::new(context, RequireToken::new(token)).await?;
        readiness.set_serving();
        let housekeeping = keep_house(Arc::clone(&consensus), clock, api.clone(), Arc::clone(&readiness));
        let _housekeeping = AbortOnDropHandle::new(tokio::spawn(housekeeping));
        Ok(Self { consensus, links, api, drains, raft, readiness, streams, _housekeeping })
    }

    /// The client API.
    #[must_use]
    pub fn api(&self) -> &ApiRoutes {
        &self.api
    }

    /// The same as what serves its calls.
    #[must_use]
    pub fn routes(&self) -> Routes {
        self.api.routes()
    }

    /// A handle to the links.
    #[must_use]
    pub fn links(&self) -> Links {
        self.links.clone()
    }

    /// Whether it should be given work, and why not.
    #[must_use]
    pub fn readiness(&self) -> &Arc<Readiness> {
        &self.readiness
    }

    /// Waits until the cluster has a reason to end this replica. May be dropped and called again.
    pub async fn ended(&mut self) -> NodeEnd {
        let Self { drains, raft, .. } = self;
        let removed = async {
            let status = raft.wait_for(|raft| raft.removed.is_some()).await;
            status.map(|status| status.removed.clone().unwrap_or_default()).ok()
        };
        tokio::select! {
            biased;
            Some(order) = drains.recv() => NodeEnd::Drain(order),
            Some(reason) = removed => NodeEnd::Removed(reason),
            else => std::future::pending().await,
        }
    }

    /// Gives links and leadership to others, until the deadline at the latest. Links first: whoever leads then knows who
    /// has them.
    pub async fn hand_over(&self, deadline: Instant) -> DrainReport {
        self.readiness.drain();
        self.api.set_ready(false).await;
        let mut not_done = Vec::new();
        let left = || deadline.saturating_duration_since(Instant::now());
        self.consensus.leave();
        let for_links = left().saturating_sub(TRANSFER_MAX.min(left() / 2)).min(self.takers_need());
        let kept = self.links.handover_within(for_links).await;
        if !kept.is_empty() {
            let alone = if self.is_alone() { ": there is no other replica" } else { "" };
            not_done.push(format!("the streams of {} were not taken over{alone}", kept.join(", ")));
        }
        let leader = self.transfer(deadline).await.unwrap_or_else(|why| {
            not_done.push(format!("leadership was not handed over: {why}"));
            None
        });
        for what in &not_done {
            tracing::warn!("{what}: the others find out by themselves");
        }
        let status = self.consensus.status().borrow().clone();
        // Who ends now leads nobody, although it may not have been told otherwise yet; nor may one that is not heard.
        let heard = status.leader.filter(|_| status.quorum);
        let leader = leader.or(heard).filter(|leader| *leader != status.id);
        DrainReport { leader, not_done }
    }

    /// How long somebody else may take to take over the streams. Where nobody can, nothing is gained by waiting.
    fn takers_need(&self) -> Duration {
        if self.is_alone() {
            Duration::ZERO
        } else if self.consensus.status().borrow().quorum {
            Duration::MAX
        } else {
            QUORUM_MAX
        }
    }

    /// The cluster has no other replica.
    fn is_alone(&self) -> bool {
        let status = self.consensus.status();
        let status = status.borrow();
        status.members.keys().all(|id| *id == status.id)
    }

    /// Tries until somebody else leads. `None`: this replica did not lead, or is alone.
    async fn transfer(&self, deadline: Instant) -> Result<Option<ReplicaId>, String> {
        loop {
            let status = self.consensus.status().borrow().clone();
            if !status.leads || status.members.values().filter(|member| member.voter).count() < 2 {
                return Ok(None);
            }
            let why = match tokio::time::timeout_at(deadline, self.consensus.transfer_leader(None)).await {
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

    /// Ends the streams of the API, and calls that wait for a decision.
    pub fn end_streams(&self) {
        self.streams.cancel();
    }

    /// Ends the API's streams and the links. Calls and streams of others are not waited for.
    pub async fn stop(&self) {
        self.end_streams();
        self.links.stop().await;
    }
}

/// Gauges and health, for ever.
async fn keep_house(
    consensus: Arc<dyn Consensus>,
    clock: Arc<dyn Clock>,
    api: ApiRoutes,
    readiness: Arc<Readiness>,
) {
    let mut sampler = Sampler::default();
    let mut sampled = tokio::time::interval(SAMPLE_INTERVAL);
    loop {
        sampled.tick().await;
        let cell = consensus.state();
        sampler.sample(|reader| cell.read(|state| reader(state)), clock.wall_ms());
        let in_doubt = cell.read(|state| state.restored().map_or(0, |restored| restored.in_doubt.len()));
        readiness.set_in_doubt(u64::try_from(in_doubt).unwrap_or(u64::MAX));
        let ready = readiness.is_ready();
        metrics::gauge!("mux_ready").set(f64::from(u8::from(ready)));
        api.set_ready(ready).await;
    }
}
