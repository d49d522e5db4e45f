//! Two replicas and one front node: who holds the stream.

#![allow(clippy::unwrap_used, reason = "a test's support may panic like a test")]

mod link_support;

use link_support::payments::{HEIGHT, SCID, TIME, TestScreener, request};
use link_support::{FakeLnd, Listener, MACAROON, NODE, PATIENCE, until};
use mux_proto::routerrpc::ResolveHoldForwardAction::Settle;
use mux_raft::consensus::{Committed, Consensus, Member, ProposeError, RaftStatus, StateCell};
use mux_raft::local::LocalConsensus;
use mux_raft::machine::model::FrontNodePolicy;
use mux_raft::machine::{Command, RequestId};
use mux_raft::members::{MemberChange, MemberChanged, MemberError, MemberView};
use mux_raft::types::{LogIndex, ReplicaId};
use muxd::link::{LinkPhase, Links, LinksConfig};
use muxd::lnd::{EndpointConfig, FrontNodeConfig};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// One log, seen by one of several replicas.
struct View {
    log: Arc<LocalConsensus>,
    status: watch::Sender<RaftStatus>,
    /// Barriers fail: it has not caught up.
    behind: AtomicBool,
    /// No link can be given to another replica.
    stays: AtomicBool,
}

impl View {
    fn new(log: &Arc<LocalConsensus>, id: ReplicaId) -> Arc<Self> {
        let voter = Member { address: "local".into(), voter: true, ..Member::default() };
        let status = RaftStatus {
            id,
            term: 1,
            leader: Some(1),
            leads: id == 1,
            quorum: true,
            members: BTreeMap::from([(1, voter.clone()), (2, voter)]),
            // Whatever is in the log, everybody has it.
            matched: BTreeMap::from([(2, u64::MAX)]),
            ..RaftStatus::default()
        };
        let status = watch::Sender::new(status);
        Arc::new(Self { log: Arc::clone(log), status, behind: false.into(), stays: false.into() })
    }
}

#[async_trait::async_trait]
impl Consensus for View {
    async fn propose(
        &self,
        command: Command,
        request_id: Option<RequestId>,
    ) -> Result<Committed, ProposeError> {
        if self.stays.load(Ordering::SeqCst) && matches!(command, Command::AssignLink { .. }) {
            return Err(ProposeError::Unavailable("links stay".into()));
        }
        self.log.propose(command, request_id).await
    }

    async fn read_barrier(&self) -> Result<LogIndex, ProposeError> {
        if self.behind.load(Ordering::SeqCst) {
            return Err(ProposeError::Unavailable("behind".into()));
        }
        self.log.read_barrier().await
    }

    fn state(&self) -> &StateCell {
        self.log.state()
    }

    fn status(&self) -> watch::Receiver<RaftStatus> {
        self.status.subscribe()
    }

    async fn transfer_leader(&self, _: Option<ReplicaId>) -> Result<ReplicaId, ProposeError> {
        Err(ProposeError::Unavailable("not here".into()))
    }

    async fn members(&self) -> Result<Vec<MemberView>, ProposeError> {
        self.log.members().await
    }

    async fn change_members(&self, change: MemberChange) -> Result<MemberChanged, MemberError> {
        self.log.change_members(change).await
    }

    fn leave(&self) {
        self.log.leave();
    }
}

struct Rig {
    lnd: FakeLnd,
    log: Arc<LocalConsensus>,
    links: BTreeMap<ReplicaId, Links>,
    config: LinksConfig,
    _listener: Listener,
    _dir: tempfile::TempDir,
}

impl Rig {
    async fn new() -> Self {
        let lnd = FakeLnd::new(HEIGHT);
        let dir = tempfile::tempdir().unwrap();
        let listener = lnd.listen(dir.path(), "tls.cert").await;
        std::fs::write(dir.path().join("macaroon"), MACAROON).unwrap();
        let endpoint =
            EndpointConfig { address: listener.address.to_string(), tls_cert: listener.cert.clone().into() };
        let front = FrontNodeConfig {
            node: NODE,
            alias: "fake".into(),
            endpoints: vec![endpoint],
            macaroon: dir.path().join("macaroon"),
            zone: String::new(),
            policy: FrontNodePolicy { scid: SCID, fee_base_msat: 0, fee_ppm: 0, cltv_delta: 80 },
        };
        let config =
            LinksConfig { front_nodes: vec![front], network: "regtest".into(), ..LinksConfig::default() };
        let log = Arc::new(LocalConsensus::new(1, TIME));
        Self { lnd, log, links: BTreeMap::new(), config, _listener: listener, _dir: dir }
    }

    fn start(&mut self, id: ReplicaId) -> Arc<View> {
        let view = View::new(&self.log, id);
        self.start_as(id, Arc::clone(&view));
        view
    }

    fn start_as(&mut self, id: ReplicaId, view: Arc<View>) {
        let links = Links::start(self.config.clone(), view, Arc::new(TestScreener::default()));
        self.links.insert(id, links);
    }

    fn phase(&self, id: ReplicaId) -> LinkPhase {
        self.links[&id].status()[0].phase
    }

    async fn until_phases(&self, one: LinkPhase, two: LinkPhase) {
        until(&format!("{one:?}, {two:?}"), || (self.phase(1), self.phase(2)) == (one, two)).await;
    }

    /// LND was told to settle the only HTLC this often, and nothing else.
    async fn until_settles(&self, times: usize) {
        until(&format!("{times} settles"), || self.lnd.actions().len() >= times).await;
        assert_eq!(self.lnd.actions(), vec![(0, Settle); times]);
    }

    fn assign(&self, id: ReplicaId) {
        self.log.commit(Command::AssignLink { node: NODE, replica: Some(id) }, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_former_owner_closes_at_once_and_the_warm_standby_takes_over() {
    let mut rig = Rig::new().await;
    rig.start(1);
    until("up", || rig.phase(1) == LinkPhase::Up).await;
    rig.start(2);
    rig.until_phases(LinkPhase::Up, LinkPhase::Standby).await;
    let started = Instant::now();
    rig.assign(2);
    rig.until_phases(LinkPhase::Standby, LinkPhase::Up).await;
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    assert!(rig.lnd.is_held());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handover_gives_the_link_away_and_ends_when_its_stream_is_closed() {
    let mut rig = Rig::new().await;
    rig.start(1);
    until("up", || rig.phase(1) == LinkPhase::Up).await;
    rig.start(2);
    rig.until_phases(LinkPhase::Up, LinkPhase::Standby).await;
    rig.links[&1].handover().await;
    assert_eq!(rig.phase(1), LinkPhase::Standby);
    rig.until_phases(LinkPhase::Standby, LinkPhase::Up).await;
    // Given back to one that drains, the link goes away again.
    rig.assign(1);
    rig.until_phases(LinkPhase::Standby, LinkPhase::Up).await;
    let owner = || rig.log.state().read(|state| state.front_node(&NODE).unwrap().assigned);
    until("assigned away", || owner() == Some(2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_settled_htlc_is_settled_by_the_one_that_drains_and_by_its_successor() {
    let mut rig = Rig::new().await;
    let view = rig.start(1);
    until("up", || rig.phase(1) == LinkPhase::Up).await;
    rig.start(2);
    rig.until_phases(LinkPhase::Up, LinkPhase::Standby).await;
    rig.lnd.offer(request(1, 0));
    rig.until_settles(1).await;
    // The handover drags on: as long as the link is here, it is served.
    view.stays.store(true, Ordering::SeqCst);
    let draining = rig.links[&1].clone();
    let handover = tokio::spawn(async move { draining.handover_within(PATIENCE * 2).await });
    until("draining", || rig.links[&1].is_draining()).await;
    rig.lnd.offer(request(1, 0));
    rig.until_settles(2).await;
    let held_by_the_other = || rig.phase(2) != LinkPhase::Standby;
    assert!(!handover.is_finished() && !held_by_the_other(), "the draining replica answered");
    // LND offers it again also because the stream was lost.
    rig.lnd.kill_stream();
    until("held again", || rig.lnd.is_held() && rig.phase(1) == LinkPhase::Up).await;
    rig.lnd.offer(request(1, 0));
    rig.until_settles(3).await;
    assert!(!handover.is_finished() && !held_by_the_other(), "the draining replica answered");
    view.stays.store(false, Ordering::SeqCst);
    rig.until_phases(LinkPhase::Standby, LinkPhase::Up).await;
    handover.await.unwrap();
    rig.lnd.offer(request(1, 0));
    rig.until_settles(4).await;
    rig.links[&1].stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_comes_back_opens_nothing_before_it_has_caught_up() {
    let mut rig = Rig::new().await;
    let view = View::new(&rig.log, 1);
    view.behind.store(true, Ordering::SeqCst);
    rig.start_as(1, Arc::clone(&view));
    until("assigned", || {
        rig.log.state().read(|state| state.front_node(&NODE).is_some_and(|front| front.assigned.is_some()))
    })
    .await;
    until("connected", || rig.phase(1) == LinkPhase::Standby).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(rig.lnd.script.lock().streams_opened, 0);
    view.behind.store(false, Ordering::SeqCst);
    until("held", || rig.lnd.is_held()).await;
}
