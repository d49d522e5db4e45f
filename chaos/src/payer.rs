//! A simulated payer: real onions, several hints, retries as real payers do them, and a ledger.
//!
//! It parses a BOLT 11 invoice, splits the amount, sends each part through one of the hints' front nodes and
//! reacts to failures as LND's and LDK's payers do: temporary failures are tried again over another hint,
//! `mpp_timeout` starts over, `incorrect_or_unknown_payment_details` is final. Bounded in time and attempts.
//! It never sends more once any part was settled, so it never pays more than it meant to.

mod ends;
pub mod failure;
mod foreign;
pub mod invoice;
pub mod lnd;
pub mod onion;
mod part;
pub mod plan;
mod run;

#[cfg(test)]
mod lnd_tests;
#[cfg(test)]
mod tests;

pub(crate) use ends::Ends;
pub use failure::{Action, INCORRECT_DETAILS, MPP_TIMEOUT, TEMPORARY_CHANNEL_FAILURE};
pub use lnd::LndPeer;
pub use plan::{Deviation, PaymentPlan};

use crate::ledger::{Ledger, PaymentId};
use async_trait::async_trait;
use bytes::Bytes;
use mux_raft::types::{BlockHeight, NodePubkey, PaymentHash};
use rand::{SeedableRng as _, rngs::StdRng};
use std::{sync::Arc, time::Duration};

/// Why a front node did not take an HTLC.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PeerError {
    /// It is down, its channel is, or it is full: try another way, or later.
    #[error("front node unavailable: {0}")]
    Unavailable(String),
    /// It would never take this.
    #[error("front node refused: {0}")]
    Refused(String),
}

/// An HTLC as it is locked in at a front node, its layer of the onion already taken off.
#[derive(Clone, Debug, Default)]
pub struct NewHtlc {
    /// What is paid.
    pub hash: Option<PaymentHash>,
    /// What it carries.
    pub incoming_amount_msat: u64,
    /// What the onion tells the front node to forward.
    pub outgoing_amount_msat: u64,
    /// When it ends.
    pub incoming_expiry: BlockHeight,
    /// Until when the onion tells the front node to forward.
    pub outgoing_expiry: BlockHeight,
    /// Where to.
    pub outgoing_scid: u64,
    /// For the next node.
    pub onion: Bytes,
    /// What the node behind a real channel would settle with (foreign HTLCs only).
    pub downstream_preimage: Bytes,
}

/// Names an HTLC at its front node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HtlcKey {
    /// Channel.
    pub chan_id: u64,
    /// Number in the channel.
    pub htlc_id: u64,
}

/// What the payer learns about an HTLC. The preimage is not printable.
#[derive(Clone)]
pub enum HtlcOutcome {
    /// The preimage came back.
    Settled(Bytes),
    /// Failed by a node that the payer knows without decoding: who, BOLT 4 code.
    FailedBy(crate::ledger::FailureSource, u16),
    /// A failure packet of the virtual node, before the front node's own layer.
    Packet(Bytes),
}

/// A front node as the payer's side of a channel sees it.
#[async_trait]
pub trait FrontPeer: Send + Sync {
    /// Its identity.
    fn node(&self) -> NodePubkey;

    /// The chain's tip as the payer believes it.
    ///
    /// # Errors
    /// [`PeerError::Unavailable`], if it cannot be asked.
    async fn height(&self) -> Result<BlockHeight, PeerError>;

    /// Locks an HTLC in.
    ///
    /// # Errors
    /// [`PeerError`], if it was not taken.
    async fn add_htlc(&self, htlc: NewHtlc) -> Result<HtlcKey, PeerError>;

    /// Waits for the end of an HTLC, however long that takes; the caller has the deadline.
    async fn outcome(&self, key: HtlcKey) -> HtlcOutcome;
}

/// How patient a payer is.
#[derive(Clone, Debug)]
pub struct Patience {
    /// Attempts for each part.
    pub attempts_per_part: u32,
    /// After a failure, the first wait; doubled up to `backoff_max`.
    pub backoff: Duration,
    /// Longest wait between attempts.
    pub backoff_max: Duration,
    /// No new attempt after this long.
    pub retry_for: Duration,
    /// A payment without end after this long is given up as undecided (a violation).
    pub give_up_after: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            attempts_per_part: 60,
            backoff: Duration::from_millis(100),
            backoff_max: Duration::from_secs(1),
            retry_for: Duration::from_secs(60),
            give_up_after: Duration::from_secs(180),
        }
    }
}

/// See the [module](self). Cheap to clone.
#[derive(Clone)]
pub struct Payer {
    peers: Arc<Vec<Arc<dyn FrontPeer>>>,
    ledger: Arc<Ledger>,
    patience: Patience,
    rng: Arc<parking_lot::Mutex<StdRng>>,
}

impl Payer {
    /// A payer with channels to these front nodes. Its choices (splits, hints) follow from the seed.
    #[must_use]
    pub fn new(peers: Vec<Arc<dyn FrontPeer>>, ledger: Arc<Ledger>, patience: Patience, seed: u64) -> Self {
        Self {
            peers: Arc::new(peers),
            ledger,
            patience,
            rng: Arc::new(parking_lot::Mutex::new(StdRng::seed_from_u64(seed))),
        }
    }

    /// The same payer with another patience.
    #[must_use]
    pub fn with_patience(&self, patience: Patience) -> Self {
        Self { patience, ..self.clone() }
    }

    /// The ledger it writes.
    #[must_use]
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// The front nodes it has channels to.
    #[must_use]
    pub fn peers(&self) -> &[Arc<dyn FrontPeer>] {
        &self.peers
    }

    /// Pays an invoice, well or badly as the plan says, and waits for the end.
    ///
    /// # Errors
    /// [`PlanError`](plan::PlanError), if the plan cannot be carried out at all; then nothing is in the ledger.
    pub async fn pay(&self, plan: &PaymentPlan) -> Result<PaymentId, plan::PlanError> {
        let (order, route) = plan.prepare(self)?;
        let id = self.ledger.begin(order);
        let end = run::Run::new(self, id, route).finish().await;
        self.ledger.end(id, end);
        Ok(id)
    }

    /// Sends an HTLC that is not for the virtual node over a real channel of one front node, and waits for
    /// its end. The cluster must let it pass.
    pub async fn pay_foreign(&self, peer: usize, outgoing_chan_id: u64, amount_msat: u64) -> PaymentId {
        foreign::pay(self, peer, outgoing_chan_id, amount_msat).await
    }

    fn peer_of(&self, node: NodePubkey) -> Option<&Arc<dyn FrontPeer>> {
        self.peers.iter().find(|peer| peer.node() == node)
    }
}
