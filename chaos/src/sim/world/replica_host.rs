use super::fronts::Fronts;
use super::load::Book;
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
use mux_raft::types::{LogIndex, ReplicaId};
use muxd::NodeWiring;
use muxd::link::Links;
use muxd::server::{Node, Readiness};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::watch;

/// What all replicas are configured with.
#[derive(Clone, Debug)]
pub(super) struct Cluster {
    members: BTreeMap<ReplicaId, String>,
    dir: PathBuf,
    snapshot: SnapshotConfig,
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
        Self { members, dir: dir.to_owned(), snapshot, fronts }
    }

    fn config(&self, id: ReplicaId) -> ReplicaConfig {
        let nowhere = PathBuf::from("/nonexistent");
        ReplicaConfig {
            cluster_id: self.fronts.config.api.cluster_id,
            id,
            data_dir: self.dir.join(format!("replica-{id}")),
            // Nothing is bound: the network is given.
            listen: std::net::SocketAddr::from(([192, 0, 2, 1], 1)),
            initial_members: self.members.clone(),
            tls: TlsPaths {
                ca: nowhere.clone(),
                cert: nowhere.clone(),
                key: nowhere,
                domain: TlsPaths::DEFAULT_DOMAIN.into(),
            },
            timing: Timing::default(),
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
    disk: SimDisk,
    cluster: Cluster,
    wall_offset_ms: i64,
    /// What became of the process's replica.
    life: Arc<Mutex<Life>>,
    seen: Option<Seen>,
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
        let rng = random::stream(swarm.seed, &format!("disk of {id}"));
        Self {
            id,
            host: Host::new(host, network.clone()),
            disk: SimDisk::new(rng, swarm.disk.clone(), swarm.torn_writes),
            cluster: cluster.clone(),
            wall_offset_ms: 0,
            life: Arc::default(),
            seen: None,
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

    pub(super) fn is_paused(&self) -> bool {
        self.host.is_paused()
    }

    pub(super) fn pause(&mut self, paused: bool) {
        if paused { self.host.pause() } else { self.host.resume() }
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
        let hosts = self.cluster.members.keys().map(|id| (host_of(*id), *id)).collect();
        let start = Start {
            config: self.cluster.config(self.id),
            hosts,
            fronts: Arc::clone(&self.cluster.fronts),
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
    hosts: BTreeMap<HostId, ReplicaId>,
    fronts: Arc<Fronts>,
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
            ..Wiring::default()
        };
        let replica = match Replica::start_with(self.config, wiring).await {
            Ok(replica) => replica,
            Err(error) => {
                *life.lock() = Life::Stopped(format!("it does not start: {error}"));
                return;
            }
        };
        port.listen(&address_of(id), replica.routes(), RaftNet::admit(self.hosts));
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
        port.listen(&api_of(id), node.routes(), Arc::new(|_, _| ()));
        *life.lock() = Life::Running(Arc::clone(&replica), node.links());
        self.book.begin(&replica, &port, &self.coverage);
        let reason = replica.stopped().await;
        drop(node);
        *life.lock() = Life::Stopped(reason);
    }
}
