use super::*;
use crate::link::AssignConfig;
use mux_raft::consensus::{Consensus as _, Member};
use mux_raft::local::LocalConsensus;
use mux_raft::machine::RequestId;
use mux_raft::machine::model::FrontNodePolicy;

const LEADER: ReplicaId = 1;

struct Cluster {
    log: LocalConsensus,
    raft: RaftStatus,
    planner: Planner,
    /// The leader gives its links away.
    draining: bool,
    now: u64,
}

fn node(number: u8) -> NodePubkey {
    NodePubkey([number; 33])
}

fn front(number: u8, zone: &str) -> FrontNodeConfig {
    FrontNodeConfig {
        node: node(number),
        alias: format!("n{number}"),
        endpoints: Vec::new(),
        macaroon: "/nowhere".into(),
        zone: zone.into(),
        policy: FrontNodePolicy {
            scid: (9_000_000 << 40) | u64::from(number),
            fee_base_msat: 0,
            fee_ppm: 0,
            cltv_delta: 80,
        },
    }
}

impl Cluster {
    fn new(fronts: Vec<FrontNodeConfig>, zones: &[(ReplicaId, &str)]) -> Self {
        let zones = zones.iter().map(|(id, zone)| (*id, (*zone).to_owned())).collect();
        let assign = AssignConfig { zones, ..AssignConfig::default() };
        let config = LinksConfig { front_nodes: fronts, assign, ..LinksConfig::default() };
        let members = [1, 2, 3].map(|id| (id, Member { voter: true, ..Member::default() }));
        let raft = RaftStatus {
            id: LEADER,
            term: 1,
            leads: true,
            members: BTreeMap::from(members),
            ..RaftStatus::default()
        };
        let log = LocalConsensus::new(LEADER, 1_000_000);
        Self { log, raft, planner: Planner::new(Arc::new(config)), draining: false, now: 0 }
    }

    /// Time passes; every replica in `alive` acknowledges everything, every owner in `up` reports.
    fn pass(&mut self, by_ms: u64, alive: &[ReplicaId], up: &[ReplicaId]) -> Vec<Command> {
        let mut all = Vec::new();
        for _ in 0..by_ms / 100 {
            self.now += 100;
            self.log.advance(100);
            self.report(up);
            self.raft.last_log_index = self.log.state().read(|state| state.applied().index);
            for id in alive {
                self.raft.matched.insert(*id, self.raft.last_log_index);
            }
            self.planner.observe(&self.raft, self.now);
            let (raft, draining, now) = (self.raft.clone(), self.draining, self.now);
            let planner = &mut self.planner;
            let commands = self.log.state().read(|state| planner.plan(state, &raft, draining, now));
            for command in &commands {
                self.log.commit(command.clone(), None);
            }
            all.extend(commands);
        }
        all
    }

    fn report(&mut self, up: &[ReplicaId]) {
        let fronts: Vec<FrontNode> = self.log.state().read(|state| state.front_nodes().cloned().collect());
        for front in fronts {
            let Some(owner) = front.assigned.filter(|owner| up.contains(owner)) else { continue };
            let command = match front.session.filter(|session| session.owner == owner) {
                Some(session) => Command::LinkReport {
                    node: front.node,
                    session: session.id,
                    tip: None,
                    inactive_channels: Vec::new(),
                },
                None => Command::LinkUp {
                    node: front.node,
                    replica: owner,
                    stream: RequestId((u128::from(self.now) << 8 | u128::from(owner)).to_be_bytes()),
                },
            };
            self.log.commit(command, None);
        }
    }

    fn owner(&self, number: u8) -> Option<ReplicaId> {
        self.log.state().read(|state| state.front_node(&node(number)).unwrap().assigned)
    }
}

#[test]
fn front_nodes_are_registered_and_spread_evenly() {
    let mut cluster = Cluster::new(vec![front(1, ""), front(2, ""), front(3, "")], &[]);
    cluster.pass(500, &[2, 3], &[1, 2, 3]);
    let owners: BTreeSet<_> = [1, 2, 3].map(|number| cluster.owner(number)).into();
    assert_eq!(owners, BTreeSet::from([Some(1), Some(2), Some(3)]));
    assert_eq!(cluster.pass(60_000, &[2, 3], &[1, 2, 3]), [], "nothing moves while all is well");
}

#[test]
fn a_replica_in_the_nodes_zone_is_preferred() {
    let zones = [(1, "a"), (2, "b"), (3, "c")];
    let mut cluster = Cluster::new(vec![front(1, "c"), front(2, "a"), front(3, "b")], &zones);
    cluster.pass(500, &[2, 3], &[1, 2, 3]);
    assert_eq!([1, 2, 3].map(|number| cluster.owner(number)), [Some(3), Some(1), Some(2)]);
}

#[test]
fn a_dead_owner_is_replaced_within_a_second() {
    let mut cluster = Cluster::new(vec![front(1, "b")], &[(2, "b")]);
    cluster.pass(5_000, &[2, 3], &[1, 2, 3]);
    assert_eq!(cluster.owner(1), Some(2));
    cluster.pass(800, &[3], &[1, 3]);
    assert_ne!(cluster.owner(1), Some(2));
}

#[test]
fn an_owner_that_cannot_bring_the_link_up_is_replaced_and_each_replica_gets_a_turn() {
    let mut cluster = Cluster::new(vec![front(1, "")], &[]);
    cluster.pass(500, &[2, 3], &[]);
    let first = cluster.owner(1);
    let moves = cluster.pass(30_000, &[2, 3], &[]);
    let targets: Vec<_> = moves
        .iter()
        .map(|command| match command {
            Command::AssignLink { replica, .. } => *replica,
            other => panic!("{other:?}"),
        })
        .collect();
    assert!((2..=3).contains(&targets.len()), "at most one move in 10 s: {targets:?}");
    let seen: BTreeSet<_> = targets.iter().copied().chain([first]).collect();
    assert_eq!(seen.len(), 3, "{first:?} {targets:?}");
}

#[test]
fn an_owner_that_falls_silent_is_replaced() {
    let mut cluster = Cluster::new(vec![front(1, "b")], &[(2, "b")]);
    cluster.pass(15_000, &[2, 3], &[1, 2, 3]);
    assert_eq!(cluster.owner(1), Some(2));
    cluster.pass(3_500, &[2, 3], &[1, 3]);
    assert_ne!(cluster.owner(1), Some(2));
}

#[test]
fn a_lasting_imbalance_is_evened_out_one_link_at_a_time() {
    let mut cluster = Cluster::new(vec![front(1, ""), front(2, ""), front(3, "")], &[]);
    cluster.pass(500, &[2, 3], &[1, 2, 3]);
    for number in [1, 2, 3] {
        cluster.log.commit(Command::AssignLink { node: node(number), replica: Some(2) }, None);
    }
    assert_eq!(cluster.pass(20_000, &[2, 3], &[1, 2, 3]), []);
    cluster.pass(60_000, &[2, 3], &[1, 2, 3]);
    let owners: BTreeSet<_> = [1, 2, 3].map(|number| cluster.owner(number)).into();
    assert!(owners.len() >= 2, "{owners:?}");
}

#[test]
fn a_changed_policy_is_announced_under_its_own_scid_and_the_former_one_is_honoured() {
    let mut cluster = Cluster::new(vec![front(1, "")], &[]);
    cluster.pass(500, &[2, 3], &[1, 2, 3]);
    let former = front(1, "").policy;
    let changed = FrontNodePolicy { scid: former.scid + 1, fee_base_msat: 7, ..former };
    let fronts = vec![FrontNodeConfig { policy: changed, ..front(1, "") }];
    cluster.planner = Planner::new(Arc::new(LinksConfig { front_nodes: fronts, ..LinksConfig::default() }));
    cluster.pass(1_500, &[2, 3], &[1, 2, 3]);
    cluster.log.state().read(|state| {
        let known = state.front_node(&node(1)).unwrap();
        assert_eq!(known.policy, changed);
        assert_eq!(known.policy_of(former.scid), Some(&former));
    });
    let puts = |command: &Command| matches!(command, Command::PutFrontNode { .. });
    assert!(!cluster.pass(5_000, &[2, 3], &[1, 2, 3]).iter().any(puts), "and once is enough");
}

#[test]
fn a_draining_replica_gets_no_links() {
    let fronts = || (1..=4).map(|number| front(number, "a")).collect();
    // It would be the preferred one: nearest, and without a link.
    let mut cluster = Cluster::new(fronts(), &[(LEADER, "a")]);
    cluster.draining = true;
    cluster.pass(60_000, &[2, 3], &[1, 2, 3]);
    let owners = |cluster: &Cluster| [1, 2, 3, 4].map(|number| cluster.owner(number).unwrap());
    assert!(!owners(&cluster).contains(&LEADER), "nor to even out: {:?}", owners(&cluster));
    // Not even when others fail.
    cluster.pass(30_000, &[3], &[1, 3]);
    assert_eq!(owners(&cluster), [3; 4]);
    let mut alone = Cluster::new(fronts(), &[]);
    alone.raft.members.retain(|id, _| *id == LEADER);
    alone.draining = true;
    alone.pass(5_000, &[], &[1]);
    assert_eq!(alone.owner(1), None, "there is nobody to take it");
}

#[test]
fn a_draining_replica_loses_its_links_to_others() {
    let mut cluster = Cluster::new((1..=3).map(|number| front(number, "a")).collect(), &[(LEADER, "a")]);
    cluster.pass(15_000, &[2, 3], &[1, 2, 3]);
    let own = |cluster: &Cluster| [1, 2, 3].into_iter().any(|number| cluster.owner(number) == Some(LEADER));
    assert!(own(&cluster));
    cluster.draining = true;
    cluster.pass(200, &[2, 3], &[1, 2, 3]);
    assert!(!own(&cluster), "at once");
}

#[test]
fn a_replica_that_is_about_to_stop_gives_its_links_away_and_gets_none() {
    let mut cluster = Cluster::new(vec![front(1, ""), front(2, ""), front(3, "")], &[]);
    cluster.pass(1_000, &[2, 3], &[1, 2, 3]);
    let owners = |cluster: &Cluster| -> Vec<ReplicaId> {
        cluster.log.state().read(|state| state.front_nodes().filter_map(|front| front.assigned).collect())
    };
    assert!(owners(&cluster).contains(&2));
    cluster.raft.leaving.insert(2);
    cluster.pass(1_500, &[2, 3], &[1, 2, 3]);
    assert!(!owners(&cluster).contains(&2), "{:?}", owners(&cluster));
    // Not even one that another replica loses.
    cluster.pass(5_000, &[2], &[1, 2]);
    assert_eq!(owners(&cluster), [1, 1, 1]);
}
