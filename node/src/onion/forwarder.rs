//! The half of a node that forwards: what LND does with an onion and a failure before and after us. For
//! simulations and tests.

use super::failure_key::FailureKey;
use super::packet::{Layer, ONION_PACKET_BYTES, PeelError};
use super::payload::{PayloadError, PayloadFault, block_height};
use super::tlv::Records;
use mux_raft::types::{BlockHeight, Msat, PaymentHash};
use secp256k1::SecretKey;

/// One layer taken off.
#[derive(Debug)]
pub struct Hop {
    /// This hop's payload without its length.
    pub payload: Vec<u8>,
    /// The packet for the next hop; `None` if there is none.
    pub next: Option<[u8; ONION_PACKET_BYTES]>,
    /// Encrypts this hop's failures and wraps those from further on.
    pub failure_key: FailureKey,
}

/// What a payer tells a forwarding hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForwardPayload {
    /// What to pass on.
    pub amt_to_forward: Msat,
    /// Expiry of what is passed on.
    pub outgoing_cltv: BlockHeight,
    /// Over which channel.
    pub scid: u64,
}

/// Takes one layer off an onion.
///
/// # Errors
/// As [`super::peel`]; a payload whose length makes no sense gives [`PeelError::Length`].
pub fn take_layer(secret: &SecretKey, hash: &PaymentHash, onion: &[u8]) -> Result<Hop, PeelError> {
    let layer = Layer::open(secret, &hash.0, onion)?;
    let frame = layer.frame().map_err(|_| PeelError::Length(onion.len()))?;
    let (payload, next) = (frame.payload.to_vec(), layer.next_packet(&frame));
    Ok(Hop { payload, next, failure_key: FailureKey::new(layer.shared) })
}

impl Hop {
    /// Reads the payload of a hop that forwards over a channel.
    ///
    /// # Errors
    /// What BOLT 1 and BOLT 4 do not allow.
    pub fn forward_payload(&self) -> Result<ForwardPayload, PayloadError> {
        let (mut amount, mut cltv, mut scid) = (None, None, None);
        let mut records = Records::new(&self.payload, 1);
        while let Some(record) = records.next()? {
            match record.tlv_type {
                2 => amount = Some(Msat(record.truncated(8)?)),
                4 => cltv = Some(block_height(&record)?),
                6 => {
                    let bytes = record.value.try_into().map_err(|_| record.error(PayloadFault::Value))?;
                    scid = Some(u64::from_be_bytes(bytes));
                }
                even if even % 2 == 0 => return Err(record.error(PayloadFault::UnknownEven)),
                _odd => {}
            }
        }
        let missing = |tlv_type| PayloadError { tlv_type, offset: 0, fault: PayloadFault::Missing };
        Ok(ForwardPayload {
            amt_to_forward: amount.ok_or_else(|| missing(2))?,
            outgoing_cltv: cltv.ok_or_else(|| missing(4))?,
            scid: scid.ok_or_else(|| missing(6))?,
        })
    }
}
