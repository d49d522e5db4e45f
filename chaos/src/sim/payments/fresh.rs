use super::{Payments, UnderWay};
use crate::cluster::ReplicaClient;
use crate::ledger::PaymentEnd;
use crate::payer::{FrontPeer, Patience, Payer, PaymentPlan};
use mux_proto::mux::v1::{AddInvoiceRequest, add_invoice_request::What};
use rand::Rng as _;
use rand::rngs::StdRng;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// In this time something must be paid over each LND node once nothing is wrong any more.
const WITHIN: Duration = Duration::from_secs(60);

/// Before another invoice is asked for.
const TRY_AGAIN: Duration = Duration::from_millis(150);

const AMOUNT_MSAT: u64 = 90_000;

/// For an HTLC that is refused.
const PATIENCE: Patience = Patience {
    attempts_per_part: 12,
    backoff: Duration::from_millis(200),
    backoff_max: Duration::from_secs(1),
    retry_for: Duration::from_secs(20),
    give_up_after: WITHIN,
};

/// Pays over this node an invoice of each of these replicas, one after the other until it is settled. It is under way from
/// the call on.
pub(super) fn pay(
    payments: Payments,
    replicas: Vec<ReplicaClient>,
    peer: Arc<dyn FrontPeer>,
    mut rng: StdRng,
) -> impl Future<Output = ()> {
    let under_way = UnderWay::begin(&payments);
    async move {
        let node = peer.node();
        let payer = Payer::new(vec![peer], Arc::clone(&payments.shared.ledger), PATIENCE, rng.random());
        let mut last = String::from("no invoice yet");
        let settled = async {
            for replica in &replicas {
                while let Err(why) = try_to_pay(&payer, replica).await {
                    last = why;
                    tokio::time::sleep(TRY_AGAIN).await;
                }
            }
        };
        match tokio::time::timeout(WITHIN, settled).await {
            Ok(()) => drop(payments.shared.fresh.fetch_add(1, Ordering::Relaxed)),
            Err(_) => {
                let node = node.short();
                let text =
                    format!("nothing was paid over {node} in {WITHIN:?} after all had converged: {last}");
                payments.shared.problems.lock().push(text);
            }
        }
        drop(under_way);
    }
}

/// Makes an invoice and pays it; or why it is not settled.
async fn try_to_pay(payer: &Payer, replica: &ReplicaClient) -> Result<(), String> {
    let request = AddInvoiceRequest {
        amount_msat: AMOUNT_MSAT,
        what: Some(What::Description("fresh".into())),
        ..AddInvoiceRequest::default()
    };
    let made = replica.add_invoice(request).await.map_err(|error| error.to_string())?;
    let plan = PaymentPlan::new("fresh", made.payment_request, 1);
    let payment = payer.pay(&plan).await.map_err(|error| error.to_string())?;
    let ends = payer.ledger().payment(payment).ends;
    if ends == [PaymentEnd::Settled] { Ok(()) } else { Err(format!("{ends:?}")) }
}

impl Payments {
    /// LND nodes over which something was paid after [`super::PaymentsHost::pay_afresh`].
    #[must_use]
    pub fn paid_afresh(&self) -> usize {
        self.shared.fresh.load(Ordering::Relaxed)
    }
}
