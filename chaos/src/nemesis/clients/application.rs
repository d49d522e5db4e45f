//! The application of a cluster that does not settle by itself: it hears of a set that is accepted, and settles it,
//! at once or after a while, or cancels the invoice.

use super::{Clients, Deed};
use mux_raft::types::PaymentHash;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use std::time::Duration;
use tokio::{sync::mpsc, task::JoinSet};

/// Sets that are dealt with at a time.
const AT_A_TIME: usize = 64;

/// Longest time that it thinks about one.
const THINKS_MAX: Duration = Duration::from_secs(3);

/// Deals with accepted sets for ever. Whether any are left over to it is the cluster's setting; for invoices of the
/// history it also tries where the cluster settles by itself, and must be refused or agreed with.
pub(crate) async fn run(clients: Clients, mut accepted: mpsc::Receiver<PaymentHash>, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut dealt = JoinSet::new();
    while let Some(hash) = accepted.recv().await {
        if clients.auto_settle && !clients.known.lock().contains(&hash) {
            continue;
        }
        while dealt.len() >= AT_A_TIME {
            dealt.join_next().await;
        }
        dealt.spawn(deal_with(clients.clone(), hash, StdRng::from_rng(&mut rng)));
        while dealt.try_join_next().is_some() {}
    }
}

async fn deal_with(clients: Clients, hash: PaymentHash, mut rng: StdRng) {
    let known = clients.known.lock().contains(&hash);
    // Whatever is not in the history is settled: its payer's expectation says so.
    let deed = if known && rng.random_bool(0.15) { Deed::Cancel } else { Deed::Settle };
    if known && rng.random_bool(0.3) {
        tokio::time::sleep(THINKS_MAX.mul_f64(rng.random())).await;
    }
    // What is not dealt with in time is given back, and the payer tries again.
    clients.insist(hash, deed, &mut rng).await;
}
