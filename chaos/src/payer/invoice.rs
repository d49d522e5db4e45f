//! What a payer takes from a BOLT 11 invoice. Signature and semantics are checked by `lightning-invoice`.

use lightning_invoice::Bolt11Invoice;
use mux_raft::types::{Msat, NodePubkey, PaymentHash, PaymentSecret};
use std::{str::FromStr as _, time::Duration};

/// Not an invoice that this payer can pay.
#[derive(Debug, thiserror::Error)]
pub enum InvoiceError {
    /// Not BOLT 11.
    #[error("not a BOLT 11 invoice: {0}")]
    Parse(String),
    /// Without a hint there is no way to a node that has no channels.
    #[error("the invoice has no single-hop route hint")]
    NoHint,
}

/// A way in: one hop from a front node to the payee.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    /// The front node.
    pub front: NodePubkey,
    /// Virtual short channel id.
    pub scid: u64,
    /// Fee of the hop.
    pub fee_base_msat: u32,
    /// Fee of the hop, millionths.
    pub fee_ppm: u32,
    /// Blocks between the expiries.
    pub cltv_delta: u16,
}

impl Hint {
    /// What the front node takes for forwarding `amount_msat`, or `None` if it does not fit.
    #[must_use]
    pub fn fee_msat(&self, amount_msat: u64) -> Option<u64> {
        Msat(amount_msat).hop_fee(Msat(u64::from(self.fee_base_msat)), self.fee_ppm).map(|fee| fee.0)
    }
}

/// A parsed invoice.
#[derive(Clone, Debug)]
pub struct PayableInvoice {
    /// What is paid.
    pub hash: PaymentHash,
    /// For the onion.
    pub secret: PaymentSecret,
    /// The signer: the virtual node.
    pub payee: NodePubkey,
    /// `None`: the payer chooses.
    pub amount_msat: Option<u64>,
    /// Blocks that the payee wants.
    pub min_final_cltv: u32,
    /// The payee takes several parts.
    pub multi_part: bool,
    /// The ways in, most preferred first.
    pub hints: Vec<Hint>,
    /// Since the Unix epoch.
    pub expires_at: Duration,
}

impl PayableInvoice {
    /// Parses and checks an invoice.
    ///
    /// # Errors
    /// [`InvoiceError`], if it is not valid BOLT 11 or has no way in.
    pub fn parse(text: &str) -> Result<Self, InvoiceError> {
        let invoice =
            Bolt11Invoice::from_str(text).map_err(|error| InvoiceError::Parse(format!("{error:?}")))?;
        let hints: Vec<Hint> = invoice
            .route_hints()
            .iter()
            .filter(|hint| hint.0.len() == 1)
            .map(|hint| &hint.0[0])
            .map(|hop| Hint {
                front: NodePubkey(hop.src_node_id.serialize()),
                scid: hop.short_channel_id,
                fee_base_msat: hop.fees.base_msat,
                fee_ppm: hop.fees.proportional_millionths,
                cltv_delta: hop.cltv_expiry_delta,
            })
            .collect();
        if hints.is_empty() {
            return Err(InvoiceError::NoHint);
        }
        let hash: &[u8] = invoice.payment_hash().as_ref();
        Ok(Self {
            hash: PaymentHash::try_from(hash).map_err(|error| InvoiceError::Parse(error.to_string()))?,
            secret: PaymentSecret(invoice.payment_secret().0),
            payee: NodePubkey(invoice.get_payee_pub_key().serialize()),
            amount_msat: invoice.amount_milli_satoshis(),
            min_final_cltv: u32::try_from(invoice.min_final_cltv_expiry_delta())
                .map_err(|_| InvoiceError::Parse("min_final_cltv_expiry_delta too large".into()))?,
            multi_part: invoice.features().is_some_and(|features| features.supports_basic_mpp()),
            expires_at: invoice.expires_at().unwrap_or(Duration::MAX),
            hints,
        })
    }
}
