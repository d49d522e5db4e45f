//! BOLT 11 invoices of the virtual node.
//!
//! [`create`] issues a payment secret that carries the terms ([`crate::secrets`]), adds one route hint per
//! chosen front node, and signs as the virtual node; it needs no quorum and no state. [`parse`] takes an
//! invoice of ours back, for callers that cancel one which the cluster has never seen.
//!
//! An invoice announces exactly variable onions, payment secrets (both required) and basic multi-path
//! payments; the terms in the secret and the fields in the text say the same.

mod create;
mod parse;

pub use create::{
    DEFAULT_EXPIRY_S, DEFAULT_MIN_FINAL_CLTV, DESCRIPTION_BYTES_MAX, EXPIRY_S_MAX, HINTS_MAX, Hint,
    InvoiceDescription, InvoiceError, InvoiceHash, InvoiceSpec, IssuedInvoice, MIN_FINAL_CLTV_RANGE,
    amount_msat, create,
};
pub use parse::{OwnInvoice, ParseError, parse};

use crate::keys::Network;
use lightning_invoice::Currency;

/// The human-readable prefix; testnet4 has the third test network's, as in LND.
fn currency(network: Network) -> Currency {
    match network {
        Network::Mainnet => Currency::Bitcoin,
        Network::Testnet | Network::Testnet4 => Currency::BitcoinTestnet,
        Network::Signet => Currency::Signet,
        Network::Regtest => Currency::Regtest,
        Network::Simnet => Currency::Simnet,
    }
}
