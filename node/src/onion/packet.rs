//! One layer of an onion packet: version ‖ ephemeral key ‖ hop payloads ‖ HMAC.

use super::cipher::{self, KeyType, Secret};
use super::payload::{PayloadError, PayloadFault};
use super::tlv::read_bigsize;
use secp256k1::{PublicKey, SECP256K1, Scalar, SecretKey};

/// Length of an onion packet.
pub const ONION_PACKET_BYTES: usize = 1 + 33 + HOP_PAYLOADS_BYTES + HMAC_BYTES;

pub(super) const HOP_PAYLOADS_BYTES: usize = 1300;
pub(super) const HMAC_BYTES: usize = 32;

/// Why an onion cannot be opened at all: there is no shared secret that a failure could be encrypted with,
/// so the front node has to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeelError {
    /// Not [`ONION_PACKET_BYTES`] long.
    #[error("an onion of {0} bytes")]
    Length(usize),
    /// A version other than 0: `invalid_onion_version`.
    #[error("onion version {0}")]
    Version(u8),
    /// The ephemeral key is no point of the curve: `invalid_onion_key`.
    #[error("the onion's key is not valid")]
    Key,
    /// Altered, or for another node or payment hash: `invalid_onion_hmac`.
    #[error("the onion's HMAC does not match")]
    Hmac,
}

/// A layer that was opened and found genuine.
pub(super) struct Layer {
    pub(super) shared: Secret,
    ephemeral: PublicKey,
    /// Decrypted hop payloads, with as much of the stream behind as the next packet is filled up with.
    stream: Vec<u8>,
}

/// Where this hop's payload is in the stream.
pub(super) struct Frame<'a> {
    pub(super) payload: &'a [u8],
    /// Of the payload, in the decrypted stream.
    pub(super) offset: usize,
    pub(super) next_hmac: &'a [u8],
}

impl Layer {
    pub(super) fn open(secret: &SecretKey, associated_data: &[u8], onion: &[u8]) -> Result<Self, PeelError> {
        // The version before the length: another version may well have another length.
        match onion.first() {
            None => return Err(PeelError::Length(0)),
            Some(0) => {}
            Some(version) => return Err(PeelError::Version(*version)),
        }
        if onion.len() != ONION_PACKET_BYTES {
            return Err(PeelError::Length(onion.len()));
        }
        let (head, tail) = onion.split_at(1 + 33);
        let (hop_payloads, hmac) = tail.split_at(HOP_PAYLOADS_BYTES);
        let ephemeral = PublicKey::from_slice(&head[1..]).map_err(|_| PeelError::Key)?;
        let shared = cipher::shared_secret(&ephemeral, secret);
        let mu = cipher::derive(KeyType::Mu, &shared);
        if !cipher::mac_matches(mu.as_slice(), &[hop_payloads, associated_data], hmac) {
            return Err(PeelError::Hmac);
        }
        let mut stream = hop_payloads.to_vec();
        stream.resize(2 * HOP_PAYLOADS_BYTES, 0);
        cipher::xor_stream(&cipher::derive(KeyType::Rho, &shared), &mut stream);
        Ok(Self { shared, ephemeral, stream })
    }

    /// This hop's payload.
    pub(super) fn frame(&self) -> Result<Frame<'_>, PayloadError> {
        let fault = |fault| PayloadError { tlv_type: 0, offset: 0, fault };
        let decrypted = &self.stream[..HOP_PAYLOADS_BYTES];
        let mut rest = decrypted;
        let length = read_bigsize(&mut rest).map_err(fault)?;
        // 0 is the old fixed format, 1 is reserved.
        if length < 2 {
            return Err(fault(PayloadFault::Length));
        }
        let offset = HOP_PAYLOADS_BYTES - rest.len();
        let length = usize::try_from(length).map_err(|_| fault(PayloadFault::Length))?;
        let payload = rest.get(..length).ok_or_else(|| fault(PayloadFault::Length))?;
        let next_hmac = rest[length..].get(..HMAC_BYTES).ok_or_else(|| fault(PayloadFault::Length))?;
        Ok(Frame { payload, offset, next_hmac })
    }

    /// The packet for the next hop, padded up to its full length; `None` for the last hop, and if the
    /// payer chose its keys so that there is none (probability 2^-128).
    pub(super) fn next_packet(&self, frame: &Frame<'_>) -> Option<[u8; ONION_PACKET_BYTES]> {
        if frame.is_last() {
            return None;
        }
        let factor = cipher::blinding_factor(&self.ephemeral, &self.shared);
        let scalar = Scalar::from_be_bytes(*factor).ok()?;
        let ephemeral = self.ephemeral.mul_tweak(SECP256K1, &scalar).ok()?;
        let start = frame.offset + frame.payload.len() + HMAC_BYTES;
        let hop_payloads = &self.stream[start..start + HOP_PAYLOADS_BYTES];
        Some(assemble(&ephemeral, hop_payloads, frame.next_hmac))
    }
}

impl Frame<'_> {
    /// An HMAC of zeros says that nobody comes after.
    pub(super) fn is_last(&self) -> bool {
        self.next_hmac.iter().all(|byte| *byte == 0)
    }
}

/// `hop_payloads` and `hmac` must have their fixed lengths.
pub(super) fn assemble(ephemeral: &PublicKey, hop_payloads: &[u8], hmac: &[u8]) -> [u8; ONION_PACKET_BYTES] {
    let mut packet = [0; ONION_PACKET_BYTES];
    let (head, tail) = packet.split_at_mut(1 + 33);
    head[1..].copy_from_slice(&ephemeral.serialize());
    let (payloads, mac) = tail.split_at_mut(HOP_PAYLOADS_BYTES);
    payloads.copy_from_slice(hop_payloads);
    mac.copy_from_slice(hmac);
    packet
}
