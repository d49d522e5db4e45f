use super::*;
use mux_raft::consensus::Member;

/// A follower of term 4 whose log goes from 11 to 40.
fn status() -> RaftStatus {
    RaftStatus {
        term: 4,
        last_log_index: 40,
        committed: 30,
        snapshot: 20,
        purged: 10,
        members: BTreeMap::from([(1, Member::default())]),
        ..RaftStatus::default()
    }
}

fn watch() -> Watch {
    Watch::new(3, Duration::from_secs(1))
}

/// What is wrong once a replica has said one after the other.
fn told(statuses: &[RaftStatus]) -> Vec<String> {
    let (mut watch, mut known) = (watch(), Known::default());
    for status in statuses {
        watch.look_at_status(SimTime::ZERO, (0, 1), status, &mut known);
    }
    watch.into_violations()
}

#[test]
fn a_replica_does_not_go_back_and_its_log_is_in_order() {
    let nothing: [String; 0] = [];
    assert_eq!(told(&[status(), RaftStatus { committed: 40, ..status() }]), nothing);
    assert_eq!(
        told(&[status(), RaftStatus::default()]),
        nothing,
        "a process that has just begun says nothing"
    );
    for (next, wrong) in [
        (RaftStatus { term: 3, ..status() }, "replica 1 went back from term 4 to 3"),
        (RaftStatus { committed: 29, ..status() }, "replica 1 went back from committed 30 to 29"),
        (RaftStatus { snapshot: 19, ..status() }, "replica 1 went back from snapshot 20 to 19"),
        (RaftStatus { purged: 9, ..status() }, "replica 1 went back from purged 10 to 9"),
        (RaftStatus { snapshot: 31, ..status() }, "snapshot 31, committed 30"),
        (RaftStatus { purged: 21, ..status() }, "purged 21, snapshot 20"),
    ] {
        let told = told(&[status(), next]);
        assert!(told.len() == 1 && told[0].contains(wrong), "{wrong}: {told:?}");
    }
}

#[test]
fn a_term_has_one_leader() {
    let leads = |term| RaftStatus { term, leads: true, ..status() };
    let mut watch = watch();
    // The first is nobody whom the disks know, which is told, too.
    watch.look_at_status(SimTime::ZERO, (0, 1), &leads(4), &mut Known::default());
    watch.look_at_status(SimTime::ZERO, (1, 2), &leads(5), &mut Known::default());
    let both =
        |watch: &Watch| watch.violations.iter().filter(|text| text.contains("both lead in term 4")).count();
    assert_eq!(both(&watch), 0);
    watch.look_at_status(SimTime::ZERO, (2, 3), &leads(4), &mut Known::default());
    assert_eq!(both(&watch), 1, "{:?}", watch.violations);
}

#[test]
fn states_after_the_same_entry_are_the_same_and_none_goes_back() {
    let (mut watch, mut first, mut second) = (watch(), Known::default(), Known::default());
    watch.applies(SimTime::ZERO, 1, (7, [7; 32]), &mut first);
    watch.applies(SimTime::ZERO, 2, (7, [7; 32]), &mut second);
    watch.applies(SimTime::ZERO, 1, (8, [8; 32]), &mut first);
    assert!(watch.is_fine());
    watch.applies(SimTime::ZERO, 2, (8, [9; 32]), &mut second);
    watch.applies(SimTime::ZERO, 1, (7, [7; 32]), &mut first);
    assert_eq!(
        watch.into_violations(),
        [
            "at 0.000: replicas 1 and 2 differ after entry 8",
            "at 0.000: replica 1 went back from entry 8 to 7"
        ]
    );
}
