//! The 16 bytes that terms are packed into.

use mux_raft::machine::model::{InvoiceKind, InvoiceTerms};
use mux_raft::types::Msat;
use zeroize::Zeroizing;

/// Greatest amount that fits: 61 bits.
pub const SECRET_AMOUNT_MSAT_MAX: u64 = (1 << AMOUNT_BITS) - 1;

/// Latest expiry that fits, in seconds since the Unix epoch: 40 bits.
pub const EXPIRY_S_MAX: u64 = (1 << 40) - 1;

/// Generation of the keys that new secrets are made with, and the only one that is understood yet.
pub const KEY_EPOCH: u8 = 0;

const AMOUNT_BITS: u32 = 61;

/// Terms that no secret can say. The caller asked for something impossible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TermsError {
    /// Beyond [`SECRET_AMOUNT_MSAT_MAX`].
    #[error("an amount of {0} msat does not fit into a payment secret")]
    Amount(u64),
    /// Beyond [`EXPIRY_S_MAX`], or not whole seconds.
    #[error("an expiry of {0} ms since the epoch does not fit into a payment secret")]
    Expiry(u64),
    /// Not [`KEY_EPOCH`].
    #[error("key epoch {0} is not in use")]
    KeyEpoch(u8),
    /// A hold invoice is for a caller's hash, every other one is for its own.
    #[error("a secret for {0:?} invoices is not made this way")]
    Kind(InvoiceKind),
}

/// kind (3 bits) ‖ amount (61) ‖ expiry in seconds (40) ‖ min_final_cltv (16) ‖ key epoch (8).
pub(super) fn pack(terms: &InvoiceTerms) -> Result<Zeroizing<[u8; 16]>, TermsError> {
    let amount = terms.amount_msat.0;
    if amount > SECRET_AMOUNT_MSAT_MAX {
        return Err(TermsError::Amount(amount));
    }
    let expiry_s = terms.expires_at_ms / 1000;
    if expiry_s > EXPIRY_S_MAX || !terms.expires_at_ms.is_multiple_of(1000) {
        return Err(TermsError::Expiry(terms.expires_at_ms));
    }
    if terms.key_epoch != KEY_EPOCH {
        return Err(TermsError::KeyEpoch(terms.key_epoch));
    }
    let first = kind_code(terms.kind) << AMOUNT_BITS | amount;
    let second = expiry_s << 24 | u64::from(terms.min_final_cltv) << 8 | u64::from(terms.key_epoch);
    let mut packed = Zeroizing::new([0; 16]);
    let (left, right) = packed.split_at_mut(8);
    left.copy_from_slice(&first.to_be_bytes());
    right.copy_from_slice(&second.to_be_bytes());
    Ok(packed)
}

/// The terms, or `None` for a kind or an epoch that does not exist. Only tells something of a secret that
/// is known to be genuine.
pub(super) fn unpack(packed: &[u8; 16]) -> Option<InvoiceTerms> {
    let [a, b, c, d, e, f, g, h, expiry @ .., cltv_high, cltv_low, key_epoch] = *packed;
    let first = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
    let [i, j, k, l, m] = expiry;
    let kind = match first >> AMOUNT_BITS {
        1 => InvoiceKind::Stored,
        2 => InvoiceKind::Stateless,
        3 => InvoiceKind::Hold,
        _ => return None,
    };
    if key_epoch != KEY_EPOCH {
        return None;
    }
    Some(InvoiceTerms {
        kind,
        amount_msat: Msat(first & SECRET_AMOUNT_MSAT_MAX),
        expires_at_ms: u64::from_be_bytes([0, 0, 0, i, j, k, l, m]) * 1000,
        min_final_cltv: u16::from_be_bytes([cltv_high, cltv_low]),
        key_epoch,
    })
}

/// Zero is nobody's, so that a secret of zeros is never right by accident.
fn kind_code(kind: InvoiceKind) -> u64 {
    match kind {
        InvoiceKind::Stored => 1,
        InvoiceKind::Stateless => 2,
        InvoiceKind::Hold => 3,
    }
}
