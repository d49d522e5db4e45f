use super::currency;
use crate::keys::{ClusterKeys, Network};
use bitcoin::hashes::Hash as _;
use lightning_invoice::{Bolt11Invoice, Bolt11InvoiceDescriptionRef};
use mux_raft::machine::model::InvoiceTerms;
use mux_raft::types::{PaymentHash, PaymentSecret};

/// An invoice that this cluster made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnInvoice {
    /// Its hash.
    pub hash: PaymentHash,
    /// Its payment secret.
    pub secret: PaymentSecret,
    /// What the secret says; this is what counts, not the text.
    pub terms: InvoiceTerms,
    /// Plain description, or empty.
    pub description: String,
    /// Or its hash.
    pub description_hash: Option<[u8; 32]>,
}

/// Why a text is not an invoice of this cluster. The caller has to correct it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Not BOLT 11.
    #[error("not a payment request: {0}")]
    Malformed(String),
    /// For another chain.
    #[error("the payment request is not for {0}")]
    OtherNetwork(Network),
    /// Signed by somebody else.
    #[error("the payment request was not made by this cluster")]
    NotOurs,
    /// Ours by signature, but its secret does not open: made with other keys, or not by [`super::create`].
    #[error("the payment request's secret was not made by this cluster")]
    SecretNotOurs,
}

/// Reads an invoice of ours. Upper case and a leading `lightning:` are fine.
///
/// # Errors
/// [`ParseError`]; also for invoices that expired long ago it is `Ok`: expiry is the log's to judge.
pub fn parse(keys: &ClusterKeys, network: Network, text: &str) -> Result<OwnInvoice, ParseError> {
    let text = text.trim();
    let text = match text.split_at_checked("lightning:".len()) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("lightning:") => rest,
        _ => text,
    };
    let invoice: Bolt11Invoice = text.parse().map_err(|error| ParseError::Malformed(format!("{error}")))?;
    if invoice.currency() != currency(network) {
        return Err(ParseError::OtherNetwork(network));
    }
    // Decoding has verified the signature against this key: the payee field, or the recovered one.
    if invoice.get_payee_pub_key() != *keys.node_public() {
        return Err(ParseError::NotOurs);
    }
    let hash = PaymentHash(invoice.payment_hash().to_byte_array());
    let secret = PaymentSecret(invoice.payment_secret().0);
    let terms = keys.secrets().open(&hash, &secret).ok_or(ParseError::SecretNotOurs)?;
    let (description, description_hash) = match invoice.description() {
        Bolt11InvoiceDescriptionRef::Direct(text) => (text.as_inner().0.clone(), None),
        Bolt11InvoiceDescriptionRef::Hash(hash) => (String::new(), Some(hash.0.to_byte_array())),
    };
    Ok(OwnInvoice { hash, secret, terms, description, description_hash })
}
