//! Somebody who always pays through one front node, to see for how long nobody can.

use super::Clients;
use crate::{
    ledger::{PaymentEnd, unix_ms},
    payer::{Patience, Payer, PaymentPlan},
};
use mux_proto::mux::v1::{AddInvoiceRequest, add_invoice_request::What};
use mux_raft::types::NodePubkey;
use parking_lot::Mutex;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use std::{sync::Arc, time::Duration};
use tokio::{sync::mpsc, task::JoinSet};

/// Between two of its payments: the grain of what is measured.
const EVERY: Duration = Duration::from_millis(100);

/// Between attempts of one payment.
const ATTEMPT_EVERY: Duration = Duration::from_millis(25);

/// Invoices made ahead: without a leader there may be none to be had.
const AHEAD: usize = 64;

/// Before another replica is asked for an invoice.
const TRY_NEXT: Duration = Duration::from_millis(50);

/// When its payments were settled, Unix milliseconds, in order.
pub(crate) type Beats = Arc<Mutex<Vec<u64>>>;

/// Pays until the round is over.
pub(crate) async fn run(clients: Clients, payer: Payer, front: NodePubkey, beats: Beats, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let (sender, mut invoices) = mpsc::channel(AHEAD);
    let mut minting = JoinSet::new();
    minting.spawn(mint(clients.clone(), sender, StdRng::from_rng(&mut rng)));
    let quick = Patience {
        backoff: ATTEMPT_EVERY,
        backoff_max: ATTEMPT_EVERY,
        attempts_per_part: u32::MAX,
        ..Patience::default()
    };
    let payer = payer.with_patience(quick);
    while !clients.is_over()
        && let Some(invoice) = invoices.recv().await
    {
        let plan = PaymentPlan::new("probe", invoice, 1).stateless().only_through(front);
        if let Ok(id) = payer.pay(&plan).await
            && payer.ledger().payment(id).ends.first() == Some(&PaymentEnd::Settled)
        {
            beats.lock().push(unix_ms());
        }
        tokio::time::sleep(EVERY).await;
    }
}

async fn mint(clients: Clients, sender: mpsc::Sender<String>, mut rng: StdRng) {
    loop {
        let request = AddInvoiceRequest {
            amount_msat: rng.random_range(20_000..50_000),
            what: Some(What::Description("probe".into())),
            stateless: true,
            ..AddInvoiceRequest::default()
        };
        match clients.roster.any(&mut rng).add_invoice(request).await {
            Ok(made) => {
                if sender.send(made.payment_request).await.is_err() {
                    return;
                }
            }
            Err(_) => tokio::time::sleep(TRY_NEXT).await,
        }
    }
}

/// The longest time between two settled payments of which some lies in this stretch: when it began, and when it ended. `None`:
/// it was never paid before or never after.
pub(crate) fn longest_wait(beats: &[u64], from_ms: u64, to_ms: u64) -> Option<(u64, u64)> {
    let pairs = beats.windows(2).filter(|pair| pair[0] <= to_ms && pair[1] >= from_ms);
    pairs.map(|pair| (pair[0], pair[1])).max_by_key(|(began_ms, ended_ms)| ended_ms - began_ms)
}

#[cfg(test)]
mod tests {
    use super::longest_wait;

    #[test]
    fn a_wait_counts_if_some_of_it_lies_in_the_stretch() {
        let beats = [100, 110, 900, 950, 2_000];
        assert_eq!(longest_wait(&beats, 105, 120), Some((110, 900)));
        assert_eq!(longest_wait(&beats, 910, 940), Some((900, 950)));
        assert_eq!(longest_wait(&beats, 120, 960), Some((950, 2_000)));
        assert_eq!(longest_wait(&beats, 2_100, 2_200), None);
    }
}
