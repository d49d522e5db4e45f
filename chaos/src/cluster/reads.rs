//! What a client, or an operator, asks the cluster while replicas come and go.

use super::{CallError, Cluster, ClusterError, WaitError, until};
use mux_proto::mux::v1::{AddInvoiceRequest, AddInvoiceResponse, GetStatusResponse};
use mux_raft::types::NodePubkey;
use parking_lot::Mutex;
use rand::Rng as _;
use std::time::Duration;
use tokio::time::Instant;
use tonic::Code;

/// How long a client tries to get an invoice made, over all replicas.
const ADD_DEADLINE: Duration = Duration::from_secs(30);

/// Before another replica is tried.
const TRY_NEXT: Duration = Duration::from_millis(50);

impl Cluster {
    /// Waits until every replica that runs knows the same leader, and every front node, those of the configurations
    /// at least, has a confirmed session and a height.
    ///
    /// # Errors
    /// [`WaitError`], if that takes longer than `within`; says what was missing.
    pub async fn wait_ready(&mut self, within: Duration) -> Result<(), WaitError> {
        let up: Vec<_> = self
            .replicas
            .iter_mut()
            .filter_map(|replica| replica.is_up().then(|| (replica.name.clone(), replica.client.clone())))
            .collect();
        let fronts = self.lnds.len().saturating_sub(self.options().spare_lnds as usize);
        let missing = Mutex::new(String::new());
        let ready = until("the cluster is ready", within, || {
            let asked = up.iter().map(|(name, client)| async move { (name, client.status().await) });
            let asked = futures::future::join_all(asked);
            let missing = &missing;
            async move {
                let answers = asked.await;
                let found = answers
                    .iter()
                    .find_map(|(name, status)| Some(format!("{name}: {}", lack(status, fronts)?)));
                let found = found.or_else(|| disagreement(&answers));
                match found {
                    None => Some(()),
                    Some(found) => {
                        *missing.lock() = found;
                        None
                    }
                }
            }
        })
        .await;
        ready.map_err(|error| error.because(&missing.lock()))
    }

    /// Which replica leads, by the word of those that are up.
    pub async fn leader(&mut self) -> Option<usize> {
        let mut best: Option<(u64, u64)> = None;
        for status in self.statuses().await {
            if status.leader != 0 && best.is_none_or(|(term, _)| status.term > term) {
                best = Some((status.term, status.leader));
            }
        }
        let (_, leader) = best?;
        let at = self.replicas.iter().position(|replica| replica.id == leader)?;
        self.replicas[at].is_up().then_some(at)
    }

    /// Which replica the log assigns a front node's link to.
    pub async fn owner_of(&mut self, node: NodePubkey) -> Option<usize> {
        let newest = self.statuses().await.into_iter().max_by_key(|status| status.applied_index)?;
        let front = newest.front_nodes.iter().find(|front| front.pub_key.as_ref() == node.0)?;
        self.replicas.iter().position(|replica| replica.id == front.assigned_replica)
    }

    /// What the replicas that answer say about themselves.
    pub async fn statuses(&mut self) -> Vec<GetStatusResponse> {
        let asked = self
            .replicas
            .iter_mut()
            .filter_map(|replica| replica.is_up().then(|| replica.client.clone()))
            .map(|client| async move { client.status().await.ok() });
        futures::future::join_all(asked).await.into_iter().flatten().collect()
    }

    /// A client that makes invoices wherever somebody answers; cheap to clone, unaware of what is up.
    #[must_use]
    pub fn merchant(&self) -> Merchant {
        Merchant { replicas: self.replicas.iter().map(|replica| replica.client.clone()).collect() }
    }
}

fn lack(status: &Result<GetStatusResponse, CallError>, fronts: usize) -> Option<String> {
    let status = match status {
        Ok(status) => status,
        Err(error) => return Some(error.to_string()),
    };
    if status.leader == 0 {
        return Some("no leader".into());
    }
    if status.front_nodes.len() < fronts {
        return Some(format!("{} of {fronts} front nodes known", status.front_nodes.len()));
    }
    status.front_nodes.iter().find_map(|front| {
        let ready = front.assigned_replica != 0 && front.session_confirmed && front.block_height > 0;
        (!ready).then(|| format!("{}: {front:?}", front.alias))
    })
}

fn disagreement(answers: &[(&String, Result<GetStatusResponse, CallError>)]) -> Option<String> {
    let mut leaders: Vec<_> =
        answers.iter().filter_map(|(_, status)| Some(status.as_ref().ok()?.leader)).collect();
    leaders.dedup();
    (leaders.len() > 1).then(|| format!("leaders {leaders:?}"))
}

/// Makes invoices as an application with a list of replicas does: any of them, the next one if it fails, and
/// an idempotency key so that a repeated call makes no second invoice.
#[derive(Clone)]
pub struct Merchant {
    replicas: Vec<super::ReplicaClient>,
}

impl Merchant {
    /// Makes an invoice; returns only when a replica acknowledged it.
    ///
    /// # Errors
    /// [`ClusterError::Call`], if none did within half a minute, or the request is wrong.
    pub async fn add_invoice(
        &self,
        mut request: AddInvoiceRequest,
    ) -> Result<AddInvoiceResponse, ClusterError> {
        if !request.stateless && request.idempotency_key.is_empty() {
            request.idempotency_key = hex::encode(rand::rng().random::<[u8; 16]>());
        }
        let deadline = Instant::now() + ADD_DEADLINE;
        let mut at = rand::rng().random_range(0..self.replicas.len());
        loop {
            match self.replicas[at % self.replicas.len()].add_invoice(request.clone()).await {
                Ok(invoice) => return Ok(invoice),
                Err(error) if error.code() == Some(Code::InvalidArgument) || Instant::now() >= deadline => {
                    return Err(error.into());
                }
                Err(_) => tokio::time::sleep(TRY_NEXT).await,
            }
            at += 1;
        }
    }
}
