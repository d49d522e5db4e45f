//! Replicas in one process over loopback TLS, each with its directory, its clock and a switch for its links.

use mux_raft::clock::{OffsetClock, SystemClock};
use mux_raft::consensus::{Committed, Consensus as _, ProposeError, RaftStatus};
use mux_raft::machine::{Command, Reply, RequestId};
use mux_raft::members::{MemberChange, MemberError, RefusalKind};
use mux_raft::network::Links;
use mux_raft::replica::{Replica, ReplicaConfig, SnapshotConfig, StartError, Timing, TlsPaths, Wiring};
use mux_raft::store::OpenEngine;
use mux_raft::types::{NodePubkey, ReplicaId};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Nothing in these tests takes this long unless it is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const CLUSTER_ID: [u8; 32] = [0xc1; 32];

/// A certificate authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// Writes the files a replica needs, with a certificate for these names.
    pub(crate) fn issue(&self, dir: &Path, names: &[String]) -> TlsPaths {
        let mut params = CertificateParams::new(names.to_vec()).unwrap();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        std::fs::create_dir_all(dir).unwrap();
        let write = |name: &str, pem: String| {
            let path = dir.join(name);
            std::fs::write(&path, pem).unwrap();
            path
        };
        TlsPaths {
            ca: write("ca.pem", self.0.pem()),
            cert: write("cert.pem", certificate.pem()),
            key: write("key.pem", key.serialize_pem()),
            domain: TlsPaths::DEFAULT_DOMAIN.into(),
        }
    }
}

/// Slow enough for a busy machine.
pub(crate) fn timing() -> Timing {
    Timing {
        heartbeat: Duration::from_millis(100),
        election_min: Duration::from_millis(500),
        election_max: Duration::from_millis(1_000),
        propose: Duration::from_secs(5),
        install_snapshot: Duration::from_secs(20),
    }
}

pub(crate) struct Cluster {
    pub(crate) dir: TempDir,
    pub(crate) authority: Authority,
    pub(crate) links: Links,
    pub(crate) clocks: BTreeMap<ReplicaId, OffsetClock>,
    /// What replicas say they know, if less than they do.
    pub(crate) levels: BTreeMap<ReplicaId, u16>,
    pub(crate) engines: BTreeMap<ReplicaId, Arc<dyn OpenEngine>>,
    pub(crate) configs: BTreeMap<ReplicaId, ReplicaConfig>,
    pub(crate) running: BTreeMap<ReplicaId, Arc<Replica>>,
    reserved: BTreeMap<ReplicaId, TcpListener>,
}

impl Cluster {
    /// Prepares replicas 1..=count without starting any.
    pub(crate) fn prepare(count: u64) -> Self {
        let _ = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .try_init();
        let (dir, authority) = (TempDir::new().unwrap(), Authority::new());
        let reserved: BTreeMap<ReplicaId, TcpListener> =
            (1..=count).map(|id| (id, TcpListener::bind("127.0.0.1:0").unwrap())).collect();
        let members: BTreeMap<ReplicaId, String> =
            reserved.iter().map(|(id, listener)| (*id, listener.local_addr().unwrap().to_string())).collect();
        let configs = members
            .iter()
            .map(|(id, address)| {
                let home = dir.path().join(format!("replica-{id}"));
                let config = ReplicaConfig {
                    cluster_id: CLUSTER_ID,
                    id: *id,
                    data_dir: home.join("data"),
                    listen: address.parse::<SocketAddr>().unwrap(),
                    initial_members: members.clone(),
                    tls: authority.issue(&home, &[format!("replica-{id}.mux")]),
                    timing: timing(),
                    snapshot: SnapshotConfig::default(),
                    wall_offset_ms: 0,
                };
                (*id, config)
            })
            .collect();
        let clock = || OffsetClock::new(Arc::new(SystemClock::new()), 0);
        Self {
            dir,
            authority,
            links: Links::default(),
            clocks: members.keys().map(|id| (*id, clock())).collect(),
            levels: BTreeMap::new(),
            engines: BTreeMap::new(),
            configs,
            running: BTreeMap::new(),
            reserved,
        }
    }

    /// Replicas 1..=count, started.
    pub(crate) async fn start(count: u64) -> Self {
        let mut cluster = Self::prepare(count);
        cluster.start_all().await;
        cluster
    }

    /// Replicas 1..=founders, started; further ones up to `count` are prepared to join.
    pub(crate) async fn founded(founders: u64, count: u64) -> Self {
        let mut cluster = Self::prepare(count);
        for config in cluster.configs.values_mut() {
            config.initial_members.retain(|id, _| *id <= founders);
        }
        for id in 1..=founders {
            cluster.start_one(id).await;
        }
        cluster
    }

    /// Adds a replica and promotes it once it has caught up, asking this one.
    pub(crate) async fn join(&self, asked: ReplicaId, id: ReplicaId) {
        let address = self.configs[&id].listen.to_string();
        let replica = self.replica(asked);
        let started = Instant::now();
        for change in [MemberChange::AddLearner { id, address }, MemberChange::Promote { id }] {
            while let Err(error) = replica.change_members(change.clone()).await {
                let waits = match &error {
                    MemberError::Refused(refusal) => refusal.kind == RefusalKind::NotYet,
                    MemberError::Propose(_) => true,
                };
                assert!(waits && started.elapsed() < PATIENCE * 2, "{error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    pub(crate) async fn start_all(&mut self) {
        for id in self.configs.keys().copied().collect::<Vec<_>>() {
            if !self.running.contains_key(&id) {
                self.start_one(id).await;
            }
        }
    }

    pub(crate) async fn start_one(&mut self, id: ReplicaId) {
        let replica = self.try_start(id).await.unwrap();
        self.running.insert(id, replica);
    }

    pub(crate) async fn try_start(&mut self, id: ReplicaId) -> Result<Arc<Replica>, StartError> {
        let mut wiring = Wiring {
            listener: self.reserved.remove(&id),
            clock: Arc::new(self.clocks[&id].clone()),
            links: self.links.clone(),
            ..Wiring::default()
        };
        if let Some(engine) = self.engines.get(&id) {
            wiring.engine = Arc::clone(engine);
        }
        if let Some(level) = self.levels.get(&id) {
            wiring.feature_level_max = *level;
        }
        Replica::start_with(self.configs[&id].clone(), wiring).await
    }

    pub(crate) async fn stop(&mut self, id: ReplicaId) {
        self.running.remove(&id).unwrap().shutdown().await;
    }

    pub(crate) async fn stop_all(&mut self) {
        for id in self.running.keys().copied().collect::<Vec<_>>() {
            self.stop(id).await;
        }
    }

    pub(crate) fn replica(&self, id: ReplicaId) -> &Replica {
        &self.running[&id]
    }

    pub(crate) fn status(&self, id: ReplicaId) -> RaftStatus {
        self.running[&id].status().borrow().clone()
    }

    /// Cuts a replica off from all others, both ways.
    pub(crate) fn isolate(&self, id: ReplicaId) {
        self.links.isolate(id, self.configs.keys().copied().filter(|other| *other != id));
    }

    /// Waits until these replicas agree on a leader among them that has a quorum.
    pub(crate) async fn leader_among(&self, ids: &[ReplicaId]) -> ReplicaId {
        let found = async {
            loop {
                let statuses: Vec<RaftStatus> = ids.iter().map(|id| self.status(*id)).collect();
                if let Some(leader) = statuses[0].leader
                    && statuses.iter().all(|status| status.leader == Some(leader) && status.quorum)
                    && statuses.iter().any(|status| status.id == leader && status.leads)
                {
                    return leader;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, found).await.expect("no leader")
    }

    /// Waits until all running replicas agree on a leader.
    pub(crate) async fn leader(&self) -> ReplicaId {
        self.leader_among(&self.running.keys().copied().collect::<Vec<_>>()).await
    }

    /// Makes one the leader that is a voter, asking this one.
    pub(crate) async fn lead(&self, asked: ReplicaId, id: ReplicaId) {
        while !self.status(id).leads {
            // Refused until it has caught up.
            let _ = self.replica(asked).transfer_leader(Some(id)).await;
            self.leader().await;
        }
    }

    /// A running replica that does not lead.
    pub(crate) async fn follower(&self) -> ReplicaId {
        let leader = self.leader().await;
        *self.running.keys().find(|id| **id != leader).unwrap()
    }

    pub(crate) async fn propose(&self, id: ReplicaId) -> Result<Committed, ProposeError> {
        self.replica(id).propose(command(), None).await
    }

    /// Proposes until it is committed. A new leader may take a moment.
    pub(crate) async fn commit(&self, id: ReplicaId) -> Committed {
        let started = Instant::now();
        loop {
            match self.propose(id).await {
                Ok(committed) => return committed,
                Err(error) => assert!(started.elapsed() < PATIENCE, "{error}"),
            }
        }
    }

    /// Proposes until it is committed, and returns the answer. It is applied once, whoever leads meanwhile.
    pub(crate) async fn ask(&self, id: ReplicaId, command: Command) -> Reply {
        self.ask_as(id, command, Some(RequestId(rand::random()))).await.reply
    }

    pub(crate) async fn ask_as(
        &self,
        id: ReplicaId,
        command: Command,
        request: Option<RequestId>,
    ) -> Committed {
        let started = Instant::now();
        loop {
            match self.replica(id).propose(command.clone(), request).await {
                Ok(committed) => return committed,
                Err(error) => assert!(started.elapsed() < PATIENCE, "{error}"),
            }
        }
    }

    /// Waits until every running replica has applied the same entries, and returns the state's hash.
    pub(crate) async fn converged(&self) -> (u64, [u8; 32]) {
        let position =
            |replica: &Replica| replica.state().read(|state| (state.applied().index, state.chain_hash()));
        let started = Instant::now();
        loop {
            let positions: Vec<_> = self.running.values().map(|replica| position(replica)).collect();
            if positions.iter().all(|other| *other == positions[0]) {
                return positions[0];
            }
            assert!(started.elapsed() < PATIENCE, "{positions:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Waits until a condition holds.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Some command that changes the state.
pub(crate) fn command() -> Command {
    Command::AssignLink { node: NodePubkey([2; 33]), replica: None }
}

pub(crate) fn request_id(number: u8) -> Option<RequestId> {
    Some(RequestId([number; 16]))
}
