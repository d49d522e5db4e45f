use super::core::Core;
use super::founding::{Standings, ask};
use crate::log::LogStore;
use crate::machine::{LogPosition, State};
use crate::types::ReplicaId;
use std::collections::BTreeMap;
use std::io;
use std::time::Duration;
use tokio::time::{Instant, sleep};

const START_PAUSE: Duration = Duration::from_millis(2);
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// Those who are there at all have answered by then.
const PATIENCE: Duration = Duration::from_millis(300);
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Makes sure that the store is not an older copy of what this replica once had, before it takes part again: with
/// one it could elect a leader that lacks what was committed by its own word.
///
/// Everybody is asked what this replica is known to have had. Who does not answer for a while is passed over, but
/// a majority must answer: without one nobody can be elected anyway, so nothing is held up by it.
///
/// # Errors
/// Somebody knows of more than there is here.
pub(super) async fn recognise(core: &Core, log: &LogStore) -> io::Result<()> {
    let end = core.cell.read(State::applied).max(log.end().unwrap_or_default());
    // openraft publishes what it found on disk a moment after its start.
    while log.end().is_some() && core.metrics().last_log_index.is_none() {
        sleep(START_PAUSE).await;
    }
    let (voters, others) = electorate(core);
    let (started, mut told) = (Instant::now(), Instant::now());
    loop {
        let standings = ask(core, others.iter()).await;
        judge(core.id, end, &standings)?;
        let counted = |id: &&ReplicaId| **id == core.id || standings.iter().any(|(other, _)| other == *id);
        // A leader in office has all that was ever noted; the voters known here may be gone for long.
        let leader = standings.iter().any(|(_, standing)| standing.leads);
        let enough = leader || voters.iter().filter(counted).count() > voters.len() / 2;
        let all = standings.len() == others.len();
        if all || (enough && started.elapsed() >= PATIENCE) {
            tracing::debug!(
                asked = others.len(),
                answered = standings.len(),
                ?end,
                "the log is what others know"
            );
            return Ok(());
        }
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            tracing::warn!("waiting for a majority of the members, to ask them about this replica's log");
        }
        sleep(RETRY_PAUSE).await;
    }
}

/// Who votes, and whom else to ask: by the log, or by the configuration if the log does not say.
fn electorate(core: &Core) -> (Vec<ReplicaId>, BTreeMap<ReplicaId, String>) {
    let membership = core.metrics().membership_config;
    let voters: Vec<_> = membership.voter_ids().collect();
    if !voters.is_empty() {
        // Whom an operator names in the configuration may be all that is left of the members.
        let mut others = core.initial_members.clone();
        others.extend(core.other_members());
        others.remove(&core.id);
        return (voters, others);
    }
    let mut others = core.initial_members.clone();
    let voters = others.keys().copied().collect();
    others.remove(&core.id);
    (voters, others)
}

fn judge(id: ReplicaId, end: LogPosition, standings: &Standings) -> io::Result<()> {
    for (other, standing) in standings {
        let Some(known) = &standing.confirmed else { continue };
        let known = LogPosition { term: known.term, index: known.index };
        if known > end {
            return Err(io::Error::other(format!(
                "the log ends with entry {} of term {}, but replica {other} knows that replica {id} had confirmed \
                 entry {} of term {}: the data directory is an older copy, or its disk lost what was written; replica \
                 {id} must not take part with it: remove it, and join under a new id with an empty data directory",
                end.index, end.term, known.index, known.term
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use mux_proto::mux::raft::v1 as pb;

    #[test]
    fn a_log_that_ends_before_what_it_confirmed_is_not_believed() {
        let end = LogPosition { term: 3, index: 10 };
        let knows = |known: Option<(u64, u64)>| {
            let confirmed = known.map(|(term, index)| pb::LogId { term, index });
            vec![(2, pb::StandingResponse { confirmed, ..Default::default() })]
        };
        for (known, sound) in [
            (None, true),
            (Some((3, 10)), true),
            (Some((2, 9)), true),
            (Some((3, 11)), false),
            // As long, but its end is a tail that was replaced meanwhile.
            (Some((4, 10)), false),
            (Some((4, 7)), false),
        ] {
            assert_eq!(judge(1, end, &knows(known)).is_ok(), sound, "{known:?}");
        }
    }
}
