use super::*;
use mux_raft::machine::{Command, Envelope};
use mux_raft::store::{InspectedVote, written};

const NOTHING: [&str; 0] = [];

pub(super) fn at(term: u64, index: LogIndex) -> LogPosition {
    LogPosition { term, index }
}

fn entry_with(term: u64, index: LogIndex, content: &'static str) -> Noted {
    Noted::Entry(Inspected { at: at(term, index), voters: None }, Bytes::from_static(content.as_bytes()))
}

fn entry(term: u64, index: LogIndex) -> Noted {
    entry_with(term, index, "as proposed")
}

fn members(term: u64, index: LogIndex, sets: &[&[ReplicaId]]) -> Noted {
    let voters = Some(sets.iter().map(|set| set.iter().copied().collect()).collect());
    Noted::Entry(Inspected { at: at(term, index), voters }, Bytes::from_static(b"members"))
}

fn vote(term: u64, candidate: ReplicaId, leads: bool) -> Noted {
    Noted::Mark(InspectedMark::Vote(InspectedVote { term, candidate, leads }))
}

fn purged(term: u64, index: LogIndex) -> Noted {
    Noted::Mark(InspectedMark::Purged(Some(at(term, index))))
}

/// Three with these entries, by term and index, each a command at a log time; replaced where a later one stands at the same
/// index.
pub(super) fn durable_commands(entries: impl IntoIterator<Item = ((u64, LogIndex), u64, Command)>) -> Logs {
    let mut logs = Logs::new(3);
    for ((term, index), time_ms, command) in entries {
        let envelope = Envelope { format: command.level(), time_ms, request_id: None, command };
        let bytes = written(at(term, index), Some(envelope)).unwrap().bytes;
        for id in 1..=3 {
            let entry = Noted::Entry(Inspected { at: at(term, index), voters: None }, bytes.clone());
            logs.durable(id, [vote(term, 1, true), entry]);
        }
    }
    assert_eq!(logs.take_problems(), NOTHING);
    logs
}

impl Logs {
    /// Durable at a replica, which is called one more than the place where it is.
    fn durable(&mut self, id: ReplicaId, noted: impl IntoIterator<Item = Noted>) {
        let place = usize::try_from(id).unwrap() - 1;
        let mut disk = std::mem::take(&mut self.disks[place]);
        disk.id = id;
        for noted in noted {
            if let Err(problem) = self.note(&mut disk, noted) {
                self.problems.push(problem);
            }
        }
        self.disks[place] = disk;
    }

    fn hears(&mut self, id: ReplicaId, term: u64, index: LogIndex) -> Vec<String> {
        self.applied(id, at(term, index));
        self.look_at_committed();
        self.take_problems()
    }
}

/// Three that vote, the first of which leads in term 1, and one that may come later. Entries 1 and 2 are committed.
fn cluster() -> Logs {
    let mut logs = Logs::new(4);
    for id in 1..=3 {
        logs.durable(id, [members(0, 0, &[&[1, 2, 3]]), vote(1, 1, true), entry(1, 1)]);
    }
    logs.leads(0, 1);
    logs.durable(1, [entry(1, 2)]);
    logs.durable(3, [entry(1, 2)]);
    assert_eq!(logs.hears(1, 1, 2), NOTHING);
    logs
}

#[test]
fn what_is_committed_is_durable_at_a_quorum_of_those_who_vote() {
    let mut logs = cluster();
    logs.durable(4, [members(0, 0, &[&[1, 2, 3]]), vote(1, 1, true), entry(1, 1), entry(1, 2)]);
    logs.durable(4, [entry(1, 3)]);
    logs.durable(1, [entry(1, 3)]);
    let told = logs.hears(1, 1, 3);
    let expected = "replica 1 says that entry 3 of term 1 is committed, and 3 is durable at [1 (term 1), 4 (term 1)] alone";
    assert_eq!(told, [expected], "one that only learns does not count");
    logs.durable(2, [entry(1, 2), entry(1, 3)]);
    assert_eq!(logs.hears(1, 1, 3), NOTHING);
    // What others committed is another.
    assert_eq!(
        logs.hears(2, 2, 3),
        ["replica 2 says that entry 3 of term 2 is committed, others one of term 1"]
    );
}

#[test]
fn an_entry_is_as_old_as_its_first_copy_and_one_that_was_replaced_does_not_count() {
    let mut logs = cluster();
    logs.now = SimTime::from_ms(10);
    logs.durable(2, [entry(1, 2), entry(1, 3)]);
    logs.now = SimTime::from_ms(20);
    logs.durable(3, [vote(2, 3, true), entry(2, 3)]);
    logs.now = SimTime::from_ms(30);
    logs.durable(1, [vote(2, 3, true), entry(2, 3), entry(2, 4)]);
    logs.durable(3, [entry(2, 4)]);
    assert_eq!(logs.first_durable(3..=4), None, "nobody says that they are committed");
    assert_eq!(logs.hears(3, 2, 4), NOTHING);
    assert_eq!(logs.first_durable(3..=4), Some(SimTime::from_ms(20)));
    assert_eq!(logs.first_durable(4..=4), Some(SimTime::from_ms(30)));
}

#[test]
fn two_sets_must_both_agree_until_both_have_agreed_to_the_second() {
    let joint = || members(1, 3, &[&[1, 2, 3], &[1, 2, 3, 4]]);
    let with_joint = || {
        let mut logs = cluster();
        logs.durable(2, [entry(1, 2)]);
        logs.durable(4, [members(0, 0, &[&[1, 2, 3]]), vote(1, 1, true), entry(1, 1), entry(1, 2)]);
        logs
    };
    let mut logs = with_joint();
    [1, 4].into_iter().for_each(|id| logs.durable(id, [joint()]));
    assert_eq!(logs.hears(1, 1, 3).len(), 1, "two of three and two of four are not enough");
    let mut logs = with_joint();
    [1, 2, 4].into_iter().for_each(|id| logs.durable(id, [joint()]));
    assert_eq!(logs.hears(1, 1, 3), NOTHING);
    [1, 2].into_iter().for_each(|id| logs.durable(id, [entry(1, 4)]));
    assert_eq!(logs.hears(1, 1, 4).len(), 1, "two of four");
    logs.durable(4, [entry(1, 4)]);
    assert_eq!(logs.hears(1, 1, 4), NOTHING);
}

#[test]
fn what_a_lost_disk_had_counts_and_what_its_successor_lacks_is_no_fault() {
    let mut logs = cluster();
    logs.durable(1, [entry(1, 3)]);
    logs.durable(3, [entry(1, 3)]);
    logs.look_at(SimTime::ZERO, 2, 5, vec![LogNews::Wiped]);
    assert_eq!(logs.hears(1, 1, 3), NOTHING);
    assert_eq!(logs.term_of(2), 0);
    assert!(logs.lost.iter().any(|disk| disk.id == 3) && logs.disks[2].id == 5);
}

#[test]
fn logs_that_agree_on_an_entry_agree_on_it_and_on_what_is_before_it() {
    let mut logs = cluster();
    logs.durable(2, [entry_with(1, 2, "as nobody proposed")]);
    assert_eq!(logs.take_problems(), ["entry 2 of term 1 is not what others have there"]);
    let mut logs = cluster();
    [1, 2].into_iter().for_each(|id| logs.durable(id, [vote(2, id, true)]));
    logs.durable(1, [entry(1, 3), entry(2, 4)]);
    logs.durable(2, [entry(1, 2), entry(2, 3), entry(2, 4)]);
    assert_eq!(logs.take_problems(), ["before entry 4 of term 2 stands one of term 2, elsewhere of 1"]);
}

#[test]
fn a_log_has_no_holes_goes_forward_and_keeps_what_is_committed() {
    let problem = |noted: Vec<Noted>| {
        let mut logs = cluster();
        logs.durable(1, noted);
        logs.take_problems()
    };
    let entry_4 = "entry 4 of term 1 ";
    assert_eq!(problem(vec![entry(1, 4)]), [format!("{entry_4}stands after nothing")]);
    assert_eq!(problem(vec![purged(1, 2), entry(1, 3)]), NOTHING);
    assert_eq!(problem(vec![purged(1, 2), entry(1, 2)]).len(), 1, "written after it was purged");
    assert_eq!(problem(vec![purged(1, 2), purged(1, 1)]).len(), 1, "purged backwards");
    assert_eq!(problem(vec![entry(2, 3)]), ["entry 3 of term 2 is durable before the vote of its term"]);
    assert_eq!(
        problem(vec![vote(2, 1, true), entry(2, 3), entry(1, 4)]).len(),
        1,
        "an earlier term after it"
    );
    let not_cut = vec![entry(1, 3), entry(1, 4), vote(2, 1, true), entry(2, 3)];
    assert_eq!(problem(not_cut).len(), 1, "the end of the old tail is still there");
    let cut =
        vec![entry(1, 3), entry(1, 4), vote(2, 1, true), Noted::Deleted(4), Noted::Deleted(3), entry(2, 3)];
    assert_eq!(problem(cut), NOTHING);
    assert_eq!(problem(vec![Noted::Deleted(2)]), ["entry 2 of term 1 is committed, and is deleted"]);
    assert_eq!(problem(vec![purged(1, 2), Noted::Deleted(2), Noted::Deleted(1)]), NOTHING);
    let replaced = problem(vec![vote(2, 1, true), Noted::Deleted(2), Noted::Deleted(1), entry(2, 1)]);
    assert_eq!(
        replaced.last().map(String::as_str),
        Some("entry 1 of term 2 stands where one of term 1 is committed")
    );
}

#[test]
fn a_leader_of_a_term_before_the_commit_may_have_had_another_entry_there() {
    let mut logs = cluster();
    // 1 leads in term 2, alone, and 3 in term 3: it commits what is left of term 1 with an entry of its own.
    logs.durable(3, [entry(1, 3)]);
    logs.durable(1, [vote(2, 1, true), vote(3, 3, true)]);
    [2, 3].into_iter().for_each(|id| logs.durable(id, [vote(3, 3, true)]));
    logs.durable(2, [entry(1, 2), entry(1, 3), entry(3, 4)]);
    logs.durable(3, [entry(3, 4)]);
    assert_eq!(logs.hears(3, 3, 4), NOTHING);
    // What 1 wrote as the leader of term 2 becomes durable late.
    logs.durable(1, [entry(2, 3)]);
    assert_eq!(logs.take_problems(), NOTHING);
    // In a later term everybody who leads has what is committed.
    let later = [Noted::Deleted(3), vote(4, 1, true), entry(4, 3)];
    logs.durable(1, later);
    assert_eq!(logs.take_problems(), ["entry 3 of term 4 stands where one of term 1 is committed"]);
}

#[test]
fn a_mark_that_calls_another_entry_committed_is_noticed() {
    let mut logs = cluster();
    logs.durable(2, [Noted::Mark(InspectedMark::Committed(Some(at(1, 2))))]);
    logs.look_at_committed();
    assert_eq!(logs.take_problems(), NOTHING);
    logs.durable(2, [Noted::Mark(InspectedMark::Committed(Some(at(1, 3))))]);
    logs.look_at_committed();
    assert_eq!(logs.take_problems().len(), 1, "nobody has it");
    logs.durable(2, [purged(0, 2)]);
    logs.look_at_committed();
    assert_eq!(logs.take_problems().len(), 1, "it is of another term");
}

#[test]
fn who_leads_has_what_was_committed_before() {
    let elect = |winner: ReplicaId, voters: [ReplicaId; 2]| {
        let mut logs = cluster();
        voters.into_iter().for_each(|id| logs.durable(id, [vote(2, winner, id == winner)]));
        logs.leads(usize::try_from(winner).unwrap() - 1, 2);
        logs.take_problems()
    };
    assert_eq!(elect(3, [2, 3]), NOTHING);
    let lacks = "replica 2 leads in term 2 without entry 2 of term 1, which is committed";
    assert_eq!(elect(2, [2, 3]), [lacks]);
    assert_eq!(elect(3, [3, 3]), ["replica 3 leads in term 2 by votes that are not durable"]);
    assert_eq!(elect(3, [1, 2]), ["replica 3 leads in term 2, its disk knows of 1"]);
    // Seen late: somebody votes in a later term already.
    let mut logs = cluster();
    logs.durable(2, [vote(2, 2, true)]);
    logs.durable(1, [vote(3, 1, false)]);
    logs.leads(1, 2);
    assert_eq!(logs.take_problems(), NOTHING);
}

#[test]
fn votes_do_not_go_back() {
    let follows = |first: Noted, second: Noted| {
        let mut logs = Logs::new(1);
        logs.durable(1, [first, second]);
        logs.take_problems().is_empty()
    };
    assert!(follows(vote(3, 1, false), vote(4, 2, false)));
    assert!(follows(vote(3, 1, false), vote(3, 2, true)), "another was elected");
    assert!(follows(vote(3, 1, true), vote(3, 1, true)));
    assert!(!follows(vote(3, 1, false), vote(2, 1, false)), "an earlier term");
    assert!(!follows(vote(3, 1, false), vote(3, 2, false)), "two candidates in a term");
    assert!(!follows(vote(3, 1, true), vote(3, 1, false)), "a leader is forgotten");
    assert!(!follows(vote(3, 1, true), vote(3, 2, true)), "two leaders in a term");
}
