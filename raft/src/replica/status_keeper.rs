use super::core::Core;
use super::raft::{LogId, StoredMembership, TypeConfig};
use crate::consensus::{Member, RaftStatus};
use crate::types::{LogIndex, ReplicaId};
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::{BasicNode, Instant as _, RaftMetrics, ServerState};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Contact with a quorum is lost by time passing, without any event.
const REFRESH: Duration = Duration::from_millis(100);
/// Every commit is a change; a reader needs no more than a hundred a second.
const PAUSE: Duration = Duration::from_millis(10);

/// Everything is put together again this often, whether it seems to have changed or not.
const REPUBLISH: Duration = Duration::from_secs(1);

/// Keeps the status and the gauges up to date until told to stop.
pub(crate) async fn keep_status(core: Arc<Core>, stop: CancellationToken) {
    let mut changes = core.raft.metrics();
    let mut published: Option<(Instant, Basis)> = None;
    loop {
        let basis = Basis::of(&core);
        let same = |(at, before): &(Instant, Basis)| at.elapsed() < REPUBLISH && *before == basis;
        if !published.as_ref().is_some_and(same) {
            let metrics = changes.borrow_watched().clone();
            if let Err(error) = &metrics.running_state
                && !stop.is_cancelled()
            {
                core.latch.trip(format!("consensus stopped: {error}"));
            }
            publish(&core, &metrics);
            published = Some((Instant::now(), basis));
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            changed = changes.changed() => if changed.is_err() {
                if !stop.is_cancelled() {
                    core.latch.trip("consensus ended");
                }
                return;
            },
            () = tokio::time::sleep(REFRESH) => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// What decides whether there is a new status to put together: openraft tells of every heartbeat, of which most change
/// nothing here.
#[derive(PartialEq)]
struct Basis {
    term: u64,
    state: ServerState,
    leader: Option<ReplicaId>,
    last_log_index: Option<LogIndex>,
    /// Committed, in a snapshot, purged.
    ends: [Option<LogId>; 3],
    membership: Arc<StoredMembership>,
    matched: Option<BTreeMap<ReplicaId, Option<LogId>>>,
    quorum: bool,
    stopped: bool,
    applied: LogIndex,
    leaving: BTreeSet<ReplicaId>,
    removed: bool,
}

impl Basis {
    fn of(core: &Core) -> Self {
        let of_metrics = |metrics: &RaftMetrics<TypeConfig>| Self {
            term: metrics.current_term,
            state: metrics.state,
            leader: metrics.current_leader,
            last_log_index: metrics.last_log_index,
            ends: [metrics.local_committed, metrics.snapshot, metrics.purged],
            membership: Arc::clone(&metrics.membership_config),
            matched: metrics.replication.clone(),
            quorum: has_quorum(core, metrics),
            stopped: metrics.running_state.is_err() || core.latch.reason().is_some(),
            applied: 0,
            leaving: BTreeSet::new(),
            removed: core.removed.get().is_some(),
        };
        // The state may be locked for a while: not while openraft waits.
        let basis = core.look(of_metrics);
        let applied = core.cell.read(|state| state.applied().index);
        Self { applied, leaving: core.leaving.known(core.id), ..basis }
    }
}

/// Whether a quorum is in contact, as far as can be told here.
fn has_quorum(core: &Core, metrics: &RaftMetrics<TypeConfig>) -> bool {
    if metrics.state == ServerState::Leader {
        let acked =
            metrics.last_quorum_acked.is_some_and(|acked| acked.elapsed() <= core.timing.election_max);
        acked || metrics.membership_config.voter_ids().eq([core.id])
    } else {
        metrics.current_leader.is_some_and(|leader| core.heard.within(leader, core.timing.election_max * 2))
    }
}

fn publish(core: &Core, metrics: &RaftMetrics<TypeConfig>) {
    core.confirmed.note(metrics);
    if let Some(node) = metrics.membership_config.get_node(&core.id) {
        core.peers.set_address(&node.addr);
    }
    let status = status_of(core, metrics);
    export(&status, core);
    core.status.send_if_modified(|current| {
        let changed = *current != status;
        if changed {
            if current.leader != status.leader {
                tracing::info!(term = status.term, leader = ?status.leader, "leader");
                metrics::counter!("mux_raft_leader_changes_total").increment(1);
            }
            // A term has one election. The first one seen is that of the start, not a new one.
            if current.term != 0 {
                let began = status.term.saturating_sub(current.term);
                metrics::counter!("mux_raft_elections_total").increment(began);
            }
            *current = status;
        }
        changed
    });
}

fn index_of(id: &Option<LogId>) -> LogIndex {
    id.map_or(0, |id| id.index)
}

fn status_of(core: &Core, metrics: &RaftMetrics<TypeConfig>) -> RaftStatus {
    let voters: Vec<ReplicaId> = metrics.membership_config.voter_ids().collect();
    let members: BTreeMap<ReplicaId, Member> = metrics
        .membership_config
        .nodes()
        .map(|(id, node)| (*id, member(core, *id, node, voters.contains(id))))
        .collect();
    let leader = metrics.current_leader;
    let is_leader = metrics.state == ServerState::Leader;
    let quorum = has_quorum(core, metrics);
    let matched = metrics
        .replication
        .iter()
        .flatten()
        .filter(|(id, _)| **id != core.id)
        .map(|(id, matched)| (*id, index_of(matched)))
        .collect();
    let applied = core.cell.read(|state| state.applied().index);
    let (last_log_index, committed) = ends(metrics, applied);
    let fatal = core.latch.reason();
    let alive = fatal.is_none() && core.removed.get().is_none();
    RaftStatus {
        id: core.id,
        term: metrics.current_term,
        leader,
        leads: is_leader && quorum && alive,
        quorum: quorum && alive,
        last_log_index,
        committed,
        applied,
        snapshot: index_of(&metrics.snapshot),
        purged: index_of(&metrics.purged),
        members,
        matched,
        feature_level: core.cell.read(crate::machine::State::feature_level),
        leaving: core.leaving.known(core.id),
        refusals: refusals(core, metrics),
        removed: core.removed.get().cloned(),
        fatal,
    }
}

/// Where the log ends, and what of it is committed. `applied` is read after openraft's view was taken and may be further:
/// what is applied is committed, and what is committed is in the log, or in the snapshot with which it began anew.
fn ends(metrics: &RaftMetrics<TypeConfig>, applied: LogIndex) -> (LogIndex, LogIndex) {
    let committed = index_of(&metrics.local_committed).max(applied);
    (metrics.last_log_index.unwrap_or(0).max(committed), committed)
}

/// Of those that are members as far as is known here.
fn refusals(core: &Core, metrics: &RaftMetrics<TypeConfig>) -> BTreeMap<ReplicaId, String> {
    let mut refusals = core.roster.refusals();
    refusals.retain(|id, _| {
        metrics.membership_config.get_node(id).is_some() || core.initial_members.contains_key(id)
    });
    refusals
}

fn member(core: &Core, id: ReplicaId, node: &BasicNode, voter: bool) -> Member {
    Member { address: node.addr.clone(), voter, program: core.roster.program_of(id) }
}

#[allow(clippy::cast_precision_loss, reason = "gauges are floats")]
fn export(status: &RaftStatus, core: &Core) {
    let flag = |on: bool| if on { 1.0 } else { 0.0 };
    metrics::gauge!("mux_raft_is_leader").set(flag(status.leads));
    metrics::gauge!("mux_raft_has_leader").set(flag(status.leader.is_some()));
    metrics::gauge!("mux_raft_has_quorum").set(flag(status.quorum));
    metrics::gauge!("mux_raft_term").set(status.term as f64);
    metrics::gauge!("mux_raft_commit_index").set(status.committed as f64);
    metrics::gauge!("mux_raft_applied_index").set(status.applied as f64);
    metrics::gauge!("mux_raft_last_log_index").set(status.last_log_index as f64);
    // Only the leader knows; a former leader must not keep showing what it knew.
    for peer in status.members.keys().filter(|peer| **peer != status.id) {
        let matched = status.matched.get(peer).copied();
        let lag = matched.map_or(0, |matched| status.last_log_index.saturating_sub(matched));
        metrics::gauge!("mux_raft_replication_lag_entries", "peer" => peer.to_string()).set(lag as f64);
    }
    // Replicas at the same applied index must show the same value. 48 bits fit a float exactly.
    let [a, b, c, d, e, f, ..] = core.cell.read(crate::machine::State::chain_hash);
    metrics::gauge!("mux_state_hash").set(u64::from_be_bytes([0, 0, a, b, c, d, e, f]) as f64);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::raft::log_id;

    #[test]
    fn what_is_applied_is_committed_and_in_the_log_though_openraft_says_so_later() {
        let mut metrics = RaftMetrics::<TypeConfig>::new_initial(1);
        assert_eq!(ends(&metrics, 0), (0, 0));
        (metrics.last_log_index, metrics.local_committed) = (Some(210), Some(log_id(4, 205)));
        assert_eq!(ends(&metrics, 200), (210, 205));
        assert_eq!(ends(&metrics, 208), (210, 208));
        assert_eq!(ends(&metrics, 215), (215, 215));
    }
}
