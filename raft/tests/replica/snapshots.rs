use crate::cluster::{Cluster, PATIENCE, command, eventually};
use futures::future::join_all;
use mux_raft::consensus::Consensus as _;
use mux_raft::machine::command::{ChainTip, HtlcOffer};
use mux_raft::machine::model::{FrontNodePolicy, InvoiceKind, InvoiceTerms, Verdict};
use mux_raft::machine::reply::OfferReply;
use mux_raft::machine::{Command, Reply, RequestId};
use mux_raft::replica::SnapshotConfig;
use mux_raft::types::{CircuitKey, Msat, NodePubkey, PaymentSecret, Preimage};
use std::path::PathBuf;
use std::time::Duration;

const NODE: NodePubkey = NodePubkey([3; 33]);

fn frequent(cluster: &mut Cluster) {
    for config in cluster.configs.values_mut() {
        config.snapshot = SnapshotConfig { logs_since_last: 50, keep_logs: 10, purge_batch: 1 };
    }
}

fn snapshot_files(cluster: &Cluster, id: u64) -> Vec<PathBuf> {
    let dir = cluster.configs[&id].data_dir.join("snapshots");
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_lags_behind_the_purged_log_catches_up_by_snapshot() {
    let mut cluster = Cluster::prepare(3);
    frequent(&mut cluster);
    cluster.start_all().await;
    let leader = cluster.leader().await;
    let lagging = cluster.follower().await;
    cluster.commit(lagging).await;
    let behind = cluster.status(lagging).applied;
    cluster.stop(lagging).await;
    for _ in 0..6 {
        join_all((0..50).map(|_| cluster.commit(leader))).await;
    }
    eventually("the leader has a snapshot far ahead", || cluster.status(leader).snapshot > behind + 200)
        .await;
    cluster.start_one(lagging).await;
    cluster.commit(lagging).await;
    // The status follows what it reports a moment later.
    eventually("it came by snapshot", || cluster.status(lagging).snapshot > behind).await;
    cluster.converged().await;
    eventually("one snapshot is kept", || snapshot_files(&cluster, lagging).len() == 1).await;
}

/// One of two parts of a payment of 1000 msat.
fn part(htlc_id: u64) -> HtlcOffer {
    HtlcOffer {
        chan_id: 7,
        htlc_id,
        hash: Preimage([5; 32]).payment_hash(),
        secret: PaymentSecret([6; 32]),
        terms: InvoiceTerms {
            kind: InvoiceKind::Stateless,
            amount_msat: Msat(1_000),
            expires_at_ms: 9_000_000_000_000,
            min_final_cltv: 80,
            key_epoch: 0,
        },
        total_msat: Msat(1_000),
        outgoing_amount_msat: Msat(500),
        incoming_amount_msat: Msat(500),
        outgoing_expiry: 1_080,
        incoming_expiry: 1_160,
        auto_fail_height: 1_141,
        on_chain: false,
    }
}

/// Commits at the leader and returns its answer.
async fn run(cluster: &Cluster, leader: u64, command: Command) -> Reply {
    cluster.ask(leader, command).await
}

/// The link is alive, then LND offers a part.
async fn offer(cluster: &Cluster, leader: u64, htlc_id: u64) -> OfferReply {
    let tip = Some(ChainTip { height: 1_000, hash: [0; 32], synced: true });
    let report = Command::LinkReport { node: NODE, session: 1, tip, inactive_channels: Vec::new() };
    run(cluster, leader, report).await;
    let offers = Command::OfferHtlcs { node: NODE, session: 1, offers: vec![part(htlc_id)] };
    match run(cluster, leader, offers).await {
        Reply::Offers(replies) => replies[0],
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_holds_a_part_learns_by_snapshot_alone_that_it_is_settled() {
    let mut cluster = Cluster::prepare(3);
    frequent(&mut cluster);
    cluster.start_all().await;
    let leader = cluster.leader().await;
    let lagging = cluster.follower().await;
    let policy = FrontNodePolicy { scid: 1, fee_base_msat: 0, fee_ppm: 0, cltv_delta: 80 };
    run(&cluster, leader, Command::PutFrontNode { node: NODE, alias: "a".into(), policy }).await;
    run(&cluster, leader, Command::AssignLink { node: NODE, replica: Some(lagging) }).await;
    let stream = RequestId([1; 16]);
    let up = run(&cluster, leader, Command::LinkUp { node: NODE, replica: lagging, stream }).await;
    assert_eq!(up, Reply::Session(1));
    assert_eq!(offer(&cluster, leader, 0).await, OfferReply::Held);
    let key = CircuitKey { node: NODE, chan_id: 7, htlc_id: 0 };
    let held = || cluster.replica(lagging).state().read(|state| state.htlc(&key).map(|htlc| htlc.verdict));
    eventually("the part is held", || held() == Some(None)).await;
    // Its link goes on waiting while the others decide, and drop the entries that say so.
    let mut watch = cluster.replica(lagging).state().watch();
    cluster.isolate(lagging);
    assert_eq!(offer(&cluster, leader, 1).await, OfferReply::Decided(Verdict::Settle));
    let behind = cluster.status(lagging).applied;
    for _ in 0..6 {
        join_all((0..50).map(|_| cluster.commit(leader))).await;
    }
    // A leader keeps what a follower may still be sent; one that followed until now has dropped it.
    let next = *cluster.running.keys().find(|id| ![leader, lagging].contains(id)).unwrap();
    eventually("a snapshot far ahead", || cluster.status(next).snapshot > behind + 200).await;
    let transfer = || cluster.replica(leader).transfer_leader(Some(next));
    let moved = async {
        while transfer().await.is_err() && !cluster.status(next).leads {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, moved).await.expect("leadership stays");
    assert_eq!(held(), Some(None), "it heard nothing of it");
    let sent = cluster.status(next).snapshot;
    cluster.links.heal();
    let settled = watch.wait_for(|_| held() == Some(Some(Verdict::Settle)));
    tokio::time::timeout(PATIENCE, settled).await.expect("no wake-up brought the verdict").unwrap();
    eventually("it came by snapshot", || cluster.status(lagging).snapshot >= sent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_goes_on_from_snapshot_and_log_to_the_same_state() {
    let mut cluster = Cluster::prepare(1);
    frequent(&mut cluster);
    cluster.start_all().await;
    for _ in 0..4 {
        let under_way = (0..40).map(|_| cluster.replica(1).propose(command(), None));
        for result in join_all(under_way).await {
            result.unwrap();
        }
    }
    eventually("a snapshot", || cluster.status(1).snapshot > 100).await;
    // Nothing but the leader's ticks can follow; stop at a known position.
    let replica = cluster.running.remove(&1).unwrap();
    replica.shutdown().await;
    let before = replica.state().read(|state| (state.applied(), state.chain_hash()));
    // An unfinished snapshot of a crash does not matter.
    std::fs::write(cluster.configs[&1].data_dir.join("snapshots/9.tmp"), b"half").unwrap();
    // Without its peers' votes it stays where its own disk brings it: look before it leads again.
    cluster.start_one(1).await;
    let recovered = cluster.replica(1).state().read(|state| (state.applied(), state.chain_hash()));
    assert!(recovered.0 <= before.0 || recovered.0.term > before.0.term);
    if recovered.0 == before.0 {
        assert_eq!(recovered.1, before.1);
    }
    cluster.commit(1).await;
    assert_eq!(snapshot_files(&cluster, 1).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_snapshot_prevents_the_start() {
    let mut cluster = Cluster::prepare(1);
    frequent(&mut cluster);
    cluster.start_all().await;
    for result in join_all((0..120).map(|_| cluster.replica(1).propose(command(), None))).await {
        result.unwrap();
    }
    eventually("a snapshot", || cluster.status(1).snapshot > 50).await;
    cluster.stop(1).await;
    let path = snapshot_files(&cluster, 1).pop().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() - 10;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = cluster.try_start(1).await.unwrap_err();
    assert!(error.to_string().contains("damaged"), "{error}");
}
