use crate::cluster::{Cluster, eventually};
use mux_raft::consensus::{Consensus as _, ProposeError};
use mux_raft::machine::command::NewInvoice;
use mux_raft::machine::model::{InvoiceKind, InvoiceTerms};
use mux_raft::machine::{Command, Reply, RequestId};
use mux_raft::replica::{Replica, SnapshotConfig};
use mux_raft::types::{Msat, PaymentHash, PaymentSecret};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::sleep;

const WRITERS: u64 = 6;

fn hash(number: u64) -> PaymentHash {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    PaymentHash(bytes)
}

fn invoice(number: u64) -> Command {
    Command::AddInvoice(Box::new(NewInvoice {
        hash: hash(number),
        secret: PaymentSecret([9; 32]),
        terms: InvoiceTerms {
            kind: InvoiceKind::Stored,
            amount_msat: Msat(1_000),
            expires_at_ms: 9_000_000_000_000,
            min_final_cltv: 80,
            key_epoch: 0,
        },
        payment_request: "lnbc…".into(),
        description: String::new(),
        description_hash: None,
    }))
}

#[derive(Default)]
struct Shared {
    running: Mutex<Vec<Arc<Replica>>>,
    next: AtomicU64,
    acknowledged: Mutex<BTreeMap<u64, u64>>,
    unknown: AtomicU64,
    done: AtomicBool,
}

/// Adds invoices one after the other, each until it is acknowledged, at any replica.
async fn write(shared: Arc<Shared>, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    while !shared.done.load(Ordering::Relaxed) {
        let number = shared.next.fetch_add(1, Ordering::Relaxed);
        let mut id = [7; 16];
        id[..8].copy_from_slice(&number.to_be_bytes());
        while !shared.done.load(Ordering::Relaxed) {
            let replica = {
                let running = shared.running.lock();
                Arc::clone(&running[random.random_range(0..running.len())])
            };
            match replica.propose(invoice(number), Some(RequestId(id))).await {
                Ok(committed) => {
                    let Reply::InvoiceAdded { add_index } = committed.reply else {
                        panic!("{:?}", committed.reply)
                    };
                    // It reads its own write where it wrote.
                    let here = replica
                        .state()
                        .read(|state| state.invoice(&hash(number)).map(|found| found.add_index));
                    assert_eq!(here, Some(add_index));
                    shared.acknowledged.lock().insert(number, add_index);
                    break;
                }
                Err(ProposeError::Unknown(_)) => drop(shared.unknown.fetch_add(1, Ordering::Relaxed)),
                Err(ProposeError::Unavailable(_) | ProposeError::Fatal(_)) => {
                    sleep(Duration::from_millis(10)).await;
                }
            }
        }
    }
}

/// Does one harmful thing, and undoes it.
async fn harm(cluster: &mut Cluster, shared: &Shared, random: &mut StdRng) {
    let victim = random.random_range(1..=3);
    match random.random_range(0..4) {
        0 => {
            cluster.isolate(victim);
            sleep(Duration::from_millis(random.random_range(200..2_500))).await;
            cluster.links.heal();
        }
        1 => {
            let stopped = cluster.running.remove(&victim).unwrap();
            *shared.running.lock() = cluster.running.values().cloned().collect();
            stopped.shutdown().await;
            drop(stopped);
            sleep(Duration::from_millis(random.random_range(0..1_500))).await;
            cluster.start_one(victim).await;
            *shared.running.lock() = cluster.running.values().cloned().collect();
        }
        2 => {
            let _ = cluster.replica(victim).transfer_leader(None).await;
        }
        _ => {
            // One direction only.
            cluster.links.block(victim, victim % 3 + 1);
            sleep(Duration::from_millis(random.random_range(200..1_500))).await;
            cluster.links.heal();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_is_kept_once_whatever_happens_to_a_minority() {
    let seed: u64 =
        std::env::var("MUX_SEED").map_or_else(|_| rand::rng().random(), |seed| seed.parse().unwrap());
    println!("MUX_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut cluster = Cluster::prepare(3);
    for config in cluster.configs.values_mut() {
        config.snapshot = SnapshotConfig { logs_since_last: 100, keep_logs: 50, purge_batch: 10 };
        config.timing.propose = Duration::from_secs(2);
    }
    cluster.start_all().await;
    cluster.leader().await;
    let shared = Arc::new(Shared::default());
    *shared.running.lock() = cluster.running.values().cloned().collect();
    let writers: Vec<_> =
        (0..WRITERS).map(|number| tokio::spawn(write(Arc::clone(&shared), seed ^ number))).collect();
    for _ in 0..10 {
        harm(&mut cluster, &shared, &mut random).await;
        sleep(Duration::from_millis(random.random_range(0..700))).await;
    }
    cluster.leader().await;
    let so_far = shared.acknowledged.lock().len();
    eventually("writing goes on", || shared.acknowledged.lock().len() > so_far + 20).await;
    shared.done.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    cluster.commit(1).await;
    cluster.converged().await;
    let acknowledged = shared.acknowledged.lock().clone();
    println!("{} acknowledged, {} unknown", acknowledged.len(), shared.unknown.load(Ordering::Relaxed));
    let numbers: BTreeSet<u64> = acknowledged.values().copied().collect();
    assert_eq!(numbers.len(), acknowledged.len(), "each has its own number");
    for replica in cluster.running.values() {
        replica.read_barrier().await.unwrap();
        replica.state().read(|state| {
            for (number, add_index) in &acknowledged {
                let found = state.invoice(&hash(*number)).map(|invoice| invoice.add_index);
                assert_eq!(found, Some(*add_index), "invoice {number}");
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_stays_bounded_while_a_follower_is_gone_and_it_catches_up_afterwards() {
    let mut cluster = Cluster::prepare(3);
    let snapshot = SnapshotConfig { logs_since_last: 100, keep_logs: 50, purge_batch: 10 };
    for config in cluster.configs.values_mut() {
        config.snapshot = snapshot;
    }
    cluster.start_all().await;
    let leader = cluster.leader().await;
    let gone = cluster.configs.keys().copied().find(|id| *id != leader).unwrap();
    cluster.isolate(gone);
    let cut_off = cluster.running.remove(&gone).unwrap();
    let bound = 3 * (snapshot.logs_since_last + snapshot.keep_logs);
    let kept = |cluster: &Cluster| {
        let logs = cluster.running.values().map(|replica| {
            let status = replica.status().borrow().clone();
            status.last_log_index.saturating_sub(status.purged)
        });
        logs.max().unwrap()
    };
    let mut greatest = 0;
    for number in 0..4 * bound {
        let replica = cluster.running.values().next().unwrap();
        while let Err(error) = replica.propose(invoice(number), None).await {
            assert!(!matches!(error, ProposeError::Fatal(_)), "{error}");
        }
        greatest = greatest.max(kept(&cluster));
    }
    println!("at most {greatest} entries of {}", 4 * bound);
    assert!(greatest <= bound, "{greatest} entries");
    cluster.running.insert(gone, cut_off);
    cluster.links.heal();
    cluster.converged().await;
}
