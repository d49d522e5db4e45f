use super::core::Core;
use super::recognition::recognise;
use crate::log::LogStore;
use crate::machine::State;
use crate::mutant::{Mutant, planted};
use crate::network::{Clearance, May};
use crate::types::{LogIndex, ReplicaId};
use mux_proto::mux::raft::v1 as pb;
use openraft::BasicNode;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

const RETRY_PAUSE: Duration = Duration::from_millis(250);
const TELL_EVERY: Duration = Duration::from_secs(10);

/// What the other initial members that answered say.
pub(super) type Standings = Vec<(ReplicaId, pb::StandingResponse)>;

/// What a replica with an empty store may do, by what the others say.
#[derive(Debug, PartialEq, Eq)]
enum Finding {
    /// Somebody remembers this replica: it has lost its disk. It must not come back under this id.
    LostLog,
    /// It was removed from the cluster.
    Retired,
    /// A leader does not know it: it is new, or it is forgotten. It may vote when it has all that the leader
    /// has now, which is all that it can ever have had. `added`: it is a member already.
    Joins { upto: LogIndex, added: bool },
    /// Nobody has written anything yet: it is there from the beginning. Whether the cluster is founded.
    FromTheBeginning { founded: bool },
    /// Too few answers to tell.
    NotKnown,
}

/// Finds out whether this replica, whose store is (or lately was) empty, may take part, and founds the cluster
/// if that is this replica's to do: the least id of the initial members does it, when a majority of them are
/// there and none belongs to a cluster already. All others wait to be contacted by a leader.
pub(crate) async fn found_or_join(
    core: Arc<Core>,
    log: LogStore,
    clearance: Clearance,
    stop: CancellationToken,
) {
    let joining = async {
        if let Err(error) = try_until_clear(&core, &log, &clearance).await {
            core.latch.trip(error.to_string());
        }
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = joining => {}
    }
}

async fn try_until_clear(core: &Core, log: &LogStore, clearance: &Clearance) -> io::Result<()> {
    if let Some(upto) = log.probation() {
        // The mark may be an older copy's, of a replica that has caught up and confirmed more since.
        recognise(core, log).await?;
        return serve_probation(core, log, clearance, upto, log.end().is_some()).await;
    }
    if !log.is_pristine() {
        recognise(core, log).await?;
        clear(core, clearance);
        return Ok(());
    }
    let members = &core.initial_members;
    let founder = members.keys().next() == Some(&core.id);
    // Who is not among the founders joins later: only a leader can tell him that he is new.
    let majority = members.contains_key(&core.id).then_some(members.len() / 2 + 1);
    let mut told = Instant::now();
    // Founders come and go: those that are left name the leader.
    let mut known = members.clone();
    loop {
        let standings = ask(core, known.iter().filter(|(id, _)| **id != core.id)).await;
        known.extend(leaders_named(&standings));
        match find(&standings, majority) {
            Finding::LostLog => {
                return Err(io::Error::other(format!(
                    "the store is empty, but others have replicated to replica {} before; a replica that \
                     lost its disk must join under a new id",
                    core.id
                )));
            }
            Finding::Retired => {
                return Err(io::Error::other(format!(
                    "replica {} was removed from the cluster; an id never comes back: join under a new one",
                    core.id
                )));
            }
            Finding::Joins { upto, added } => {
                log.set_probation(Some(upto)).await?;
                return serve_probation(core, log, clearance, upto, added).await;
            }
            Finding::FromTheBeginning { founded } => {
                clear(core, clearance);
                if founder && !founded {
                    found(core).await;
                }
                return Ok(());
            }
            Finding::NotKnown => {}
        }
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            tracing::warn!(
                founder,
                asked = ?known,
                refusals = ?core.roster.refusals(),
                "the store is empty; waiting for a leader, or for a majority of the initial members"
            );
        }
        sleep(RETRY_PAUSE).await;
    }
}

async fn serve_probation(
    core: &Core,
    log: &LogStore,
    clearance: &Clearance,
    upto: LogIndex,
    added: bool,
) -> io::Result<()> {
    tracing::info!(upto, "joining: this replica votes when it has caught up");
    core.peers.stores().introduce();
    clearance.grant(May::Append);
    if !added {
        tracing::warn!("{}", how_to_add(core));
    }
    let mut applied = core.cell.watch();
    loop {
        let caught_up = timeout(TELL_EVERY, applied.wait_for(|applied| *applied >= upto)).await;
        match caught_up.map(|outcome| outcome.is_ok()) {
            Ok(true) => break,
            Ok(false) => return Ok(()),
            Err(_) if log.end().is_none() && core.cell.read(State::applied).index == 0 => {
                tracing::warn!("{}", how_to_add(core))
            }
            Err(_) => {}
        }
    }
    log.set_probation(None).await?;
    clear(core, clearance);
    tracing::info!(upto, "caught up: this replica votes from now on");
    Ok(())
}

/// A configuration may name a replica long before it is a member.
fn how_to_add(core: &Core) -> String {
    let address = core.initial_members.get(&core.id).map_or("HOST:PORT", String::as_str);
    format!(
        "replica {id} waits for the leader's log: it is no member of the cluster until it is added (muxcli member add \
         {id} {address}), whatever the configurations say",
        id = core.id
    )
}

fn clear(core: &Core, clearance: &Clearance) {
    core.peers.stores().introduce();
    clearance.grant(May::Vote);
    core.raft.runtime_config().elect(true);
}

/// `majority`: of the initial members, this replica included; `None` if it is not one of them.
fn find(standings: &Standings, majority: Option<usize>) -> Finding {
    let remembers = |standing: &pb::StandingResponse| standing.knows_your_log || standing.confirmed.is_some();
    if standings.iter().any(|(_, standing)| remembers(standing)) {
        let wrong = planted(Mutant::WipedReplicaVotes);
        return if wrong { Finding::FromTheBeginning { founded: true } } else { Finding::LostLog };
    }
    if standings.iter().any(|(_, standing)| standing.retired) {
        return Finding::Retired;
    }
    if let Some((_, leader)) = standings.iter().find(|(_, standing)| standing.leads) {
        return Finding::Joins { upto: leader.last_log_index, added: !leader.not_a_member };
    }
    let enough = majority.is_some_and(|majority| standings.len().saturating_add(1) >= majority);
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

/// The leaders that others name, and where they are reached.
pub(super) fn leaders_named(standings: &Standings) -> impl Iterator<Item = (ReplicaId, String)> {
    let named = standings.iter().map(|(_, standing)| (standing.leader, &standing.leader_address));
    named.filter(|(id, address)| *id != 0 && !address.is_empty()).map(|(id, address)| (id, address.clone()))
}

/// Asks all of them at once.
pub(super) async fn ask(core: &Core, whom: impl Iterator<Item = (&ReplicaId, &String)>) -> Standings {
    let asked = whom.map(|(id, address)| async move { (*id, standing_of(core, *id, address).await) });
    let answers = futures::future::join_all(asked).await;
    answers.into_iter().filter_map(|(id, answer)| answer.map(|answer| (id, answer))).collect()
}

pub(super) async fn standing_of(core: &Core, id: ReplicaId, address: &str) -> Option<pb::StandingResponse> {
    match core.standing_of(id, address).await {
        Ok(answer) => Some(answer),
        Err(status) => {
            tracing::debug!(replica = id, reason = status.message(), "no answer from a member");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(initialized: bool, leads: bool, knows_your_log: bool, last: u64) -> pb::StandingResponse {
        let last_log_index = last;
        pb::StandingResponse { initialized, leads, knows_your_log, last_log_index, ..Default::default() }
    }

    #[test]
    fn the_leader_is_found_through_whoever_names_it() {
        let silent = standing(true, false, false, 9);
        let named = pb::StandingResponse { leader: 7, leader_address: "seven:1".into(), ..silent.clone() };
        let nowhere = pb::StandingResponse { leader: 8, ..silent.clone() };
        let standings: Standings = vec![(2, silent), (3, named), (4, nowhere)];
        assert_eq!(leaders_named(&standings).collect::<Vec<_>>(), [(7, "seven:1".to_owned())]);
    }

    #[test]
    fn an_empty_store_takes_part_only_when_it_certainly_never_had_another() {
        let new = &standing(false, false, false, 0);
        let founded = &standing(true, false, false, 0);
        let follower = &standing(true, false, false, 9);
        let leader = &standing(true, true, false, 9);
        let stranger = &pb::StandingResponse { not_a_member: true, ..leader.clone() };
        let remembers = &standing(true, true, true, 9);
        let retired = &pb::StandingResponse { retired: true, ..follower.clone() };
        for (others, expected) in [
            (vec![], Finding::NotKnown),
            (vec![new], Finding::FromTheBeginning { founded: false }),
            (vec![new, founded], Finding::FromTheBeginning { founded: true }),
            (vec![new, follower], Finding::NotKnown),
            (vec![follower, follower], Finding::NotKnown),
            (vec![follower, leader], Finding::Joins { upto: 9, added: true }),
            (vec![follower, stranger], Finding::Joins { upto: 9, added: false }),
            (vec![remembers], Finding::LostLog),
            (vec![new, remembers], Finding::LostLog),
            (vec![retired, leader], Finding::Retired),
        ] {
            let standings: Standings = (2..).zip(others.iter().copied().cloned()).collect();
            assert_eq!(find(&standings, Some(2)), expected, "{others:?}");
            let joins = find(&standings, None);
            let begins = matches!(expected, Finding::FromTheBeginning { .. });
            assert_eq!(joins, if begins { Finding::NotKnown } else { expected }, "{others:?}");
        }
        assert_eq!(find(&vec![], Some(1)), Finding::FromTheBeginning { founded: false }, "a cluster of one");
    }
}
