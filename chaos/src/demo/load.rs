//! Who is paid and how: stored and stateless invoices, with and without amount, one part and several, and
//! payers that do not do what the invoice says.

use super::DemoError;
use crate::{
    cluster::{Cluster, ClusterError, Merchant, ReplicaClient, until},
    ledger::{Expectation, Ledger, PaymentEnd},
    payer::{Deviation, FrontPeer, Patience, Payer, PaymentPlan},
};
use mux_proto::{
    lndsim::v1::OpenChannelRequest,
    mux::v1::{AddInvoiceRequest, AddInvoiceResponse, add_invoice_request::What},
};
use mux_raft::types::{NodePubkey, PaymentHash};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use std::{sync::Arc, time::Duration};
use tonic::Code;

/// Size of the channels over which forwards leave the front nodes, all money on the node's side.
const FORWARD_CHANNEL_SAT: i64 = 100_000_000;

/// Shortest life of an invoice.
const SHORT_EXPIRY_SECS: u64 = 1;

/// How often such an invoice is tried to be had.
const SHORT_LIVED_TRIES: u32 = 20;

/// How long log time may take to pass the expiry of a short-lived invoice.
const LOG_TIME_DEADLINE: Duration = Duration::from_secs(60);

/// Between attempts of a payer that waits for one front node: the grain of what is measured.
const INSIST_EVERY: Duration = Duration::from_millis(20);

/// One payment of the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// An honest payment.
    Pay {
        /// Of an invoice that was stored before it was handed out.
        stored: bool,
        /// The payer chooses the amount.
        open_amount: bool,
        /// HTLCs at first.
        parts: usize,
    },
    /// A payer that does not do what the invoice says.
    Cheat(Deviation),
    /// A forward that is none of the cluster's business.
    Forward,
}

/// Gives a job for every number, so that any stretch of the load has something of everything.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    /// Only honest payments and forwards.
    pub honest: bool,
}

impl Mix {
    const CHEATS: [Deviation; 9] = [
        Deviation::WrongSecret,
        Deviation::TooLittle,
        Deviation::UnknownHash,
        Deviation::Expired,
        Deviation::AlreadyPaid,
        Deviation::Canceled,
        Deviation::Underfunded,
        Deviation::TooMuch,
        Deviation::TooSoon,
    ];

    /// The job with this number.
    #[must_use]
    pub fn job(self, number: usize) -> Job {
        let pay = |stored, open_amount, parts| Job::Pay { stored, open_amount, parts };
        match number % 10 {
            0 | 6 => pay(true, false, 2),
            1 => pay(true, false, 1),
            2 => pay(false, false, 1),
            3 => pay(true, false, 4),
            4 => pay(true, true, 2),
            5 => pay(false, false, 3),
            7 if !self.honest => Job::Cheat(Self::CHEATS[number / 10 % Self::CHEATS.len()]),
            8 => pay(false, true, 1),
            _ => pay(true, false, 1),
        }
    }
}

/// Carries jobs out against a cluster. Cheap to clone.
#[derive(Clone)]
pub struct Load {
    payer: Payer,
    merchant: Merchant,
    /// For cancelling: any replica will do.
    replicas: Vec<ReplicaClient>,
    /// By LND: a channel over which forwards leave.
    forward_channels: Vec<u64>,
    rng: Arc<parking_lot::Mutex<StdRng>>,
}

impl Load {
    /// Opens the forwards' channels and connects the payer.
    ///
    /// # Errors
    /// [`DemoError`], if an LND does not take a channel.
    pub async fn new(
        cluster: &Cluster,
        ledger: Arc<Ledger>,
        patience: Patience,
        seed: u64,
    ) -> Result<Self, DemoError> {
        let mut forward_channels = Vec::new();
        for lnd in &cluster.lnds {
            let request = OpenChannelRequest {
                capacity_sat: FORWARD_CHANNEL_SAT,
                local_sat: FORWARD_CHANNEL_SAT,
                ..OpenChannelRequest::default()
            };
            let opened = lnd.control().open_channel(request).await;
            let opened = opened.map_err(|status| DemoError::Missing(format!("{}: {status}", lnd.alias)))?;
            forward_channels.push(opened.into_inner().chan_id);
        }
        let peers = cluster.lnds.iter().map(|lnd| lnd.peer.clone() as Arc<dyn FrontPeer>).collect();
        Ok(Self {
            payer: Payer::new(peers, ledger, patience, seed),
            merchant: cluster.merchant(),
            replicas: cluster.replicas.iter().map(|replica| replica.client.clone()).collect(),
            forward_channels,
            rng: Arc::new(parking_lot::Mutex::new(StdRng::seed_from_u64(seed ^ 0x10ad))),
        })
    }

    /// The payer.
    #[must_use]
    pub fn payer(&self) -> &Payer {
        &self.payer
    }

    /// Carries one job out, to its end.
    ///
    /// # Errors
    /// [`DemoError`], if no invoice could be had; a payment that fails is no error.
    pub async fn run(&self, job: Job) -> Result<(), DemoError> {
        match job {
            Job::Pay { stored, open_amount, parts } => self.pay(stored, open_amount, parts).await,
            Job::Cheat(deviation) => self.cheat(deviation).await,
            Job::Forward => {
                let peer = self.rng.lock().random_range(0..self.forward_channels.len());
                self.forward_through(peer).await;
                Ok(())
            }
        }
    }

    /// Sends a forward through this LND, and waits until it passed (or failed for good).
    pub async fn forward_through(&self, lnd: usize) {
        let amount = self.rng.lock().random_range(10_000..1_000_000);
        self.payer.pay_foreign(lnd, self.forward_channels[lnd], amount).await;
    }

    /// Makes an invoice.
    ///
    /// # Errors
    /// [`DemoError`], if no replica made one within half a minute.
    pub async fn invoice(
        &self,
        amount_msat: u64,
        stored: bool,
        expiry_secs: u64,
    ) -> Result<AddInvoiceResponse, DemoError> {
        let request = AddInvoiceRequest {
            amount_msat,
            what: Some(What::Description("demo".into())),
            expiry_secs,
            stateless: !stored,
            ..AddInvoiceRequest::default()
        };
        Ok(self.merchant.add_invoice(request).await?)
    }

    fn amount(&self) -> u64 {
        self.rng.lock().random_range(20_000..5_000_000)
    }

    async fn pay(&self, stored: bool, open_amount: bool, parts: usize) -> Result<(), DemoError> {
        let amount = self.amount();
        let invoice = self.invoice(if open_amount { 0 } else { amount }, stored, 0).await?;
        let label = format!(
            "{}, {}, {parts} part{}",
            if stored { "stored" } else { "stateless" },
            if open_amount { "any amount" } else { "fixed amount" },
            if parts == 1 { "" } else { "s" },
        );
        let mut plan = PaymentPlan::new(label, invoice.payment_request, parts);
        plan.stored = stored;
        plan.amount_msat = open_amount.then_some(amount);
        self.payer.pay(&plan).await?;
        Ok(())
    }

    /// Pays one part through one front node, and tries again quickly until it is through: somebody is always
    /// waiting there.
    ///
    /// # Errors
    /// [`DemoError`], if the invoice is no use.
    pub async fn insist(&self, invoice: AddInvoiceResponse, front: NodePubkey) -> Result<(), DemoError> {
        let plan = PaymentPlan::new("stored, one way only", invoice.payment_request, 1).only_through(front);
        let quick = Patience {
            backoff: INSIST_EVERY,
            backoff_max: INSIST_EVERY,
            attempts_per_part: u32::MAX,
            ..Patience::default()
        };
        self.payer.with_patience(quick).pay(&plan).await?;
        Ok(())
    }

    async fn cheat(&self, deviation: Deviation) -> Result<(), DemoError> {
        let invoice = match deviation {
            Deviation::Expired => self.short_lived_invoice().await?,
            _ => self.invoice(self.amount(), true, 0).await?,
        };
        let honest = PaymentPlan::new("paid once", invoice.payment_request.clone(), 1);
        let mut expect = None;
        match deviation {
            Deviation::Expired => self.wait_log_time(invoice.expires_at_ms).await?,
            Deviation::AlreadyPaid => {
                let first = self.payer.pay(&honest).await?;
                // If the first payer did not get through in time, the second one may.
                if self.payer.ledger().payment(first).ends != [PaymentEnd::Settled] {
                    expect = Some(Expectation::Any);
                }
            }
            Deviation::Canceled => self.cancel(&invoice).await?,
            _ => {}
        }
        let mut plan = PaymentPlan::new(format!("bad: {deviation:?}"), invoice.payment_request, 1);
        plan.deviation = deviation;
        plan.expect = expect;
        self.payer.pay(&plan).await?;
        Ok(())
    }

    async fn cancel(&self, invoice: &AddInvoiceResponse) -> Result<(), DemoError> {
        let hash = PaymentHash::try_from(invoice.hash.as_ref())
            .map_err(|error| DemoError::Missing(format!("hash of an invoice: {error}")))?;
        let mut last = None;
        // A replica may be down, or the cluster without a leader for a moment.
        for at in 0..self.replicas.len() * 20 {
            match self.replicas[at % self.replicas.len()].cancel(hash, &invoice.payment_request).await {
                Ok(()) => return Ok(()),
                Err(error) => last = Some(error),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err(DemoError::Missing(format!("could not cancel an invoice: {last:?}")))
    }

    /// While a leader is elected an invoice may expire before it is made; then another one is.
    async fn short_lived_invoice(&self) -> Result<AddInvoiceResponse, DemoError> {
        let mut tries_left = SHORT_LIVED_TRIES;
        loop {
            tries_left -= 1;
            match self.invoice(self.amount(), true, SHORT_EXPIRY_SECS).await {
                Err(DemoError::Cluster(ClusterError::Call(error)))
                    if error.code() == Some(Code::InvalidArgument) && tries_left > 0 => {}
                made => return made,
            }
        }
    }

    /// Waits until the cluster's own time has passed a moment: expiry goes by log time, which lags behind the
    /// clock after a time without quorum.
    async fn wait_log_time(&self, time_ms: u64) -> Result<(), DemoError> {
        let passed = until("log time passes an invoice's expiry", LOG_TIME_DEADLINE, || async {
            let asked = self.replicas.iter().map(ReplicaClient::status);
            let answers = futures::future::join_all(asked).await;
            let newest = answers.into_iter().flatten().map(|status| status.log_time_ms).max();
            newest.is_some_and(|log_time_ms| log_time_ms > time_ms).then_some(())
        });
        passed.await.map_err(|error| ClusterError::from(error).into())
    }
}
