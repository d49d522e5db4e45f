//! The end of a run: everything comes to rest, then both sides' books are taken.

use super::{Cluster, ClusterError, ReplicaClient, until};
use crate::ledger::{ClusterView, InvoiceView, PaymentRecord, ReplicaView};
use futures::{StreamExt as _, stream};
use mux_proto::mux::v1::InvoiceState;
use mux_raft::types::PaymentHash;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::time::Instant;

/// Reads under way at a time, per replica.
const READS: usize = 16;

/// How long a replica may take to answer one read before that is a finding.
const READ_DEADLINE: Duration = Duration::from_secs(20);

/// How long the replicas may take to be seen at one index.
const HASH_DEADLINE: Duration = Duration::from_secs(30);

/// Between two looks at the state hashes; shorter than between two entries of an idle cluster.
const HASH_POLL: Duration = Duration::from_millis(25);

impl Cluster {
    /// Waits until no HTLC and no invoice is under way, then takes the books of all replicas and LND nodes
    /// for every payment of the ledger. What does not come to rest in time is taken as it is: the check will
    /// say so.
    ///
    /// # Errors
    /// [`ClusterError`], if an LND's books cannot be had.
    pub async fn take_books(
        &mut self,
        payments: &[PaymentRecord],
        within: Duration,
    ) -> Result<ClusterView, ClusterError> {
        // Not at rest, or not all there: then that is what the books will show.
        let _ = self.wait_ready(within).await;
        let _ = self.wait_rest(within).await;
        let hashes: BTreeSet<_> = payments
            .iter()
            .filter(|payment| !payment.order.foreign)
            .map(|payment| payment.order.hash)
            .collect();
        let read = self.replicas.iter().map(|replica| read_all(&replica.client, &hashes));
        let read = futures::future::join_all(read).await;
        let seen = self.state_hashes().await;
        let replicas = self
            .replicas
            .iter()
            .zip(read)
            .zip(seen)
            .map(|((replica, (invoices, unread)), state_hashes)| ReplicaView {
                name: replica.name.clone(),
                state_hashes,
                invoices,
                unread,
            })
            .collect();
        let mut lnds = Vec::new();
        for lnd in &self.lnds {
            lnds.push(lnd.books().await?);
        }
        Ok(ClusterView { replicas, lnds })
    }

    async fn wait_rest(&self, within: Duration) -> Result<(), super::WaitError> {
        let client = &self.replicas[0].client;
        until("everything is at rest", within, || async move {
            for lnd in &self.lnds {
                let state = lnd.state().await.ok()?;
                if state.held_htlcs > 0 || state.mailbox_packets > 0 {
                    return None;
                }
            }
            let busy =
                client.list_invoices().await.ok()?.iter().any(|invoice| {
                    matches!(invoice.state(), InvoiceState::Accepted | InvoiceState::Settling)
                });
            (!busy).then_some(())
        })
        .await
    }

    /// Watches all replicas until each was seen at one common applied index.
    async fn state_hashes(&self) -> Vec<BTreeMap<u64, Vec<u8>>> {
        let mut seen = vec![BTreeMap::new(); self.replicas.len()];
        let deadline = Instant::now() + HASH_DEADLINE;
        while Instant::now() < deadline && common(&seen).is_none() {
            let asked = self.replicas.iter().map(|replica| replica.client.status());
            for (seen, status) in seen.iter_mut().zip(futures::future::join_all(asked).await) {
                if let Ok(status) = status {
                    seen.insert(status.applied_index, status.state_hash.to_vec());
                }
            }
            tokio::time::sleep(HASH_POLL).await;
        }
        seen
    }
}

fn common(seen: &[BTreeMap<u64, Vec<u8>>]) -> Option<u64> {
    let (first, others) = seen.split_first()?;
    first.keys().rev().find(|index| others.iter().all(|other| other.contains_key(index))).copied()
}

/// Invoices that are known, and why others could not be read.
pub(crate) type Invoices = (BTreeMap<PaymentHash, InvoiceView>, BTreeMap<PaymentHash, String>);

/// What a replica says of these invoices, by linearizable reads, and of which it gave no answer.
pub(crate) async fn read_all(client: &ReplicaClient, hashes: &BTreeSet<PaymentHash>) -> Invoices {
    let mut reads = stream::iter(hashes.iter().copied())
        .map(|hash| async move { (hash, read(client, hash).await) })
        .buffer_unordered(READS);
    let (mut invoices, mut unread) = Invoices::default();
    while let Some((hash, read)) = reads.next().await {
        match read {
            Ok(Some(invoice)) => {
                invoices.insert(hash, invoice);
            }
            Ok(None) => {}
            Err(reason) => {
                unread.insert(hash, reason);
            }
        }
    }
    (invoices, unread)
}

async fn read(client: &ReplicaClient, hash: PaymentHash) -> Result<Option<InvoiceView>, String> {
    let deadline = Instant::now() + READ_DEADLINE;
    loop {
        match client.invoice(hash).await {
            Ok(invoice) => return Ok(invoice.as_ref().map(InvoiceView::from)),
            Err(error) if Instant::now() >= deadline => return Err(error.to_string()),
            Err(_) => tokio::time::sleep(HASH_POLL).await,
        }
    }
}
