use super::kind::Kind;
use super::{Payments, UnderWay};
use crate::check::invoice::{Action, Outcome};
use crate::ledger::{Expectation, PaymentEnd};
use crate::nemesis::clients::{Clients, Deed};
use crate::payer::{Deviation, Payer, PaymentPlan};
use crate::sim::lnd;
use mux_proto::mux::v1::{AddInvoiceRequest, AddInvoiceResponse, add_invoice_request::What};
use mux_raft::types::PaymentHash;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use std::ops::Range;
use std::time::Duration;
use tokio::time::Instant;

const AMOUNT_MSAT: Range<u64> = 20_000..2_000_000;

/// The chance of an invoice that may be paid in any amount to be one that names none.
const OPEN: f64 = 0.1;

/// How long an application tries to get an invoice.
const TRY_FOR: Duration = Duration::from_secs(15);
const TRY_AGAIN: Duration = Duration::from_millis(150);

/// Of an invoice that shall expire.
const SHORT_S: u64 = 2;

/// Looks at an invoice with a history, and between two.
const LOOKS: usize = 6;
const LOOK_EVERY: Duration = Duration::from_millis(900);

/// How long log time may take to pass the end of an invoice.
const EXPIRES_WITHIN: Duration = Duration::from_secs(30);

/// Makes payments. Clones share everything.
#[derive(Clone)]
pub(super) struct Player {
    payments: Payments,
    clients: Clients,
    payer: Payer,
}

impl Player {
    pub(super) fn new(payments: Payments, clients: Clients, payer: Payer) -> Self {
        Self { payments, clients, payer }
    }

    pub(super) fn pause(&self) -> Duration {
        Duration::from_millis(self.payments.shared.plan.pause_ms)
    }

    pub(super) fn is_over(&self) -> bool {
        self.clients.is_over()
    }

    pub(super) fn under_way(&self) -> usize {
        self.payments.under_way()
    }

    /// Begins one payment, as a task.
    pub(super) fn begin(&self, rng: &mut StdRng) {
        let kind = Kind::draw(&self.payments.shared.plan.mix, rng);
        let (this, rng) = (self.clone(), StdRng::from_rng(rng));
        let under_way = UnderWay::begin(&self.payments);
        tokio::spawn(async move {
            Box::pin(this.play(kind, rng)).await;
            drop(under_way);
        });
    }

    async fn play(&self, kind: Kind, mut rng: StdRng) {
        let rng = &mut rng;
        if kind == Kind::Forward {
            let peer = rng.random_range(0..self.payer.peers().len());
            self.payer.pay_foreign(peer, lnd::FORWARD_CHANNEL, rng.random_range(AMOUNT_MSAT)).await;
            return;
        }
        let amount = rng.random_range(AMOUNT_MSAT);
        let expiry_secs = if kind == Kind::Expired { SHORT_S } else { 0 };
        let stateless = matches!(kind, Kind::Stateless(_));
        // Whoever pays says how much.
        let open = matches!(kind, Kind::Pay(_) | Kind::Stateless(_)) && rng.random_bool(OPEN);
        let request = AddInvoiceRequest {
            amount_msat: if open { 0 } else { amount },
            what: Some(What::Description("simulated".into())),
            expiry_secs,
            stateless,
            idempotency_key: if stateless { String::new() } else { hex::encode(rng.random::<[u8; 16]>()) },
            ..AddInvoiceRequest::default()
        };
        let Some((invoice, hash)) = self.add(request, kind.has_history(), rng).await else { return };
        let watching = kind.has_history().then(|| {
            let (clients, rng) = (self.clients.clone(), StdRng::from_rng(rng));
            tokio::spawn(look(clients, hash, rng))
        });
        self.pay_as(kind, (&invoice, hash), (amount, open), rng).await;
        if let Some(watching) = watching {
            // A look that panics is found elsewhere.
            let _ = watching.await;
        }
    }

    async fn pay_as(
        &self,
        kind: Kind,
        (invoice, hash): (&AddInvoiceResponse, PaymentHash),
        (amount, open): (u64, bool),
        rng: &mut StdRng,
    ) {
        let plan = |label: &str, parts| PaymentPlan::new(label, invoice.payment_request.clone(), parts);
        let soon = Duration::from_millis(rng.random_range(0..1_500));
        match kind {
            Kind::Pay(parts) => {
                let label = if open { "any amount" } else { "stored" };
                self.pay(&plan(label, parts).of(amount).slowly(soon / 8)).await;
            }
            Kind::TwoPhase(parts) => self.pay(&plan("two-phase", parts).expecting(Expectation::Any)).await,
            Kind::Stateless(parts) => self.pay(&plan("stateless", parts).of(amount).stateless()).await,
            Kind::Overpaid => {
                let more = amount + rng.random_range(1..amount);
                self.pay(&plan("overpaid", 1 + usize::from(more.is_multiple_of(2))).of(more)).await;
            }
            Kind::Twice => {
                // In one part each: parts of two payers could make up one set.
                let either = |label| plan(label, 1).expecting(Expectation::Any);
                let (one, other) = (either("first of two"), either("second of two"));
                tokio::join!(self.pay(&one), async {
                    tokio::time::sleep(soon / 8).await;
                    self.pay(&other).await;
                });
            }
            Kind::Again => {
                let Ok(first) = self.payer.pay(&plan("paid once", 1)).await else { return };
                let paid = self.payer.ledger().payment(first).ends == [PaymentEnd::Settled];
                let mut again = plan("paid again", 1).deviating(Deviation::AlreadyPaid);
                // If the first payer did not get through in time, the second one may.
                again.expect = (!paid).then_some(Expectation::Any);
                self.pay(&again).await;
            }
            Kind::Probe(deviation) => {
                let parts = if deviation == Deviation::Incomplete { 3 } else { 1 };
                let mut bad = plan("probe", parts).deviating(deviation);
                if deviation == Deviation::Incomplete {
                    // A block deadline or an LND node may be quicker than the timeout.
                    bad.expect = Some(Expectation::Fail);
                }
                if deviation == Deviation::TooSoon && self.payments.shared.plan.blocks_jump {
                    bad.expect = Some(Expectation::Any);
                }
                if deviation == Deviation::Canceled && !self.clients.insist(hash, Deed::Cancel, rng).await {
                    bad.expect = Some(Expectation::Any);
                }
                self.pay(&bad).await;
            }
            Kind::Expired => {
                let certain = self.passes(invoice.expires_at_ms, rng).await;
                let mut late = plan("expired", 1).deviating(Deviation::Expired);
                late.expect = (!certain).then_some(Expectation::Any);
                self.pay(&late).await;
            }
            Kind::Canceled => {
                let slow = plan("cancelled in flight", 3).slowly(soon / 2).expecting(Expectation::Any);
                let mut other = StdRng::from_rng(rng);
                tokio::join!(self.pay(&slow), async {
                    tokio::time::sleep(soon).await;
                    self.clients.insist(hash, Deed::Cancel, &mut other).await;
                });
            }
            Kind::Forward => {}
        }
    }

    async fn pay(&self, plan: &PaymentPlan) {
        // An invoice without a hint that can be used is possible; then nothing is paid.
        let _ = self.payer.pay(plan).await;
    }

    /// Makes an invoice at one replica after the other, with one key.
    async fn add(
        &self,
        request: AddInvoiceRequest,
        has_history: bool,
        rng: &mut StdRng,
    ) -> Option<(AddInvoiceResponse, PaymentHash)> {
        let since = self.clients.history.moment();
        let deadline = Instant::now() + TRY_FOR;
        let made = loop {
            match self.clients.roster.any(rng).add_invoice(request.clone()).await {
                Ok(made) => break made,
                Err(_) if Instant::now() >= deadline => return None,
                Err(_) => tokio::time::sleep(TRY_AGAIN).await,
            }
        };
        let hash = PaymentHash::try_from(made.hash.as_ref()).ok()?;
        if has_history {
            self.clients.history.answered(hash, Action::Add, since, Outcome::Done);
            self.clients.known.lock().insert(hash);
            if rng.random_bool(0.3)
                && let Ok(again) = self.clients.roster.any(rng).add_invoice(request).await
                && again.hash != made.hash
            {
                let text = format!("invoice {hash}: asked again with the same key, it is another one");
                self.payments.shared.problems.lock().push(text);
            }
        }
        Some((made, hash))
    }

    /// Waits until the cluster's own time has passed a moment. False: nobody knows.
    async fn passes(&self, log_time_ms: u64, rng: &mut StdRng) -> bool {
        let deadline = Instant::now() + EXPIRES_WITHIN;
        while Instant::now() < deadline {
            if let Ok(status) = self.clients.roster.any(rng).status().await
                && status.log_time_ms > log_time_ms
            {
                return true;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        false
    }
}

/// Looks at an invoice, at any replica.
async fn look(clients: Clients, hash: PaymentHash, mut rng: StdRng) {
    for _ in 0..LOOKS {
        let client = clients.roster.any(&mut rng);
        // A look without an answer tells nothing.
        let _ = clients.look(&client, hash).await;
        tokio::time::sleep(LOOK_EVERY.mul_f64(rng.random_range(0.2..2.0))).await;
    }
}
