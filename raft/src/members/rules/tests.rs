use super::*;

/// Voters 1..=count of which these do not answer, and the learner 9.
fn list(count: u64, silent: &[u64]) -> MemberList {
    let view = |id, voter| MemberView {
        id,
        address: format!("h{id}:1"),
        voter,
        matched: Some(90),
        lag: Some(10),
        reachable: !silent.contains(&id),
        ..MemberView::default()
    };
    let mut members: Vec<_> = (1..=count).map(|id| view(id, true)).collect();
    members.push(view(9, false));
    MemberList { members, retired: BTreeSet::from([7]) }
}

fn add(id: u64, address: &str) -> MemberChange {
    MemberChange::AddLearner { id, address: address.into() }
}

fn remove(id: u64) -> MemberChange {
    MemberChange::Remove { id, force: false }
}

fn refused(list: &MemberList, change: &MemberChange) -> (RefusalKind, String) {
    let Refusal { kind, text } = judge(list, change).unwrap_err();
    (kind, text)
}

#[test]
fn every_refusal_says_what_to_do() {
    let healthy = list(3, &[]);
    let mut behind = list(3, &[]);
    behind.members[3].lag = Some(2_500);
    let mut empty = list(3, &[]);
    empty.members[3].lag = None;
    for (list, change, kind, text) in [
        (&healthy, add(0, "h:1"), RefusalKind::Invalid, "a member needs an id from 1 on"),
        (&healthy, add(4, "h"), RefusalKind::Invalid, "and the host:port of its Raft listener"),
        (&healthy, add(4, "h:0"), RefusalKind::Invalid, "and the host:port of its Raft listener"),
        (
            &healthy,
            add(2, "new:1"),
            RefusalKind::Exists,
            "is a member already, at h2:1; give the new one another id, such as 10",
        ),
        (
            &healthy,
            add(7, "new:1"),
            RefusalKind::Exists,
            "replica 7 was removed, and an id never comes back; give the new one another id, such as 10",
        ),
        (&healthy, add(10, "h2:1"), RefusalKind::Exists, "h2:1 is the address of replica 2"),
        (
            &healthy,
            MemberChange::Promote { id: 5 },
            RefusalKind::NotFound,
            "add it first: muxcli member add 5 HOST:PORT",
        ),
        (
            &behind,
            MemberChange::Promote { id: 9 },
            RefusalKind::NotYet,
            "replica 9 is 2500 entries behind; wait until it is at most 100 behind",
        ),
        (&empty, MemberChange::Promote { id: 9 }, RefusalKind::NotYet, "replica 9 has no log yet"),
        (
            &list(3, &[9]),
            MemberChange::Promote { id: 9 },
            RefusalKind::NotYet,
            "replica 9 does not answer at h9:1",
        ),
        (&healthy, remove(5), RefusalKind::NotFound, "replica 5 is not a member"),
        (&list(1, &[]), remove(1), RefusalKind::Impossible, "replica 1 is the last voter"),
        (
            &healthy,
            remove(3),
            RefusalKind::NeedsForce,
            "2 of 2 voters answer, 2 are needed: the next failure stops the cluster; add another replica first, or repeat with --force",
        ),
        (&list(5, &[5]), remove(1), RefusalKind::NeedsForce, "3 of 4 voters answer, 3 are needed"),
        (&list(4, &[4]), remove(1), RefusalKind::NeedsForce, "2 of 3 voters answer, 2 are needed"),
        (&list(2, &[]), remove(1), RefusalKind::NeedsForce, "1 of 1 voters answer"),
        (
            &list(3, &[3]),
            remove(2),
            RefusalKind::Impossible,
            "(1 of 2 voters answer, 2 are needed), and without one the change itself cannot be made, not even with --force; first bring back, or remove, replica 3",
        ),
    ] {
        let (seen, said) = refused(list, &change);
        assert!(seen == kind && said.contains(text), "{change:?}: {seen:?}: {said}");
    }
}

#[test]
fn force_takes_the_last_spare_but_never_the_quorum() {
    let force = |id| MemberChange::Remove { id, force: true };
    let warnings = judge(&list(3, &[]), &force(3)).unwrap().unwrap();
    assert!(warnings[0].contains("the next failure stops the cluster"), "{warnings:?}");
    assert!(warnings[1].contains("2 voters survive no more failures than 1"), "{warnings:?}");
    assert_eq!(refused(&list(3, &[3]), &force(2)).0, RefusalKind::Impossible);
    assert_eq!(refused(&list(1, &[]), &force(1)).0, RefusalKind::Impossible);
}

#[test]
fn a_dead_voter_can_be_replaced_in_either_order_without_force() {
    let warnings = judge(&list(3, &[3]), &remove(3)).unwrap().unwrap();
    assert!(warnings[0].contains("2 of 2 voters answer"), "{warnings:?}");
    let warnings = judge(&list(3, &[3]), &MemberChange::Promote { id: 9 }).unwrap().unwrap();
    assert!(warnings[0].contains("3 of 4 voters answer, 3 are needed"), "{warnings:?}");
    assert!(judge(&list(4, &[3]), &remove(3)).unwrap().unwrap().is_empty());
}

#[test]
fn growing_and_shrinking_healthy_clusters_needs_no_force_down_to_three() {
    for (voters, warned) in [(2, false), (3, true), (4, false), (5, true)] {
        let warnings = judge(&list(voters, &[]), &MemberChange::Promote { id: 9 }).unwrap().unwrap();
        assert_eq!(!warnings.is_empty(), warned, "{voters}: {warnings:?}");
    }
    for (voters, warned) in [(5, true), (4, false)] {
        let warnings = judge(&list(voters, &[]), &remove(2)).unwrap().unwrap();
        assert_eq!(!warnings.is_empty(), warned, "{voters}: {warnings:?}");
    }
    assert_eq!(judge(&list(3, &[]), &remove(9)), Ok(Some(Vec::new())), "a learner is no loss");
}

#[test]
fn what_was_done_before_is_no_failure() {
    let list = list(3, &[]);
    for change in [add(2, "h2:1"), MemberChange::Promote { id: 2 }, remove(7)] {
        assert_eq!(judge(&list, &change), Ok(None), "{change:?}");
    }
}

#[test]
fn a_drain_that_stops_the_cluster_needs_force() {
    let drain = |list: &MemberList, id, force| judge_drain(&list.members, id, force);
    let warnings = drain(&list(3, &[]), 2, false).unwrap();
    assert!(
        warnings[0].contains("2 of 3 voters answer, 2 are needed: until replica 2 is back"),
        "{warnings:?}"
    );
    assert_eq!(drain(&list(5, &[]), 2, false), Ok(Vec::new()));
    assert_eq!(drain(&list(3, &[3]), 9, false), Ok(Vec::new()), "a learner is no loss");
    let refused = drain(&list(3, &[3]), 2, false).unwrap_err();
    assert_eq!(refused.kind, RefusalKind::NeedsForce);
    for part in
        ["no quorum (1 of 3 voters answer, 2 are needed)", "bring back, or remove, replica 3", "--force"]
    {
        assert!(refused.text.contains(part), "{}", refused.text);
    }
    assert!(drain(&list(3, &[3]), 2, true).unwrap()[0].contains("no payment is decided"));
    assert!(drain(&list(1, &[]), 1, false).is_err());
}

#[test]
fn who_drains_already_does_not_count_as_staying() {
    let mut draining = list(3, &[]);
    draining.members[1].leaving = true;
    let refusal = judge_drain(&draining.members, 3, false).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::NeedsForce, "{}", refusal.text);
    assert!(refusal.text.contains("wait until replica 2, which drains, is back"), "{}", refusal.text);
    assert!(judge_drain(&list(3, &[]).members, 3, false).is_ok());
}
