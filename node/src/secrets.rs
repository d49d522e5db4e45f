//! Payment secrets that carry their invoice's terms, and the preimages of own invoices.
//!
//! A payment secret is 16 bytes of IV followed by 16 bytes of encrypted
//! [terms](mux_raft::machine::model::InvoiceTerms). Whoever has the cluster's seed can open it without any
//! state, so every replica judges an HTLC alone:
//!
//! * **Own hash** (stored and stateless invoices): the IV is random, the preimage is an HMAC over the
//!   secret, the hash is SHA-256 of the preimage. A secret is genuine for a hash if its preimage gives it.
//! * **Caller's hash** (hold invoices): the IV is a truncated HMAC over terms and hash. A secret is
//!   genuine for a hash if its IV is that HMAC.
//!
//! Either way a change of any bit of hash, IV, amount, expiry, `min_final_cltv`, kind or key epoch makes
//! the secret worthless. Opening does the same work whatever is wrong, and says only yes or no: it is
//! what strangers' probes run into.

mod codec;
mod terms;

pub use codec::SecretCodec;
pub use terms::{EXPIRY_S_MAX, KEY_EPOCH, SECRET_AMOUNT_MSAT_MAX, TermsError};

#[cfg(test)]
mod tests;
