//! The money ledger: what the payer's side did and learned, payment by payment and part by part.
//!
//! It is written by the payer while payments run and compared, at the end, with what the cluster and the
//! simulated LND nodes say ([`check`]). It never holds a preimage, only whether a valid one was seen.

pub mod check;
pub mod leaks;
mod view;

pub use view::{ClusterView, HtlcView, InvoiceView, LndView, ReplicaView};

use mux_raft::types::{NodePubkey, PaymentHash};
use parking_lot::Mutex;
use serde::Serialize;
use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// What says which time it is: milliseconds since the Unix epoch.
pub type UnixClock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Milliseconds since the Unix epoch by this host's clock; the simulated LND nodes use the same one.
#[must_use]
pub fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
}

/// Number of a payment in its ledger, from 0.
pub type PaymentId = usize;

/// What a correct cluster may make of a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Expectation {
    /// It should be settled; a failure is no loss of money, only of a sale.
    Settle,
    /// It must fail, with this BOLT 4 code from the virtual node.
    FailWith(u16),
    /// It must fail.
    Fail,
    /// Either.
    Any,
}

/// Who spoke a failure, as the payer decodes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureSource {
    /// The payer's own peer: the HTLC ended on chain.
    Upstream,
    /// The front node (an LND).
    FrontNode,
    /// The virtual node.
    VirtualNode,
    /// A node behind the front node that is not ours.
    Downstream,
    /// Nobody on the route: the packet could not be decoded.
    Unreadable,
}

/// A failure as the payer sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PartFailure {
    /// Who spoke.
    pub source: FailureSource,
    /// BOLT 4 failure code; 0 if unreadable.
    pub code: u16,
    /// What follows the code in the failure message, hexadecimal.
    pub data: String,
}

/// How a part ended, for the payer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PartEnd {
    /// The payer got something for it.
    Settled {
        /// It was the preimage of the hash.
        preimage_valid: bool,
    },
    /// The payer got its money back.
    Failed(PartFailure),
}

/// One HTLC of the payer.
#[derive(Clone, Debug, Serialize)]
pub struct PartRecord {
    /// Through whom.
    pub front: NodePubkey,
    /// Channel at the front node.
    pub chan_id: u64,
    /// Number in that channel.
    pub htlc_id: u64,
    /// What the virtual node receives.
    pub amount_msat: u64,
    /// When it was sent.
    pub sent_unix_ms: u64,
    /// When it ended; 0 before.
    pub ended_unix_ms: u64,
    /// How it ended.
    pub end: Option<PartEnd>,
}

/// How a payment ended, for the payer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PaymentEnd {
    /// Every part settled, with a valid preimage.
    Settled,
    /// No part settled.
    Failed(PartFailure),
    /// No part settled, and none of the last ones was even accepted by a front node.
    NotSent(String),
    /// Some parts settled, some failed.
    Partial,
    /// The payer stopped waiting while parts were under way.
    Undecided,
}

/// What is paid.
#[derive(Clone, Debug, Serialize)]
pub struct PaymentOrder {
    /// For people: what kind of payment it is.
    pub label: String,
    /// What is paid.
    pub hash: PaymentHash,
    /// What the payer sends in all.
    pub total_msat: u64,
    /// What is right.
    pub expect: Expectation,
    /// The invoice was acknowledged as stored, so it must be found.
    pub stored: bool,
    /// The HTLC is not for the virtual node; the cluster must let it pass.
    pub foreign: bool,
}

/// A payment, from the payer's side.
#[derive(Clone, Debug, Serialize)]
pub struct PaymentRecord {
    /// What was ordered.
    pub order: PaymentOrder,
    /// Every HTLC that was sent for it.
    pub parts: Vec<PartRecord>,
    /// When it began.
    pub started_unix_ms: u64,
    /// When it ended; 0 before.
    pub ended_unix_ms: u64,
    /// Every end that was ever recorded; more than one is a violation.
    pub ends: Vec<PaymentEnd>,
}

impl PaymentRecord {
    /// The payer has a valid preimage for it.
    #[must_use]
    pub fn has_preimage(&self) -> bool {
        self.parts.iter().any(|part| part.end == Some(PartEnd::Settled { preimage_valid: true }))
    }

    /// What the payer paid for good.
    #[must_use]
    pub fn settled_msat(&self) -> u64 {
        self.parts
            .iter()
            .filter(|part| matches!(part.end, Some(PartEnd::Settled { .. })))
            .map(|part| part.amount_msat)
            .sum()
    }
}

/// See the [module](self).
pub struct Ledger {
    payments: Mutex<Vec<PaymentRecord>>,
    clock: UnixClock,
}

impl Default for Ledger {
    fn default() -> Self {
        Self::by_clock(Arc::new(unix_ms))
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").field("payments", &self.payments).finish_non_exhaustive()
    }
}

impl Ledger {
    /// Empty, with another clock than this host's.
    #[must_use]
    pub fn by_clock(clock: UnixClock) -> Self {
        Self { payments: Mutex::default(), clock }
    }

    /// The time by its clock.
    #[must_use]
    pub fn now_unix_ms(&self) -> u64 {
        (self.clock)()
    }

    /// Opens a payment.
    pub fn begin(&self, order: PaymentOrder) -> PaymentId {
        let mut payments = self.payments.lock();
        payments.push(PaymentRecord {
            order,
            parts: Vec::new(),
            started_unix_ms: self.now_unix_ms(),
            ended_unix_ms: 0,
            ends: Vec::new(),
        });
        payments.len() - 1
    }

    /// Notes a part that a front node took; gives its number within the payment.
    pub fn part_sent(&self, id: PaymentId, part: PartRecord) -> usize {
        let parts = &mut self.payments.lock()[id].parts;
        parts.push(part);
        parts.len() - 1
    }

    /// Notes how a part ended.
    pub fn part_ended(&self, id: PaymentId, part: usize, end: PartEnd) {
        let now = self.now_unix_ms();
        let part = &mut self.payments.lock()[id].parts[part];
        part.ended_unix_ms = now;
        part.end = Some(end);
    }

    /// Closes a payment.
    pub fn end(&self, id: PaymentId, end: PaymentEnd) {
        let now = self.now_unix_ms();
        let payment = &mut self.payments.lock()[id];
        payment.ended_unix_ms = now;
        payment.ends.push(end);
    }

    /// Whether somebody pays this as the invoice says, who should succeed.
    #[must_use]
    pub fn expects_settle(&self, hash: &[u8]) -> bool {
        let honest = |payment: &PaymentRecord| {
            payment.order.hash.0 == hash
                && payment.order.expect == Expectation::Settle
                && !payment.order.foreign
        };
        self.payments.lock().iter().any(honest)
    }

    /// A copy of one payment.
    #[must_use]
    pub fn payment(&self, id: PaymentId) -> PaymentRecord {
        self.payments.lock()[id].clone()
    }

    /// A copy of everything.
    #[must_use]
    pub fn snapshot(&self) -> Vec<PaymentRecord> {
        self.payments.lock().clone()
    }

    /// Counts for reports.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for payment in self.payments.lock().iter() {
            totals.add(payment);
        }
        totals
    }
}

/// How many payments ended how. `settled + failed + partial + undecided = payments`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// All that were begun.
    pub payments: u64,
    /// Settled.
    pub settled: u64,
    /// Failed, as intended or not.
    pub failed: u64,
    /// Of `failed`: payments that were meant to succeed.
    pub failed_unintended: u64,
    /// Partly settled.
    pub partial: u64,
    /// Without an end.
    pub undecided: u64,
    /// What payers paid for good.
    pub settled_msat: u64,
    /// HTLCs sent for them.
    pub htlcs: u64,
    /// HTLCs that were not for the virtual node; not among `payments`.
    pub forwards: u64,
    /// Of `forwards`: those that reached their payee.
    pub forwards_passed: u64,
}

impl Totals {
    fn add(&mut self, payment: &PaymentRecord) {
        if payment.order.foreign {
            self.forwards += 1;
            self.forwards_passed += u64::from(payment.ends.first() == Some(&PaymentEnd::Settled));
            return;
        }
        self.payments += 1;
        self.htlcs += payment.parts.len() as u64;
        self.settled_msat += payment.settled_msat();
        match payment.ends.first() {
            Some(PaymentEnd::Settled) => self.settled += 1,
            Some(PaymentEnd::Failed(_) | PaymentEnd::NotSent(_)) => {
                self.failed += 1;
                if payment.order.expect == Expectation::Settle {
                    self.failed_unintended += 1;
                }
            }
            Some(PaymentEnd::Partial) => self.partial += 1,
            Some(PaymentEnd::Undecided) | None => self.undecided += 1,
        }
    }
}
