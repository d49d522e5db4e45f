use super::core::Core;
use super::founding::{Standings, ask, leaders_named};
use super::raft::position;
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
    let (known, mut others) = electorate(core);
    let (started, mut told) = (Instant::now(), Instant::now());
    loop {
        others.extend(core.heard.callers());
        others.remove(&core.id);
        let standings = ask(core, others.iter()).await;
        judge(core.id, end, &standings)?;
        if suffice(core.id, &known, &mut others, &standings, started.elapsed() >= PATIENCE) {
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

/// Who votes, and the entry that says so.
type Electorate = (LogPosition, Vec<ReplicaId>);

/// Who votes by the newest membership that anybody knows: that of a replica that was away may name some that are gone for
/// long, and would wait for them for ever.
fn newest(known: &Electorate, standings: &Standings) -> Vec<ReplicaId> {
    let mut newest = known.clone();
    for (_, standing) in standings {
        let Some(at) = &standing.membership else { continue };
        let at = LogPosition { term: at.term, index: at.index };
        if at > newest.0 && !standing.voters.is_empty() {
            newest = (at, standing.voters.iter().map(|voter| voter.id).collect());
        }
    }
    newest.1
}

/// Whether nobody else has to be asked, those included whom the answers name. `waited`: whoever does not answer had time to.
fn suffice(
    id: ReplicaId,
    known: &Electorate,
    others: &mut BTreeMap<ReplicaId, String>,
    standings: &Standings,
    waited: bool,
) -> bool {
    let learned = learn(id, others, standings);
    let all = standings.len() == others.len();
    !learned && (all || (waited && are_enough(id, &newest(known, standings), standings)))
}

/// Whom these name that is not asked yet: those that lead and vote by their word may have joined while this replica was
/// away. Whether there was anybody.
fn learn(id: ReplicaId, others: &mut BTreeMap<ReplicaId, String>, standings: &Standings) -> bool {
    let before = others.len();
    let voters = standings.iter().flat_map(|(_, standing)| &standing.voters);
    let voters = voters.map(|voter| (voter.id, voter.address.clone()));
    let named: Vec<_> = leaders_named(standings).chain(voters).collect();
    for (other, address) in named.into_iter().filter(|(other, address)| *other != id && !address.is_empty()) {
        others.entry(other).or_insert(address);
    }
    others.len() > before
}

/// Whether what these say is all that has to be known.
fn are_enough(id: ReplicaId, voters: &[ReplicaId], standings: &Standings) -> bool {
    let counted = |voter: &&ReplicaId| **voter == id || standings.iter().any(|(other, _)| other == *voter);
    // A leader in office has all that was ever noted; the voters known here may be gone for long.
    let leader = standings.iter().any(|(_, standing)| standing.leads);
    leader || voters.iter().filter(counted).count() > voters.len() / 2
}

/// Who votes, and whom else to ask: by the log, or by the configuration if the log does not say.
fn electorate(core: &Core) -> (Electorate, BTreeMap<ReplicaId, String>) {
    let membership = core.metrics().membership_config;
    let at = membership.log_id().map(position);
    let voters: Vec<_> = membership.voter_ids().collect();
    let (voters, others) = electorate_of(core.id, voters, core.other_members(), &core.initial_members);
    ((at.unwrap_or_default(), voters), others)
}

fn electorate_of(
    id: ReplicaId,
    voters: Vec<ReplicaId>,
    members: Vec<(ReplicaId, String)>,
    initial_members: &BTreeMap<ReplicaId, String>,
) -> (Vec<ReplicaId>, BTreeMap<ReplicaId, String>) {
    let voters = if voters.is_empty() { initial_members.keys().copied().collect() } else { voters };
    // Whom an operator names in the configuration may be all that is left of the members.
    let mut others = initial_members.clone();
    others.extend(members);
    others.remove(&id);
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

    fn answers(from: &[ReplicaId], leader: Option<ReplicaId>) -> Standings {
        let standing = |id| pb::StandingResponse { leads: leader == Some(id), ..Default::default() };
        from.iter().map(|id| (*id, standing(*id))).collect()
    }

    #[test]
    fn a_majority_of_the_voters_or_a_leader_in_office_is_enough() {
        let voters = [1, 2, 3, 4, 5];
        for (from, leader, enough) in [
            (vec![], None, false),
            (vec![2], None, false),
            (vec![2, 5], None, true),
            // Not voters, as far as is known here: they do not count.
            (vec![6, 7, 8], None, false),
            (vec![2, 6, 7, 8], None, false),
            // While this replica was away, the majority that it knows was replaced.
            (vec![6, 7, 8], Some(7), true),
        ] {
            let found = are_enough(1, &voters, &answers(&from, leader));
            assert_eq!(found, enough, "{from:?}, leader {leader:?}");
        }
        assert!(are_enough(1, &[1], &Vec::new()), "a cluster of one has nobody to ask");
    }

    fn says(
        id: ReplicaId,
        at: Option<(u64, u64)>,
        voters: &[ReplicaId],
    ) -> (ReplicaId, pb::StandingResponse) {
        let membership = at.map(|(term, index)| pb::LogId { term, index });
        let voters = voters.iter().map(|id| pb::Voter { id: *id, address: format!("host-{id}") }).collect();
        (id, pb::StandingResponse { membership, voters, ..Default::default() })
    }

    #[test]
    fn who_votes_is_the_newest_membership_that_anybody_knows() {
        let known = (LogPosition { term: 2, index: 7 }, vec![1, 2, 3]);
        for (answers, expected) in [
            (vec![], vec![1, 2, 3]),
            // An older version says nothing.
            (vec![says(4, None, &[])], vec![1, 2, 3]),
            (vec![says(4, Some((2, 5)), &[1, 2])], vec![1, 2, 3]),
            (vec![says(4, Some((4, 9)), &[3, 4, 5])], vec![3, 4, 5]),
            (vec![says(4, Some((4, 9)), &[3, 4, 5]), says(5, Some((4, 8)), &[2, 3, 4])], vec![3, 4, 5]),
        ] {
            assert_eq!(newest(&known, &answers), expected, "{answers:?}");
        }
        // Of the three that vote now, this one and one that answers are a majority. Of those it knew, nobody is left.
        let answers = vec![says(4, Some((4, 9)), &[3, 4, 5])];
        assert!(are_enough(3, &newest(&known, &answers), &answers));
        assert!(!are_enough(3, &known.1, &answers));
    }

    #[test]
    fn whoever_is_named_is_asked_too() {
        let mut others = BTreeMap::from([(2, "two".to_owned())]);
        let (id, answer) = says(2, Some((4, 9)), &[1, 2, 5]);
        let answer = pb::StandingResponse { leader: 4, leader_address: "four".into(), ..answer };
        let answers = vec![(id, answer)];
        assert!(learn(1, &mut others, &answers));
        let asked: Vec<_> = others.iter().map(|(id, address)| (*id, address.as_str())).collect();
        assert_eq!(asked, [(2, "two"), (4, "four"), (5, "host-5")]);
        assert!(!learn(1, &mut others, &answers), "nobody new");
    }

    /// All that were asked once sufficed, although others vote by the newest membership: with an older one in its files a
    /// replica asks only whom that names.
    #[test]
    fn all_that_are_known_are_not_enough_if_they_name_others_that_vote() {
        let known = (LogPosition { term: 2, index: 7 }, vec![1, 2, 3]);
        let mut others = BTreeMap::from([(2, "host-2".to_owned()), (3, "host-3".to_owned())]);
        let from = |ids: &[ReplicaId]| -> Standings {
            ids.iter().map(|id| says(*id, Some((4, 9)), &[1, 2, 4, 5, 6])).collect()
        };
        let mut enough = |ids: &[ReplicaId], waited| suffice(1, &known, &mut others, &from(ids), waited);
        for waited in [false, true] {
            assert!(!enough(&[2, 3], waited), "two of the five that vote");
        }
        assert!(!enough(&[2, 3, 4], false), "the others may answer yet");
        assert!(enough(&[2, 3, 4], true), "three of the five");
        assert!(enough(&[2, 3, 4, 5, 6], false), "all");
        assert_eq!(others.keys().copied().collect::<Vec<_>>(), [2, 3, 4, 5, 6]);
        // Those it has just heard of are asked before, however many have answered.
        let mut others = BTreeMap::from([(2, "host-2".to_owned()), (4, "host-4".to_owned())]);
        assert!(!suffice(1, &known, &mut others, &from(&[2, 4]), true));
        assert!(suffice(1, &known, &mut others, &from(&[2, 4]), true));
    }

    #[test]
    fn asked_are_the_members_by_the_log_and_whoever_the_configuration_names() {
        let named = |ids: &[ReplicaId], host: &str| -> BTreeMap<ReplicaId, String> {
            ids.iter().map(|id| (*id, format!("{host}-{id}"))).collect()
        };
        let (voters, others) = electorate_of(
            1,
            vec![1, 2, 3],
            named(&[2, 3], "log").into_iter().collect(),
            &named(&[1, 3, 7, 8], "file"),
        );
        assert_eq!(voters, [1, 2, 3], "who votes is the log's word");
        let mut expected = named(&[2, 3], "log");
        expected.extend(named(&[7, 8], "file"));
        assert_eq!(others, expected, "and so is where the members are");
        let (voters, others) = electorate_of(1, Vec::new(), Vec::new(), &named(&[1, 2, 3], "file"));
        assert_eq!((voters, others), (vec![1, 2, 3], named(&[2, 3], "file")), "a log that does not say");
    }
}
