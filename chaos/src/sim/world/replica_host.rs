use super::fronts::Fronts;
use super::load::Book;
use super::points::Died;
use crate::sim::coverage::Coverage;
use crate::sim::disk::{Remains, SimDisk};
use crate::sim::host::{Ending, Host, HostClock, HostId};
use crate::sim::lnd::SimLnds;
use crate::sim::net::{Network, Port, RaftNet};
use crate::sim::random;
use crate::sim::swarm::Swarm;
use crate::sim::time::SimTime;
use crate::sim::trace::Column;
use mux_raft::consensus::{Consensus, RaftStatus};
use mux_raft::replica::{Replica, ReplicaConfig, SnapshotConfig, Timing, TlsPaths, Wiring};
use mux_raft::types::{LogIndex, ReplicaId, StoreId};
use muxd::NodeWiring;
use muxd::link::Links;
use muxd::server::{Node, Readiness};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::watch;

/// What all replicas are configured with.
#[derive(Clone, Debug)]
pub(super) struct Cluster {
    /// The founders.
    members: BTreeMap<ReplicaId, String>,
    /// Who runs where at the moment.
    running: Arc<Mutex<BTreeMap<HostId, ReplicaId>>>,
    dir: PathBuf,
    snapshot: SnapshotConfig,
    timing: Timing,
    fronts: Arc<Fronts>,
}

impl Cluster {
    pub(super) fn new(ids: &[ReplicaId], dir: &Path, swarm: &Swarm, fronts: Arc<Fronts>) -> Self {
        let members = ids.iter().map(|id| (*id, address_of(*id))).collect();
        let snapshot = SnapshotConfig {
            logs_since_last: swarm.snapshot_every,
            keep_logs: swarm.keep_logs,
            purge_batch: 1,
        };
        Self {
            members,
            running: Arc::default(),
            dir: dir.to_owned(),
            snapshot,
            timing: swarm.timing(),
            fronts,
        }
    }

    /// Whom a replica is told of that joins: those that there are.
    fn others(&self, id: ReplicaId) -> BTreeMap<ReplicaId, String> {
        let running = self.running.lock();
        running.values().filter(|other| **other != id).map(|id| (*id, address_of(*id))).collect()
    }

    fn data_dir(&self, id: ReplicaId) -> PathBuf {
        self.dir.join(format!("replica-{id}"))
    }

    fn config(&self, id: ReplicaId, initial_members: BTreeMap<ReplicaId, String>) -> ReplicaConfig {
        let nowhere = PathBuf::from("/nonexistent");
        ReplicaConfig {
            cluster_id: self.fronts.config.api.cluster_id,
            id,
            data_dir: self.data_dir(id),
            // Nothing is bound: the network is given.
            listen: std::net::SocketAddr::from(([192, 0, 2, 1], 1)),
            initial_members,
            tls: TlsPaths {
                ca: nowhere.clone(),
                cert: nowhere.clone(),
                key: nowhere,
                domain: TlsPaths::DEFAULT_DOMAIN.into(),
            },
            timing: self.timing,
            snapshot: self.snapshot,
            wall_offset_ms: 0,
        }
    }
}

fn address_of(id: ReplicaId) -> String {
    format!("replica-{id}:7401")
}

/// Of its client API.
pub(super) fn api_of(id: ReplicaId) -> String {
    format!("replica-{id}:api")
}

fn host_of(id: ReplicaId) -> HostId {
    HostId(usize::try_from(id).unwrap_or(usize::MAX))
}

/// A replica's host, with the disk that outlives its processes.
pub(super) struct ReplicaHost {
    id: ReplicaId,
    host: Host,
    network: Network,
    disk: SimDisk,
    /// The stores that it had under its id and lost.
    lost: Vec<StoreId>,
    cluster: Cluster,
    /// Whom its configuration names.
    initial_members: BTreeMap<ReplicaId, String>,
    wall_offset_ms: i64,
    /// The highest feature level that its version knows, at first and now.
    levels: (u16, u16),
    /// What became of the process's replica.
    life: Arc<Mutex<Life>>,
    seen: Option<Seen>,
    /// It died at a named point, and is to be buried.
    died: Option<Died>,
}

#[derive(Default)]
enum Life {
    #[default]
    Starting,
    Running(Arc<Replica>, Links),
    Stopped(String),
}

/// A running replica as the driver looks at it.
pub(super) struct Seen {
    pub(super) replica: Arc<Replica>,
    pub(super) links: Links,
    pub(super) status: watch::Receiver<RaftStatus>,
    pub(super) applied: watch::Receiver<LogIndex>,
}

impl fmt::Debug for ReplicaHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplicaHost").field("id", &self.id).finish_non_exhaustive()
    }
}

impl ReplicaHost {
    pub(super) fn new(id: ReplicaId, cluster: &Cluster, network: &Network, swarm: &Swarm) -> Self {
        let host = host_of(id);
        network.name(&address_of(id), host);
        network.name(&api_of(id), host);
        cluster.running.lock().insert(host, id);
        let rng = random::stream(swarm.seed, &format!("disk of {id}"));
        Self {
            id,
            host: Host::new(host, network.clone()),
            network: network.clone(),
            disk: SimDisk::new(rng, swarm.disk.clone(), swarm.torn_writes),
            lost: Vec::new(),
            cluster: cluster.clone(),
            initial_members: cluster.members.clone(),
            wall_offset_ms: 0,
            levels: (swarm.first_level(), swarm.first_level()),
            life: Arc::default(),
            seen: None,
            died: None,
        }
    }

    pub(super) fn id(&self) -> ReplicaId {
        self.id
    }

    pub(super) fn host_id(&self) -> HostId {
        self.host.id()
    }

    pub(super) fn column(&self) -> Column {
        self.host.id().0
    }

    pub(super) fn disk(&self) -> &SimDisk {
        &self.disk
    }

    pub(super) fn is_up(&self) -> bool {
        self.host.is_up()
    }

    /// Its end of the network, while it is up.
    pub(super) fn port(&self) -> Option<Port> {
        self.host.port().cloned()
    }

    /// Where the others reach it.
    pub(super) fn address(&self) -> String {
        address_of(self.id)
    }

    /// The highest feature level that its version knows.
    pub(super) fn feature_level_max(&self) -> u16 {
        self.levels.1
    }

    /// Whether its version is not the one that it began with.
    pub(super) fn was_upgraded(&self) -> bool {
        self.levels.0 < self.levels.1
    }

    /// From its next start on it knows this.
    pub(super) fn set_feature_level_max(&mut self, level: u16) {
        self.levels.1 = level;
    }

    /// Everything that it wrote is gone. It is down.
    pub(super) fn wipe(&mut self) {
        self.lost.extend(self.disk.wipe());
        // There may be none yet.
        let _ = std::fs::remove_dir_all(self.cluster.data_dir(self.id));
    }

    pub(super) fn lost(&self) -> &[StoreId] {
        &self.lost
    }

    /// From its next start on, with an empty disk, it is another replica.
    pub(super) fn become_another(&mut self, id: ReplicaId) {
        self.wipe();
        self.lost.clear();
        self.id = id;
        self.network.name(&address_of(id), self.host.id());
        self.cluster.running.lock().insert(self.host.id(), id);
        self.initial_members = self.cluster.others(id);
    }

    /// Runs something in its process, from the next step on.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        drop(self.host.spawn(task));
    }

    /// It has died at a named point: its disk and its port know already.
    pub(super) fn died(&mut self, died: Died) {
        self.died = Some(died);
    }

    /// See [`ReplicaHost::died`], once.
    pub(super) fn take_died(&mut self) -> Option<Died> {
        self.died.take()
    }

    pub(super) fn is_paused(&self) -> bool {
        self.host.is_paused()
    }

    pub(super) fn pause(&mut self, paused: bool) {
        if paused { self.host.pause() } else { self.host.resume() }
    }

    /// How far its wall clock is ahead.
    pub(super) const fn wall_offset_ms(&self) -> i64 {
        self.wall_offset_ms
    }

    /// Sets the wall clock wrong by this much, from now on and after a restart.
    pub(super) fn set_wall_offset_ms(&mut self, offset_ms: i64) {
        self.wall_offset_ms = offset_ms;
        if let Some(clock) = self.host.clock() {
            clock.set_wall_offset_ms(offset_ms);
        }
    }

    /// Starts a process with what the disk holds.
    pub(super) fn start(&mut self, now: SimTime, book: &Book, coverage: &Coverage) {
        self.life = Arc::default();
        let life = Arc::clone(&self.life);
        let start = Start {
            config: self.cluster.config(self.id, self.initial_members.clone()),
            running: Arc::clone(&self.cluster.running),
            feature_level_max: self.feature_level_max(),
            fronts: Arc::clone(&self.cluster.fronts),
            // Of the machine: whoever runs there, clients find it there.
            api: api_of(ReplicaId::try_from(self.host.id().0).unwrap_or(self.id)),
            disk: self.disk.clone(),
            book: book.clone(),
            coverage: coverage.clone(),
        };
        self.host.start(now, self.wall_offset_ms, |port, clock| start.run(port, clock, life));
    }

    /// Ends the process.
    pub(super) fn end(&mut self, how: Ending) -> Remains {
        // First of all the disk: what is dropped now writes nothing any more.
        let remains = self.disk.process_ended(how);
        self.host.crash(how);
        self.seen = None;
        self.life = Arc::default();
        remains
    }

    pub(super) fn step(&mut self, now: SimTime, until: SimTime) {
        self.host.step(now, until);
    }

    /// Why the replica cannot go on, once.
    pub(super) fn take_stopped(&mut self) -> Option<String> {
        if !self.host.is_up() {
            return None;
        }
        let mut life = self.life.lock();
        match &*life {
            Life::Stopped(_) => match std::mem::take(&mut *life) {
                Life::Stopped(reason) => Some(reason),
                Life::Starting | Life::Running(..) => None,
            },
            Life::Starting | Life::Running(..) => None,
        }
    }

    /// The running replica.
    pub(super) fn seen(&mut self) -> Option<&mut Seen> {
        if self.seen.is_none()
            && let Life::Running(replica, links) = &*self.life.lock()
        {
            let (replica, links) = (Arc::clone(replica), links.clone());
            let (status, applied) = (replica.status(), replica.cell().watch());
            self.seen = Some(Seen { replica, links, status, applied });
            if let Some(seen) = &mut self.seen {
                seen.status.mark_changed();
                seen.applied.mark_changed();
            }
        }
        self.seen.as_mut()
    }

    /// The running replica, if it was looked at already.
    pub(super) fn replica(&self) -> Option<&Seen> {
        self.seen.as_ref()
    }

    /// Whether it leads, as far as it knows.
    pub(super) fn leads(&self) -> bool {
        self.seen.as_ref().is_some_and(|seen| seen.status.borrow().leads)
    }
}

/// What a process does.
struct Start {
    config: ReplicaConfig,
    running: Arc<Mutex<BTreeMap<HostId, ReplicaId>>>,
    feature_level_max: u16,
    fronts: Arc<Fronts>,
    api: String,
    disk: SimDisk,
    book: Book,
    coverage: Coverage,
}

impl Start {
    async fn run(self, port: Port, clock: HostClock, life: Arc<Mutex<Life>>) {
        let id = self.config.id;
        let wiring = Wiring {
            net: Some(Arc::new(RaftNet::new(port.clone()))),
            blocking: self.disk.blocking(),
            clock: Arc::new(clock.clone()),
            engine: self.disk.engine(),
            archive: self.disk.archive(),
            feature_level_max: self.feature_level_max,
            ..Wiring::default()
        };
        let replica = match Replica::start_with(self.config, wiring).await {
            Ok(replica) => replica,
            Err(error) => {
                *life.lock() = Life::Stopped(format!("it does not start: {error}"));
                return;
            }
        };
        let admit = RaftNet::admit(move |host| self.running.lock().get(&host).copied());
        port.listen(&address_of(id), replica.routes(), admit);
        let wiring = NodeWiring {
            lnd: Arc::new(SimLnds::new(port.clone(), Arc::clone(&self.fronts.macaroons))),
            blocking: self.disk.blocking(),
            clock: Arc::new(clock),
        };
        let (config, keys) = (self.fronts.config.clone(), Arc::clone(&self.fronts.keys));
        let consensus = Arc::clone(&replica) as Arc<dyn Consensus>;
        let node = Node::start(config, keys, consensus, Arc::new(Readiness::default()), wiring);
        let node = match Box::pin(node).await {
            Ok(node) => node,
            Err(error) => {
                *life.lock() = Life::Stopped(format!("its node does not start: {error}"));
                return;
            }
        };
        port.listen(&self.api, node.routes(), Arc::new(|_, _| ()));
        *life.lock() = Life::Running(Arc::clone(&replica), node.links());
        self.book.begin(&replica, &port, &self.coverage);
        let reason = replica.stopped().await;
        drop(node);
        *life.lock() = Life::Stopped(reason);
    }
}
