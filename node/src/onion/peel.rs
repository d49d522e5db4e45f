use super::failure_key::FailureKey;
use super::packet::{Layer, PeelError};
use super::payload::{FinalPayload, PayloadError};
use mux_raft::types::PaymentHash;
use secp256k1::SecretKey;

/// An onion that was meant for us.
#[derive(Debug)]
pub struct Peeled {
    /// What it says, or what is wrong with it.
    pub payload: Result<FinalPayload, PayloadError>,
    /// Nobody comes after us. Otherwise the payer wants us to forward, and we have no channels.
    pub is_final: bool,
    /// Encrypts our failure to the payer.
    pub failure_key: FailureKey,
}

/// Opens the onion that LND hands over for the next hop. The associated data is the payment
/// hash (BOLT 4, "Packet Forwarding").
///
/// # Errors
/// [`PeelError`] if it was not made for this key and hash.
pub fn peel(secret: &SecretKey, hash: &PaymentHash, onion_blob: &[u8]) -> Result<Peeled, PeelError> {
    let layer = Layer::open(secret, &hash.0, onion_blob)?;
    let (payload, is_final) = match layer.frame() {
        Ok(frame) => (FinalPayload::parse(frame.payload, frame.offset), frame.is_last()),
        // Where the payload ends is not known, so neither is who comes next.
        Err(error) => (Err(error), true),
    };
    Ok(Peeled { payload, is_final, failure_key: FailureKey::new(layer.shared) })
}
