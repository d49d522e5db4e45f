//! The event sequence that subscribers and webhooks read by number.
//!
//! Gap-free over every change of an invoice; an event says the state after it.

use super::{FailReason, FinalState, InvoiceState};
use crate::types::{CircuitKey, LogTimeMs, Msat, PaymentHash, SetId};
use serde::{Deserialize, Serialize};

/// One change, in the order of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Gap-free, from 1.
    pub sequence: u64,
    /// Log time.
    pub time_ms: LogTimeMs,
    /// The invoice.
    pub hash: PaymentHash,
    /// Its state after the change.
    pub state: InvoiceState,
    /// What happened.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventKind {
    /// The invoice exists from now on.
    Added,
    /// An HTLC joined the set under way.
    HtlcJoined {
        /// Which.
        key: CircuitKey,
        /// What it counts for.
        amount_msat: Msat,
    },
    /// The set is complete.
    Accepted {
        /// Its name.
        set_id: SetId,
        /// Its sum.
        amount_msat: Msat,
    },
    /// The set was failed; its invoice is open again, cancelled or expired.
    SetFailed {
        /// Why.
        reason: FailReason,
        /// Its sum.
        amount_msat: Msat,
    },
    /// The decision to settle.
    Settling {
        /// The winning set.
        set_id: SetId,
        /// Its sum.
        amount_msat: Msat,
    },
    /// Every HTLC is final and settled.
    Settled {
        /// What arrived.
        received_msat: Msat,
    },
    /// Every HTLC is final, not all settled.
    Partial {
        /// What arrived.
        received_msat: Msat,
    },
    /// Cancelled.
    Canceled,
    /// Expired.
    Expired,
    /// LND (or an operator) said how an HTLC ended.
    HtlcFinal {
        /// Which.
        key: CircuitKey,
        /// How.
        state: FinalState,
    },
    /// Cancelled by a restoration: whether it was paid after the backup is not known. Level 3.
    Voided,
}
