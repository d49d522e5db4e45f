//! A whole replica on the data directory that is made from a backup.

use crate::cluster::{Cluster, PATIENCE, eventually};
use mux_raft::backup::{BackupFrames, BackupLabel, Restoration, RestorePlan, restore_new_cluster};
use mux_raft::consensus::Consensus as _;
use mux_raft::machine::command::NewInvoice;
use mux_raft::machine::model::{InvoiceKind, InvoiceState, InvoiceTerms};
use mux_raft::machine::{Command, Reply};
use mux_raft::types::{Msat, PaymentHash, PaymentSecret};
use std::path::PathBuf;

/// Makes the data directory from which replica 1 begins a new cluster.
pub(crate) fn restore(cluster: &mut Cluster, backup: PathBuf, void_open: bool) -> Restoration {
    let config = cluster.configs.get_mut(&1).unwrap();
    config.cluster_id = [0xee; 32];
    config.data_dir = config.data_dir.with_extension("restored");
    let plan = RestorePlan {
        backup,
        data_dir: config.data_dir.clone(),
        cluster_id: config.cluster_id,
        replica: 1,
        address: config.listen.to_string(),
        void_open,
    };
    restore_new_cluster(&plan).unwrap()
}

/// A restored replica that voted in term 1 with a last entry of a later one stopped at its first election.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_later_term_becomes_a_cluster_that_elects_a_leader_and_commits() {
    let mut cluster = Cluster::start(1).await;
    for _ in 0..3 {
        cluster.commit(1).await;
        cluster.stop(1).await;
        cluster.start_one(1).await;
    }
    let terms = InvoiceTerms {
        kind: InvoiceKind::Stored,
        amount_msat: Msat(1_000),
        expires_at_ms: u64::MAX,
        min_final_cltv: 80,
        key_epoch: 0,
    };
    let open = NewInvoice {
        hash: PaymentHash([7; 32]),
        secret: PaymentSecret([1; 32]),
        terms,
        payment_request: "lnbc1".into(),
        description: String::new(),
        description_hash: None,
    };
    let added = cluster.replica(1).propose(Command::AddInvoice(Box::new(open)), None).await.unwrap().reply;
    assert!(matches!(added, Reply::InvoiceAdded { .. }), "{added:?}");
    let last = cluster.commit(1).await.at;
    assert!(last.term > 2, "every start is an election: {}", last.term);
    let backup = cluster.dir.path().join("backup");
    let frames = BackupFrames::of(cluster.replica(1).state(), [0xc1; 32], BackupLabel::default(), 1, 0);
    std::fs::write(&backup, frames.map(Result::unwrap).collect::<Vec<_>>().concat()).unwrap();
    cluster.stop(1).await;

    let restoration = restore(&mut cluster, backup, true);
    assert_eq!((restoration.open, restoration.voided), (0, 1));

    cluster.start_one(1).await;
    eventually("it leads", || cluster.status(1).leads).await;
    let first = tokio::time::timeout(PATIENCE, cluster.commit(1)).await.unwrap().at;
    assert!(first.term > last.term && first.index > last.index, "{first:?} after {last:?}");
    let voided = cluster.replica(1).state().find_invoice(&PaymentHash([7; 32])).unwrap().unwrap();
    assert_eq!(voided.invoice.state, InvoiceState::Canceled);
    cluster.stop(1).await;
    cluster.start_one(1).await;
    cluster.commit(1).await;
}
