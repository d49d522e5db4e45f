//! A replica whose state differs from the others' does not go on.

use crate::cluster::{Cluster, PATIENCE, eventually};
use crate::invoices::{add_until, cancel, hash, raise};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use mux_raft::consensus::Consensus as _;
use mux_raft::machine::model::{Invoice, InvoiceState};
use mux_raft::machine::{State, level};
use mux_raft::members::MemberChange;
use mux_raft::types::{Msat, PaymentHash};
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Log time that does not come.
const NEVER_MS: u64 = 9_000_000_000_000;

/// Changes the state of a replica behind its back, as broken memory would: these bytes of it become those.
fn replace(state: &mut State, from: &[u8], to: &[u8]) {
    let mut bytes = state.encode_snapshot();
    let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
    bytes.splice(at..at + from.len(), to.iter().copied());
    bytes.truncate(bytes.len() - 4);
    bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
    *state = State::decode_snapshot(&bytes).unwrap();
}

/// Changes the rolling hash itself.
fn damage(cluster: &Cluster, id: u64) {
    cluster.replica(id).cell().write(|state| {
        let hash = state.chain_hash();
        let mut damaged = hash;
        damaged[0] ^= 1;
        replace(state, &hash, &damaged);
    });
}

/// Changes an invoice, and nothing else.
fn alter(cluster: &Cluster, id: u64, hash: PaymentHash, change: impl FnOnce(&mut Invoice)) {
    cluster.replica(id).cell().write(|state| {
        let sound = state.invoice(&hash).unwrap().clone();
        let mut other = sound.clone();
        change(&mut other);
        replace(state, &postcard::to_stdvec(&sound).unwrap(), &postcard::to_stdvec(&other).unwrap());
        assert!(*state.invoice(&hash).unwrap() == other && other != sound);
    });
}

/// What is logged on this thread. All replicas of a test on a runtime of one thread are heard.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn listen(&self) -> tracing::subscriber::DefaultGuard {
        let lines = self.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || lines.clone()).finish();
        tracing::subscriber::set_default(subscriber)
    }

    /// Those with this in it.
    fn with(&self, words: &str) -> Vec<String> {
        let lines = self.0.lock();
        let lines = String::from_utf8_lossy(&lines);
        lines.lines().filter(|line| line.contains(words)).map(ToOwned::to_owned).collect()
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the leader shows of a peer.
fn differs(metrics: &PrometheusHandle, peer: u64) -> Option<f64> {
    let series = format!("mux_state_differs{{peer=\"{peer}\"}} ");
    metrics.render().lines().find_map(|line| line.strip_prefix(&series)?.parse().ok())
}

async fn stops(cluster: &Cluster, id: u64) -> String {
    tokio::time::timeout(PATIENCE, cluster.replica(id).stopped()).await.expect("it goes on")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_differs_stops_and_the_others_go_on() {
    let mut cluster = Cluster::start(3).await;
    let follower = cluster.follower().await;
    cluster.commit(follower).await;
    damage(&cluster, follower);
    let leader = cluster.leader().await;
    cluster.commit(leader).await;
    let reason = stops(&cluster, follower).await;
    assert!(reason.contains("that of the leader") && reason.contains("under a new id"), "{reason}");
    cluster.stop(follower).await;
    cluster.commit(leader).await;
    cluster.converged().await;
    // What it has on disk was never touched: it agrees when it has read it again.
    cluster.start_one(follower).await;
    cluster.commit(follower).await;
    cluster.converged().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_differs_from_all_others_is_the_one_to_stop() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    cluster.commit(leader).await;
    damage(&cluster, leader);
    cluster.commit(leader).await;
    let reason = stops(&cluster, leader).await;
    assert!(reason.contains("that of a majority"), "{reason}");
    cluster.stop(leader).await;
    let next = cluster.leader().await;
    cluster.commit(next).await;
    cluster.converged().await;
    assert!(cluster.running.values().all(|replica| replica.status().borrow().fatal.is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_nothing_that_differs_goes_on() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    let silent = (1..=3).find(|id| ![leader, follower].contains(id)).unwrap();
    cluster.commit(leader).await;
    cluster.stop(silent).await;
    damage(&cluster, follower);
    cluster.commit(leader).await;
    stops(&cluster, follower).await;
    eventually("no quorum is left", || !cluster.status(leader).quorum).await;
}

const TOLD_TO_STOP: &str = "the state of this replica differs from the leader's: it is told to stop";
const STOPS: &str = "the replica stops: it cannot go on safely";

/// The archive's hash, which is part of the state's, covers all of an invoice.
#[tokio::test]
async fn an_invoice_that_differs_on_a_follower_is_found_when_an_entry_finishes_it_and_not_before() {
    let (lines, recorder) = (Lines::default(), PrometheusBuilder::new().build_recorder());
    let (_log, metrics) = (lines.listen(), recorder.handle());
    let _metrics = metrics::set_default_local_recorder(&recorder);
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    raise(&cluster, leader).await;
    add_until(&cluster, leader, 1, 100, NEVER_MS).await.unwrap();
    cluster.converged().await;
    let follower = cluster.follower().await;
    let third = (1..=3).find(|id| ![leader, follower].contains(id)).unwrap();
    alter(&cluster, follower, hash(1), |invoice| invoice.terms.amount_msat = Msat(1_001));

    // Entries that have nothing to do with it give the same replies and events: the hashes are the same.
    add_until(&cluster, leader, 2, 100, NEVER_MS).await.unwrap();
    cluster.commit(follower).await;
    cluster.converged().await;
    let amount_of = |id| {
        let found = cluster.replica(id).state().find_invoice(&hash(1)).unwrap().unwrap();
        found.invoice.terms.amount_msat
    };
    assert_eq!((amount_of(leader), amount_of(follower)), (Msat(1_000), Msat(1_001)));
    assert_eq!((lines.with(STOPS), lines.with(TOLD_TO_STOP)), (vec![], vec![]));

    cancel(&cluster, leader, 1).await.unwrap();
    let reason = stops(&cluster, follower).await;
    assert!(reason.contains("that of the leader") && reason.contains("under a new id"), "{reason}");
    let told = lines.with(TOLD_TO_STOP);
    assert!(!told.is_empty() && told.iter().all(|line| line.contains(&format!("replica={follower} "))));
    let stopped = lines.with(STOPS);
    assert_eq!(stopped.len(), 1, "{stopped:?}");
    assert!(stopped[0].contains(&reason), "{stopped:?}");
    assert_eq!((differs(&metrics, follower), differs(&metrics, third)), (Some(1.0), Some(0.0)));

    // The others go on; who leads next has judged nobody, and the alarm ends.
    cluster.stop(follower).await;
    let leader = cluster.leader().await;
    cluster.commit(leader).await;
    cluster.converged().await;
    let transferred = async {
        while cluster.replica(leader).transfer_leader(None).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, transferred).await.unwrap();
    eventually("the former leader shows nothing", || differs(&metrics, follower) == Some(0.0)).await;

    // What its state made is in its archive, but not in the log: here a restart is no way out.
    let refused = cluster.try_start(follower).await.unwrap_err().to_string();
    assert!(refused.contains("record 0 is another one") && refused.contains("under a new id"), "{refused}");
}

#[tokio::test]
async fn the_alarm_about_a_replica_that_differs_ends_when_it_is_removed() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    let _metrics = metrics::set_default_local_recorder(&recorder);
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    damage(&cluster, follower);
    cluster.commit(leader).await;
    stops(&cluster, follower).await;
    assert_eq!(differs(&metrics, follower), Some(1.0));
    cluster.stop(follower).await;
    let leader = cluster.leader().await;
    let remove = MemberChange::Remove { id: follower, force: false };
    cluster.replica(leader).change_members(remove).await.unwrap();
    eventually("nobody differs", || differs(&metrics, follower) == Some(0.0)).await;
}

/// Before there is an archive, replies and events are all that the hash covers.
#[tokio::test]
async fn an_invoice_that_differs_on_the_leader_is_found_by_what_it_answers_and_the_leader_stops() {
    let lines = Lines::default();
    let _log = lines.listen();
    let mut cluster = Cluster::prepare(3);
    cluster.levels = (1..=3).map(|id| (id, level::FIRST)).collect();
    cluster.start_all().await;
    let leader = cluster.leader().await;
    add_until(&cluster, leader, 1, 100, NEVER_MS).await.unwrap();
    cluster.converged().await;
    alter(&cluster, leader, hash(1), |invoice| invoice.state = InvoiceState::Expired);
    cluster.commit(leader).await;
    cluster.converged().await;

    // It would say that the invoice has expired, the others cancel it.
    cancel(&cluster, leader, 1).await.unwrap();
    let reason = stops(&cluster, leader).await;
    assert!(reason.contains("that of a majority") && reason.contains("under a new id"), "{reason}");
    assert_eq!(lines.with(TOLD_TO_STOP), Vec::<String>::new(), "it is nobody else's fault");
    let stopped = lines.with(STOPS);
    assert!(stopped.len() == 1 && stopped[0].contains(&reason), "{stopped:?}");
    cluster.stop(leader).await;
    let next = cluster.leader().await;
    cluster.commit(next).await;
    cluster.converged().await;
    for replica in cluster.running.values() {
        let found = replica.state().find_invoice(&hash(1)).unwrap().unwrap();
        assert_eq!(found.invoice.state, InvoiceState::Canceled);
    }
    cluster.start_one(leader).await;
    cluster.commit(leader).await;
    cluster.converged().await;
    assert_eq!(lines.with(STOPS).len(), 1);
}
