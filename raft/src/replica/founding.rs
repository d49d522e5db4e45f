use super::core::Core;
use crate::network::Clearance;
use crate::types::ReplicaId;
use mux_proto::mux::raft::v1 as pb;
use openraft::BasicNode;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

const RETRY_PAUSE: Duration = Duration::from_millis(250);
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);
const TELL_EVERY: Duration = Duration::from_secs(10);

/// What the other initial members that answered say.
type Standings = Vec<(ReplicaId, pb::StandingResponse)>;

/// What a replica with an empty store may do, by what the others say.
#[derive(Debug, PartialEq, Eq)]
enum Finding {
    /// A leader remembers this replica: it has lost its disk. It must not vote again under this id, since it
    /// may have promised what it no longer knows.
    LostLog,
    /// A leader does not know it: it is new.
    Joins,
    /// Nobody has written anything yet: it is there from the beginning. Whether the cluster is founded.
    FromTheBeginning { founded: bool },
    /// Too few answers to tell.
    NotKnown,
}

/// Finds out whether this replica, whose store is empty, may take part, and founds the cluster if that is this
/// replica's to do: the least id of the initial members does it, when a majority of them are there and none
/// belongs to a cluster already. All others wait to be contacted by a leader.
pub(crate) async fn found_or_join(core: Arc<Core>, clearance: Clearance, stop: CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = try_until_clear(&core, &clearance) => {}
    }
}

async fn try_until_clear(core: &Core, clearance: &Clearance) {
    let members = &core.initial_members;
    let founder = members.keys().next() == Some(&core.id);
    let majority = members.len() / 2 + 1;
    let mut told = Instant::now();
    loop {
        match find(&ask_members(core).await, majority) {
            Finding::LostLog => {
                core.latch.trip(format!(
                    "the store is empty, but the leader has replicated to replica {} before; a replica that \
                     lost its disk must join under a new id",
                    core.id
                ));
                return;
            }
            Finding::Joins => {
                clearance.give();
                return;
            }
            Finding::FromTheBeginning { founded } => {
                clearance.give();
                if founder && !founded {
                    found(core).await;
                }
                return;
            }
            Finding::NotKnown => {}
        }
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            tracing::warn!(
                founder,
                "the store is empty; waiting for a leader, or for a majority of the initial members"
            );
        }
        sleep(RETRY_PAUSE).await;
    }
}

fn find(standings: &Standings, majority: usize) -> Finding {
    if standings.iter().any(|(_, standing)| standing.knows_your_log) {
        return Finding::LostLog;
    }
    if standings.iter().any(|(_, standing)| standing.leads) {
        return Finding::Joins;
    }
    let enough = standings.len().saturating_add(1) >= majority;
    // Founding writes entry 0; whatever follows needs a leader.
    let unwritten = standings.iter().all(|(_, standing)| standing.last_log_index == 0);
    if enough && unwritten {
        Finding::FromTheBeginning { founded: standings.iter().any(|(_, standing)| standing.initialized) }
    } else {
        Finding::NotKnown
    }
}

async fn found(core: &Core) {
    let nodes: BTreeMap<ReplicaId, BasicNode> =
        core.initial_members.iter().map(|(id, address)| (*id, BasicNode::new(address))).collect();
    match core.raft.initialize(nodes).await {
        Ok(()) => tracing::info!(members = ?core.initial_members, "founded the cluster"),
        // Contacted by a leader in this very moment.
        Err(error) => tracing::warn!(%error, "did not found the cluster"),
    }
}

async fn ask_members(core: &Core) -> Standings {
    let others = core.initial_members.iter().filter(|(id, _)| **id != core.id);
    let asked = others.map(|(id, address)| async move { (*id, standing_of(core, *id, address).await) });
    let answers = futures::future::join_all(asked).await;
    answers.into_iter().filter_map(|(id, answer)| answer.map(|answer| (id, answer))).collect()
}

async fn standing_of(core: &Core, id: ReplicaId, address: &str) -> Option<pb::StandingResponse> {
    let mut client = core.gateway_at(id, address).ok()?;
    let message = pb::StandingRequest { header: Some(core.peers.header(id)) };
    match timeout(ANSWER_TIMEOUT, client.standing(message)).await.ok()? {
        Ok(answer) => Some(answer.into_inner()),
        Err(status) => {
            tracing::debug!(member = id, reason = status.message(), "no answer from a member");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(initialized: bool, leads: bool, knows_your_log: bool, last: u64) -> pb::StandingResponse {
        pb::StandingResponse { initialized, leads, knows_your_log, last_log_index: last }
    }

    #[test]
    fn an_empty_store_takes_part_only_when_it_certainly_never_had_another() {
        let new = standing(false, false, false, 0);
        let founded = standing(true, false, false, 0);
        let follower = standing(true, false, false, 9);
        let leader = standing(true, true, false, 9);
        let remembers = standing(true, true, true, 9);
        for (others, expected) in [
            (vec![], Finding::NotKnown),
            (vec![new], Finding::FromTheBeginning { founded: false }),
            (vec![new, founded], Finding::FromTheBeginning { founded: true }),
            (vec![new, follower], Finding::NotKnown),
            (vec![follower, follower], Finding::NotKnown),
            (vec![follower, leader], Finding::Joins),
            (vec![remembers], Finding::LostLog),
            (vec![new, remembers], Finding::LostLog),
        ] {
            let standings: Standings = (2..).zip(others.iter().copied()).collect();
            assert_eq!(find(&standings, 2), expected, "{others:?}");
        }
        assert_eq!(find(&vec![], 1), Finding::FromTheBeginning { founded: false }, "a cluster of one");
    }
}
