use crate::cluster::{Cluster, PATIENCE, eventually};
use crate::invoices::{add_and_cancel, hash, key, listed, pay, raise, replay, run};
use mux_raft::consensus::Consensus as _;
use mux_raft::machine::model::{InvoiceState, Verdict};
use mux_raft::machine::reply::OfferReply;
use mux_raft::machine::{ArchiveTip, Command, Reply};
use mux_raft::replica::SnapshotConfig;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) const HOUR_MS: i64 = 3_600_000;

pub(crate) fn frequent(cluster: &mut Cluster) {
    for config in cluster.configs.values_mut() {
        config.snapshot = SnapshotConfig { logs_since_last: 50, keep_logs: 10, purge_batch: 1 };
    }
}

pub(crate) fn tip(cluster: &Cluster, id: u64) -> ArchiveTip {
    cluster.replica(id).state().read(|state| *state.archive_tip())
}

fn end(cluster: &Cluster, id: u64) -> u64 {
    cluster.replica(id).state().archive().end().unwrap().0
}

fn fetched(cluster: &Cluster, id: u64) -> u64 {
    cluster.replica(id).archive_records_fetched()
}

/// Commits until a snapshot at each of these covers all that is archived and the log before it is gone; says how
/// many records that is.
pub(crate) async fn only_in_snapshots(cluster: &Cluster, ids: impl IntoIterator<Item = u64>) -> u64 {
    let ids: Vec<u64> = ids.into_iter().collect();
    let started = Instant::now();
    let mut commit = cluster.commit(ids[0]).await;
    let upto = commit.at.index;
    while ids.iter().any(|id| cluster.status(*id).purged < upto) {
        assert!(started.elapsed() < PATIENCE, "no snapshots");
        commit = cluster.commit(ids[0]).await;
    }
    println!("entry {upto} is purged; the log ends with {}", commit.at.index);
    tip(cluster, ids[0]).next
}

fn archive_dir(cluster: &Cluster, id: u64) -> PathBuf {
    cluster.configs[&id].data_dir.join("archive")
}

/// Three founders, and a fourth that is not started yet.
async fn three_and_one() -> (Cluster, u64) {
    let mut cluster = Cluster::prepare(4);
    frequent(&mut cluster);
    for config in cluster.configs.values_mut() {
        config.initial_members.remove(&4);
    }
    for id in 1..=3 {
        cluster.start_one(id).await;
    }
    let leader = cluster.leader().await;
    raise(&cluster, leader).await;
    (cluster, leader)
}

/// Adds the fourth, however long it takes: the leader may have lost its office in between.
async fn join(cluster: &Cluster, leader: u64) {
    cluster.join(leader, 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_replica_gets_the_archive_of_the_others_and_answers_from_it() {
    let (mut cluster, leader) = three_and_one().await;
    pay(&cluster, leader, 0..3_000).await;
    let all = only_in_snapshots(&cluster, 1..=3).await;
    assert!(all >= 3_000);
    cluster.start_one(4).await;
    join(&cluster, leader).await;
    cluster.commit(leader).await;
    cluster.converged().await;
    assert_eq!(tip(&cluster, 4), tip(&cluster, leader));
    assert_eq!(fetched(&cluster, 4), all);
    assert!((1..=3).all(|id| fetched(&cluster, id) == 0), "the founders made theirs themselves");
    let archives = [4, leader].map(|id| cluster.replica(id).state().archive().end().unwrap());
    assert_eq!(archives[0], archives[1]);
    assert_eq!(listed(&cluster, 4), listed(&cluster, leader));
    let found = cluster.replica(4).state().find_invoice(&hash(1_234)).unwrap().unwrap();
    assert_eq!((found.invoice.state, found.htlcs.len()), (InvoiceState::Settled, 1));
    let htlc = cluster.replica(4).state().find_htlc(&key(2_999)).unwrap().unwrap();
    assert_eq!(htlc.verdict, Some(Verdict::Settle));
    let events = cluster.replica(4).state().list_events(0, usize::MAX).unwrap();
    let last = cluster.replica(4).state().read(|state| state.event_sequence());
    assert!(events.iter().map(|event| event.sequence).eq(1..=last), "events without a gap");
    assert_eq!(replay(&cluster, leader, 77).await, OfferReply::Decided(Verdict::Settle));
    cluster.converged().await;
}

/// Four hundred invoices that are long enough for several chunks of a transfer, which stays open after the first.
async fn a_transfer_held_open() -> (Cluster, u64, u64) {
    let (mut cluster, leader) = three_and_one().await;
    add_and_cancel(&cluster, leader, 0..400, 20_000).await;
    let all = only_in_snapshots(&cluster, 1..=3).await;
    cluster.links.hold_transfers(4);
    cluster.start_one(4).await;
    (cluster, leader, all)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_that_breaks_off_goes_on_where_it_was_also_after_a_restart() {
    let (mut cluster, leader, all) = a_transfer_held_open().await;
    let replica = Arc::clone(&cluster.running[&4]);
    // Gives up when the replica that joins is cut off.
    let joining = async { tokio::time::timeout(PATIENCE, join(&cluster, leader)).await.ok() };
    let cutting = eventually("some of it is here", || replica.archive_records_fetched() > 0);
    tokio::select! {
        _ = joining => panic!("it was not held"),
        () = cutting => {}
    }
    drop(replica);
    cluster.isolate(4);
    // A second source may have been asked meanwhile, but not for what is here.
    let (here, came) = (end(&cluster, 4), fetched(&cluster, 4));
    println!("{here} of {all} were here when the link was cut");
    assert!(here > 0 && here < all);
    assert_eq!(came, here);
    assert_eq!(tip(&cluster, 4).next, 0, "nothing of it is seen yet");
    assert_eq!(listed(&cluster, 4), Vec::new());
    cluster.stop(4).await;
    cluster.start_one(4).await;
    assert_eq!(end(&cluster, 4), here, "what is here stays");
    cluster.links.heal();
    join(&cluster, leader).await;
    cluster.commit(leader).await;
    cluster.converged().await;
    assert_eq!(listed(&cluster, 4).len(), 400);
    assert_eq!(end(&cluster, 4), end(&cluster, leader));
    assert_eq!(fetched(&cluster, 4), all - here, "since the start: the rest, and nothing twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_go_on_while_a_newcomer_fetches_the_archive() {
    let (cluster, leader, all) = a_transfer_held_open().await;
    let commits = async {
        eventually("it has begun", || fetched(&cluster, 4) > 0).await;
        for _ in 0..100 {
            cluster.commit(leader).await;
        }
        assert!(fetched(&cluster, 4) < all, "and has not ended");
        assert_eq!(tip(&cluster, 4).next, 0);
        cluster.links.heal();
    };
    let both = async { tokio::join!(commits, join(&cluster, leader)) };
    tokio::time::timeout(PATIENCE * 2, both).await.expect("commits do not wait for it");
    cluster.commit(leader).await;
    cluster.converged().await;
    assert_eq!(fetched(&cluster, 4), all);
    assert_eq!(listed(&cluster, 4).len(), 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_archive_gets_through_although_the_senders_patience_is_short() {
    let (mut cluster, leader) = three_and_one().await;
    add_and_cancel(&cluster, leader, 0..1_200, 20_000).await;
    let all = tip(&cluster, leader).next;
    // Whoever leads sends with the patience it was started with: each try brings a little.
    for id in 1..=3 {
        cluster.stop(id).await;
        cluster.configs.get_mut(&id).unwrap().timing.install_snapshot = Duration::from_millis(60);
    }
    for id in 1..=3 {
        cluster.start_one(id).await;
    }
    let leader = cluster.leader().await;
    cluster.start_one(4).await;
    join(&cluster, leader).await;
    cluster.commit(leader).await;
    cluster.converged().await;
    assert!(tip(&cluster, 4).next >= all);
    assert_eq!(listed(&cluster, 4).len(), 1_200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_lags_fetches_only_what_it_lacks() {
    let (mut cluster, leader) = three_and_one().await;
    pay(&cluster, leader, 0..500).await;
    cluster.commit(leader).await;
    cluster.converged().await;
    let lagging = leader % 3 + 1;
    let others: Vec<u64> = (1..=3).filter(|id| *id != lagging).collect();
    let (had, log_end) = (end(&cluster, lagging), cluster.status(lagging).last_log_index);
    cluster.stop(lagging).await;
    assert!(had >= 500);
    pay(&cluster, leader, 500..1_500).await;
    let all = only_in_snapshots(&cluster, others.iter().copied()).await;
    assert!(others.iter().all(|id| cluster.status(*id).purged > log_end), "the log has not what it lacks");
    cluster.start_one(lagging).await;
    cluster.commit(lagging).await;
    cluster.converged().await;
    assert_eq!(fetched(&cluster, lagging), all - had);
    assert_eq!(listed(&cluster, lagging), listed(&cluster, leader));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_forgotten_leaves_the_disk_and_who_comes_later_starts_after_it() {
    let (mut cluster, leader) = three_and_one().await;
    add_and_cancel(&cluster, leader, 0..600, 100).await;
    let keep = Command::SetRetention { keep_finished_ms: Some(3_600_000) };
    assert_eq!(run(&cluster, leader, keep).await, Reply::Done);
    let first = || tip(&cluster, leader).first;
    assert_eq!(first(), 0);
    for clock in cluster.clocks.values() {
        clock.set_offset_ms(4 * HOUR_MS);
    }
    eventually("it is forgotten", || first() >= 600).await;
    let leader = cluster.leader().await;
    // Not before a snapshot says so.
    add_and_cancel(&cluster, leader, 600..700, 100).await;
    for id in 1..=3 {
        let archive = Arc::clone(cluster.replica(id).state().archive());
        eventually("it is deleted", || archive.record(0).is_err() && archive.record(500).is_err()).await;
    }
    assert!(listed(&cluster, leader).iter().all(|found| found.invoice.add_index > 600));
    cluster.start_one(4).await;
    join(&cluster, leader).await;
    cluster.commit(leader).await;
    cluster.converged().await;
    assert_eq!(listed(&cluster, 4), listed(&cluster, leader));
    assert_eq!(listed(&cluster, 4).len(), 100);
    // It goes on, and starts again, like the others.
    add_and_cancel(&cluster, leader, 700..800, 100).await;
    cluster.stop(4).await;
    cluster.start_one(4).await;
    cluster.commit(4).await;
    cluster.converged().await;
    assert_eq!(listed(&cluster, 4).len(), 200);
}

/// One replica with a snapshot that names records, stopped.
async fn stopped_with_an_archive() -> Cluster {
    let mut cluster = Cluster::prepare(1);
    frequent(&mut cluster);
    cluster.start_all().await;
    cluster.leader().await;
    raise(&cluster, 1).await;
    pay(&cluster, 1, 0..600).await;
    let applied = cluster.status(1).applied;
    cluster.commit(1).await;
    eventually("a snapshot", || cluster.status(1).snapshot + 50 >= applied).await;
    cluster.stop(1).await;
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_finds_what_is_archived() {
    let mut cluster = stopped_with_an_archive().await;
    cluster.start_one(1).await;
    cluster.leader().await;
    cluster.commit(1).await;
    assert_eq!(listed(&cluster, 1).len(), 600);
    assert_eq!(tip(&cluster, 1).next, end(&cluster, 1));
    let htlc = cluster.replica(1).state().find_htlc(&key(599)).unwrap().unwrap();
    assert_eq!(htlc.verdict, Some(Verdict::Settle));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_archive_prevents_the_start_and_the_message_says_what_to_do() {
    let mut cluster = stopped_with_an_archive().await;
    std::fs::remove_dir_all(archive_dir(&cluster, 1)).unwrap();
    let error = cluster.try_start(1).await.unwrap_err().to_string();
    assert!(error.contains("ends before record 0") && error.contains("join again under a new id"), "{error}");
    let again = cluster.try_start(1).await.unwrap_err().to_string();
    assert_eq!(again, error, "and everything is released for the next try");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_of_another_history_prevents_the_start() {
    let mut cluster = stopped_with_an_archive().await;
    let mut other = stopped_with_an_archive().await;
    other.start_one(1).await;
    pay(&other, 1, 600..1_200).await;
    other.stop(1).await;
    std::fs::remove_dir_all(archive_dir(&cluster, 1)).unwrap();
    std::fs::rename(archive_dir(&other, 1), archive_dir(&cluster, 1)).unwrap();
    let error = cluster.try_start(1).await.unwrap_err().to_string();
    assert!(error.contains("not those of the state"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_archive_prevents_the_start() {
    let mut cluster = stopped_with_an_archive().await;
    let file = archive_dir(&cluster, 1).join("records.redb");
    std::fs::write(file, b"not an archive at all").unwrap();
    let error = cluster.try_start(1).await.unwrap_err().to_string();
    assert!(error.contains("archive") && error.contains("cannot be used"), "{error}");
}
