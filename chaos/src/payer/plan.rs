//! What is to be paid, in how many parts, and how honestly.

use super::{
    INCORRECT_DETAILS, MPP_TIMEOUT, Payer,
    invoice::{Hint, InvoiceError, PayableInvoice},
};
use crate::ledger::{Expectation, PaymentOrder};
use mux_raft::types::{NodePubkey, PaymentHash, PaymentSecret};
use rand::{Rng as _, RngCore};
use std::time::Duration;

/// BOLT 4: a payer adds blocks to the payee's delta so that a block found on the way does no harm. LND adds 3.
const FINAL_CLTV_RESERVE: u32 = 3;

/// A payer that does not do what the invoice says. All of these must fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deviation {
    /// An honest payer.
    None,
    /// A secret that is not the invoice's.
    WrongSecret,
    /// A probe: the invoice's secret under a hash nobody knows.
    UnknownHash,
    /// Half of what the invoice asks.
    TooLittle,
    /// More than twice what the invoice asks.
    TooMuch,
    /// Pays although the invoice expired.
    Expired,
    /// Pays an invoice that was paid before.
    AlreadyPaid,
    /// Pays an invoice that was cancelled.
    Canceled,
    /// Tells every part to carry more than the payer's HTLC does: the front node would pay the difference.
    Underfunded,
    /// An expiry that leaves too few blocks.
    TooSoon,
    /// The last part is never sent.
    Incomplete,
}

impl Deviation {
    /// What a correct cluster makes of it.
    #[must_use]
    pub fn expectation(self) -> Expectation {
        match self {
            Self::None => Expectation::Settle,
            Self::WrongSecret
            | Self::UnknownHash
            | Self::TooLittle
            | Self::TooMuch
            | Self::Expired
            | Self::AlreadyPaid
            | Self::Canceled
            | Self::TooSoon => Expectation::FailWith(INCORRECT_DETAILS),
            Self::Incomplete => Expectation::FailWith(MPP_TIMEOUT),
            Self::Underfunded => Expectation::Fail,
        }
    }
}

/// A payment to be made.
#[derive(Clone, Debug)]
pub struct PaymentPlan {
    /// For people.
    pub label: String,
    /// BOLT 11.
    pub payment_request: String,
    /// What to pay; needed if the invoice leaves it open, and overpays otherwise.
    pub amount_msat: Option<u64>,
    /// How many HTLCs at first.
    pub parts: usize,
    /// How honest the payer is.
    pub deviation: Deviation,
    /// What is right; `None`: what the deviation says.
    pub expect: Option<Expectation>,
    /// The cluster acknowledged the invoice as stored.
    pub stored: bool,
    /// The payer has channels to this front node only.
    pub only_through: Option<NodePubkey>,
    /// Between the first parts: the set stays incomplete for that long.
    pub between_parts: Duration,
}

impl PaymentPlan {
    /// An honest payment of a stored invoice with a fixed amount.
    #[must_use]
    pub fn new(label: impl Into<String>, payment_request: impl Into<String>, parts: usize) -> Self {
        Self {
            label: label.into(),
            payment_request: payment_request.into(),
            amount_msat: None,
            parts,
            deviation: Deviation::None,
            expect: None,
            stored: true,
            only_through: None,
            between_parts: Duration::ZERO,
        }
    }

    /// The same, with this pause between the first parts.
    #[must_use]
    pub fn slowly(mut self, between_parts: Duration) -> Self {
        self.between_parts = between_parts;
        self
    }

    /// The same, by a payer who has channels to this front node only.
    #[must_use]
    pub fn only_through(mut self, front: NodePubkey) -> Self {
        self.only_through = Some(front);
        self
    }

    /// The same, with a payer who does not do what the invoice says.
    #[must_use]
    pub fn deviating(mut self, deviation: Deviation) -> Self {
        self.deviation = deviation;
        self
    }

    /// The same, with an amount of the payer's choice.
    #[must_use]
    pub fn of(mut self, amount_msat: u64) -> Self {
        self.amount_msat = Some(amount_msat);
        self
    }

    /// The same, for an invoice that the cluster has not stored.
    #[must_use]
    pub fn stateless(mut self) -> Self {
        self.stored = false;
        self
    }

    /// The same, with another idea of what is right.
    #[must_use]
    pub fn expecting(mut self, expect: Expectation) -> Self {
        self.expect = Some(expect);
        self
    }

    fn reaches(&self, payer: &Payer, hint: &Hint) -> bool {
        self.only_through.is_none_or(|front| front == hint.front) && payer.peer_of(hint.front).is_some()
    }

    pub(super) fn prepare(&self, payer: &Payer) -> Result<(PaymentOrder, Route), PlanError> {
        let invoice = PayableInvoice::parse(&self.payment_request)?;
        let asked = self.amount_msat.or(invoice.amount_msat).ok_or(PlanError::NoAmount)?;
        let mut route = Route {
            hash: invoice.hash,
            secret: invoice.secret.clone(),
            payee: invoice.payee,
            final_cltv: invoice.min_final_cltv.saturating_add(FINAL_CLTV_RESERVE),
            total_msat: asked,
            amounts: Vec::new(),
            hints: invoice.hints.into_iter().filter(|hint| self.reaches(payer, hint)).collect(),
            underfunded: false,
            between_parts: self.between_parts,
        };
        if route.hints.is_empty() {
            return Err(PlanError::NoChannel);
        }
        let mut rng = payer.rng.lock();
        match self.deviation {
            Deviation::WrongSecret => route.secret = PaymentSecret(rng.random()),
            Deviation::UnknownHash => route.hash = PaymentHash(rng.random()),
            Deviation::TooLittle => route.total_msat = asked / 2,
            Deviation::TooMuch => route.total_msat = asked.saturating_mul(2).saturating_add(1),
            Deviation::TooSoon => route.final_cltv = 1,
            Deviation::Underfunded => route.underfunded = true,
            Deviation::None
            | Deviation::Expired
            | Deviation::AlreadyPaid
            | Deviation::Canceled
            | Deviation::Incomplete => {}
        }
        if route.total_msat == 0 {
            return Err(PlanError::NoAmount);
        }
        let parts = if invoice.multi_part { self.parts.max(1) } else { 1 };
        route.amounts = split(route.total_msat, parts, &mut *rng);
        if self.deviation == Deviation::Incomplete {
            route.amounts.pop();
        }
        let order = PaymentOrder {
            label: self.label.clone(),
            hash: route.hash,
            total_msat: route.total_msat,
            expect: self.expect.unwrap_or_else(|| self.deviation.expectation()),
            stored: self.stored && self.deviation != Deviation::UnknownHash,
            foreign: false,
        };
        Ok((order, route))
    }
}

/// A plan that cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The invoice is no use.
    #[error(transparent)]
    Invoice(#[from] InvoiceError),
    /// Neither invoice nor payer says how much.
    #[error("nobody says how much to pay")]
    NoAmount,
    /// The payer has no channel to any node of the invoice's hints.
    #[error("no channel to any node of the invoice's hints")]
    NoChannel,
}

/// What the parts have in common, and what they carry.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) hash: PaymentHash,
    pub(super) secret: PaymentSecret,
    pub(super) payee: NodePubkey,
    pub(super) final_cltv: u32,
    pub(super) total_msat: u64,
    pub(super) amounts: Vec<u64>,
    pub(super) hints: Vec<Hint>,
    pub(super) underfunded: bool,
    pub(super) between_parts: Duration,
}

/// Cuts an amount into at most `parts` random pieces, none of them empty.
fn split(total: u64, parts: usize, rng: &mut impl RngCore) -> Vec<u64> {
    let parts = (parts as u64).clamp(1, total.max(1));
    let mut left = total;
    let mut pieces = Vec::new();
    for still in (2..=parts).rev() {
        let fair = left / still;
        let piece =
            rng.random_range(fair.div_ceil(2).max(1)..=(fair + fair / 2).max(1)).min(left - (still - 1));
        pieces.push(piece);
        left -= piece;
    }
    pieces.push(left);
    pieces
}

#[cfg(test)]
mod tests {
    use super::split;
    use proptest::prelude::*;
    use rand::{SeedableRng as _, rngs::StdRng};

    proptest! {
        #[test]
        fn pieces_are_not_empty_and_add_up(total in 1_u64..2_000_000, parts in 0_usize..40, seed: u64) {
            let pieces = split(total, parts, &mut StdRng::seed_from_u64(seed));
            prop_assert_eq!(pieces.iter().sum::<u64>(), total);
            prop_assert!(pieces.iter().all(|piece| *piece > 0));
            prop_assert!(pieces.len() as u64 == (parts as u64).clamp(1, total));
        }
    }
}
