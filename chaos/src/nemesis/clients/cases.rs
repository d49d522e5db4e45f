//! Invoices whose whole history is written down: made, looked up at all replicas, paid once or twice, settled and
//! cancelled in flight.

use super::{Clients, Deed, Heard, TRY_AGAIN, TRY_FOR, heard};
use crate::{
    check::invoice::{Action, Outcome},
    ledger::Expectation,
    payer::{Payer, PaymentPlan},
};
use mux_proto::mux::v1::{AddInvoiceRequest, AddInvoiceResponse, add_invoice_request::What};
use mux_raft::types::PaymentHash;
use parking_lot::Mutex;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use std::{sync::Arc, time::Duration};
use tokio::{task::JoinSet, time::Instant};

/// Clients that look an invoice up.
const LOOKERS: usize = 2;

/// Longest time between two looks of one of them.
const LOOK_EVERY_MAX: Duration = Duration::from_millis(700);

/// More looks of one of them would make the search for an order long, and tell no more.
const LOOKS_MAX: usize = 25;

/// Looks after the end, each at any replica: nothing moves any more.
const LAST_LOOKS: usize = 2;

/// What happens to an invoice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Script {
    /// Paid in so many parts.
    Pay(usize),
    /// Two payers pay it at once.
    PayTwice,
    /// Paid, and cancelled at some time meanwhile.
    CancelInFlight,
    /// Cancelled, then paid.
    PayCanceled,
}

impl Script {
    fn draw(rng: &mut StdRng) -> Self {
        match rng.random_range(0..10) {
            0..=2 => Self::Pay(1),
            3..=4 => Self::Pay(3),
            5..=6 => Self::PayTwice,
            7..=8 => Self::CancelInFlight,
            _ => Self::PayCanceled,
        }
    }
}

/// Calls that were repeated with their idempotency key, and were not answered as before.
pub(crate) type Doubles = Arc<Mutex<Vec<String>>>;

/// One case after the other until the round is over.
pub(crate) async fn run(clients: Clients, payer: Payer, doubles: Doubles, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    while !clients.is_over() {
        let case = Case { clients: &clients, payer: &payer, doubles: &doubles };
        case.once(&mut rng).await;
    }
}

struct Case<'a> {
    clients: &'a Clients,
    payer: &'a Payer,
    doubles: &'a Doubles,
}

impl Case<'_> {
    async fn once(&self, rng: &mut StdRng) {
        let script = Script::draw(rng);
        let Some((invoice, hash)) = self.add(rng).await else { return };
        let mut lookers = JoinSet::new();
        for _ in 0..LOOKERS {
            lookers.spawn(look(self.clients.clone(), hash, StdRng::from_rng(rng)));
        }
        self.play(script, &invoice, hash, rng).await;
        lookers.shutdown().await;
        for _ in 0..LAST_LOOKS {
            let client = self.clients.roster.any(rng);
            // A look without an answer tells nothing.
            let _ = self.clients.look(&client, hash).await;
        }
    }

    async fn play(&self, script: Script, invoice: &AddInvoiceResponse, hash: PaymentHash, rng: &mut StdRng) {
        // In none of them it is certain that the application does not cancel.
        let plan = |label: &str, parts| {
            PaymentPlan::new(label, invoice.payment_request.clone(), parts).expecting(Expectation::Any)
        };
        let soon = Duration::from_millis(rng.random_range(0..1_500));
        let mut other = StdRng::from_rng(rng);
        match script {
            Script::Pay(parts) => self.pay(&plan("history", parts)).await,
            Script::PayTwice => {
                // In one part each: parts of two payers could make up one set.
                let (one, two) = (plan("history, first of two", 1), plan("history, second of two", 1));
                tokio::join!(self.pay(&one), async {
                    tokio::time::sleep(soon / 8).await;
                    self.pay(&two).await;
                });
            }
            Script::CancelInFlight => {
                let slow = plan("history, cancelled in flight", 3).slowly(soon / 2);
                tokio::join!(self.pay(&slow), async {
                    tokio::time::sleep(soon).await;
                    self.clients.insist(hash, Deed::Cancel, &mut other).await;
                });
            }
            Script::PayCanceled => {
                let certain = self.clients.insist(hash, Deed::Cancel, &mut other).await;
                let expect = if certain { Expectation::Fail } else { Expectation::Any };
                self.pay(&plan("history, cancelled before", 1).expecting(expect)).await;
            }
        }
    }

    async fn pay(&self, plan: &PaymentPlan) {
        // An invoice without a hint that can be used is possible; then nothing is paid.
        let _ = self.payer.pay(plan).await;
    }

    /// Makes an invoice at one replica after the other, with one key; and asks for it once more.
    async fn add(&self, rng: &mut StdRng) -> Option<(AddInvoiceResponse, PaymentHash)> {
        let request = AddInvoiceRequest {
            amount_msat: rng.random_range(20_000..2_000_000),
            what: Some(What::Description("nemesis".into())),
            idempotency_key: hex::encode(rng.random::<[u8; 16]>()),
            ..AddInvoiceRequest::default()
        };
        let since = self.clients.history.moment();
        let deadline = Instant::now() + TRY_FOR;
        let made = loop {
            let result = self.clients.roster.any(rng).add_invoice(request.clone()).await;
            match result {
                Ok(made) => break made,
                Err(_) if Instant::now() >= deadline => return None,
                Err(_) => tokio::time::sleep(TRY_AGAIN).await,
            }
        };
        let hash = PaymentHash::try_from(made.hash.as_ref()).ok()?;
        self.clients.history.answered(hash, Action::Add, since, Outcome::Done);
        self.clients.known.lock().insert(hash);
        let again = self.clients.roster.any(rng).add_invoice(request).await;
        match (heard(&again), again) {
            (Heard::Done, Ok(again)) if again.hash == made.hash => {}
            (Heard::Nothing | Heard::Unknown, _) => {}
            (_, again) => self.doubles.lock().push(format!("{hash}: asked again, {again:?}")),
        }
        Some((made, hash))
    }
}

/// Looks at any replica, again and again, until it is ended.
async fn look(clients: Clients, hash: PaymentHash, mut rng: StdRng) {
    for _ in 0..LOOKS_MAX {
        let client = clients.roster.any(&mut rng);
        // A look without an answer tells nothing.
        let _ = clients.look(&client, hash).await;
        tokio::time::sleep(LOOK_EVERY_MAX.mul_f64(rng.random())).await;
    }
}
