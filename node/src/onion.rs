//! Onions (Sphinx, BOLT 4) as the virtual node meets them: the last layer of a payment's onion, and the
//! failure packets that travel back.
//!
//! * [`peel`] opens the 1366 bytes that LND hands over for the next hop, with the virtual node's key and
//!   the payment hash as associated data, and reads the payload under BOLT 1's strict rules.
//! * [`FailureKey`] (kept from the peel) turns a [`FailureMessage`] into the 292 bytes that LND accepts,
//!   so that the payer sees the virtual node as the source.
//! * [`forwarder`] and [`payer`] are the other two parties' halves, for simulations and tests.
//!
//! Everything in here is fed by strangers: no input panics, errors say what BOLT 4 wants said, HMACs are
//! compared in constant time and before anything is decrypted, shared secrets do not print.

mod cipher;
mod failure;
mod failure_key;
pub mod forwarder;
mod packet;
pub mod payer;
mod payload;
mod peel;
mod tlv;

pub use failure::FailureMessage;
pub use failure_key::{FAILURE_PACKET_BYTES, FailureKey};
pub use packet::{ONION_PACKET_BYTES, PeelError};
pub use payload::{FinalPayload, PayloadError, PayloadFault, PaymentData};
pub use peel::{Peeled, peel};
