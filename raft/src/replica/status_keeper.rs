use super::core::Core;
use super::raft::{LogId, TypeConfig};
use crate::consensus::{Member, RaftStatus};
use crate::types::{LogIndex, ReplicaId};
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::{BasicNode, Instant as _, RaftMetrics, ServerState};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Contact with a quorum is lost by time passing, without any event.
const REFRESH: Duration = Duration::from_millis(100);
/// Every commit is a change; a reader needs no more than a hundred a second.
const PAUSE: Duration = Duration::from_millis(10);

/// Keeps the status and the gauges up to date until told to stop.
pub(crate) async fn keep_status(core: Arc<Core>, stop: CancellationToken) {
    let mut changes = core.raft.metrics();
    loop {
        let metrics = changes.borrow_watched().clone();
        if let Err(error) = &metrics.running_state
            && !stop.is_cancelled()
        {
            core.latch.trip(format!("consensus stopped: {error}"));
        }
        publish(&core, &metrics);
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

fn publish(core: &Core, metrics: &RaftMetrics<TypeConfig>) {
    core.confirmed.note(metrics);
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
    let quorum = if is_leader {
        let acked =
            metrics.last_quorum_acked.is_some_and(|acked| acked.elapsed() <= core.timing.election_max);
        acked || voters == [core.id]
    } else {
        leader.is_some_and(|leader| core.heard.within(leader, core.timing.election_max * 2))
    };
    let matched = metrics
        .replication
        .iter()
        .flatten()
        .filter(|(id, _)| **id != core.id)
        .map(|(id, matched)| (*id, index_of(matched)))
        .collect();
    let fatal = core.latch.reason();
    let alive = fatal.is_none() && core.removed.get().is_none();
    RaftStatus {
        id: core.id,
        term: metrics.current_term,
        leader,
        leads: is_leader && quorum && alive,
        quorum: quorum && alive,
        last_log_index: metrics.last_log_index.unwrap_or(0),
        committed: index_of(&metrics.local_committed),
        applied: core.cell.read(|state| state.applied().index),
        snapshot: index_of(&metrics.snapshot),
        purged: index_of(&metrics.purged),
        members,
        matched,
        feature_level: core.cell.read(crate::machine::State::feature_level),
        leaving: core.leaving.known(core.id),
        removed: core.removed.get().cloned(),
        fatal,
    }
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
