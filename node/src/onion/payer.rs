//! The payer's half of BOLT 4: makes onions, reads failures. For simulations and tests; nothing that a
//! replica does needs it. Payloads are taken as they come, so that bad ones can be sent.

use super::cipher::{self, KeyType};
use super::failure_key::FailureKey;
use super::packet::{HMAC_BYTES, HOP_PAYLOADS_BYTES, ONION_PACKET_BYTES, assemble};
use super::tlv::{truncated_bytes, write_bigsize, write_record};
use mux_raft::types::{BlockHeight, Msat, PaymentHash, PaymentSecret};
use secp256k1::{PublicKey, SECP256K1, Scalar, SecretKey};
use zeroize::Zeroizing;

/// An onion and what its payer keeps to read failures.
#[derive(Clone, Debug)]
pub struct Onion {
    /// For the first hop.
    pub packet: [u8; ONION_PACKET_BYTES],
    /// One for each hop, in order.
    pub shared_secrets: Vec<[u8; 32]>,
}

/// Why there is no onion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OnionError {
    /// No hops, or more payload than fits.
    #[error("the route does not fit into an onion")]
    DoesNotFit,
    /// A key of the derivation does not exist (probability 2^-128).
    #[error("session key cannot be used")]
    SessionKey,
}

/// A failure as its payer reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedFailure {
    /// Which hop of the route sent it, from 0.
    pub source_index: usize,
    /// BOLT 4's code with its flags.
    pub code: u16,
    /// What follows the code.
    pub data: Vec<u8>,
}

/// Collects a payload's records. They are written in the order they are added, right or wrong.
#[derive(Clone, Debug, Default)]
pub struct PayloadBuilder(Vec<u8>);

impl PayloadBuilder {
    /// Amount and expiry, which every payload has.
    #[must_use]
    pub fn new(amount: Msat, cltv: BlockHeight) -> Self {
        Self::default().record(2, &truncated_bytes(amount.0)).record(4, &truncated_bytes(u64::from(cltv)))
    }

    /// For a hop that forwards: over which channel.
    #[must_use]
    pub fn scid(self, scid: u64) -> Self {
        self.record(6, &scid.to_be_bytes())
    }

    /// For the last hop: secret and total.
    #[must_use]
    pub fn payment_data(self, secret: &PaymentSecret, total: Msat) -> Self {
        self.record(8, &[secret.0.as_slice(), &truncated_bytes(total.0)].concat())
    }

    /// Any record.
    #[must_use]
    pub fn record(mut self, tlv_type: u64, value: &[u8]) -> Self {
        write_record(&mut self.0, tlv_type, value);
        self
    }

    /// The payload with its length in front, as [`build_onion`] takes it.
    #[must_use]
    pub fn framed(self) -> Vec<u8> {
        frame(&self.0)
    }
}

/// Puts its length in front of a payload.
#[must_use]
pub fn frame(payload: &[u8]) -> Vec<u8> {
    let mut framed = Vec::with_capacity(payload.len() + 3);
    write_bigsize(&mut framed, payload.len() as u64);
    framed.extend_from_slice(payload);
    framed
}

/// Makes the onion for a route of (key, payload with its length in front).
///
/// # Errors
/// [`OnionError::DoesNotFit`] for an empty or too long route.
pub fn build_onion(
    session_key: &SecretKey,
    hops: &[(PublicKey, Vec<u8>)],
    hash: &PaymentHash,
) -> Result<Onion, OnionError> {
    let total = hops.iter().map(|(_, payload)| payload.len() + HMAC_BYTES).sum::<usize>();
    if hops.is_empty() || total > HOP_PAYLOADS_BYTES {
        return Err(OnionError::DoesNotFit);
    }
    let shared_secrets = shared_secrets(session_key, hops.iter().map(|(key, _)| key))?;
    let filler = filler(hops, &shared_secrets);
    let mut payloads = vec![0; HOP_PAYLOADS_BYTES];
    let session_bytes = Zeroizing::new(session_key.secret_bytes());
    cipher::xor_stream(&cipher::derive(KeyType::Pad, &session_bytes), &mut payloads);
    let mut hmac = [0; HMAC_BYTES];
    for (at, ((_, payload), shared)) in hops.iter().zip(&shared_secrets).enumerate().rev() {
        let size = payload.len() + HMAC_BYTES;
        payloads.copy_within(..HOP_PAYLOADS_BYTES - size, size);
        payloads[..payload.len()].copy_from_slice(payload);
        payloads[payload.len()..size].copy_from_slice(&hmac);
        cipher::xor_stream(&cipher::derive(KeyType::Rho, shared), &mut payloads);
        if at + 1 == hops.len() {
            payloads[HOP_PAYLOADS_BYTES - filler.len()..].copy_from_slice(&filler);
        }
        let mu = cipher::derive(KeyType::Mu, shared);
        hmac = cipher::mac(mu.as_slice(), &[&payloads, &hash.0]);
    }
    let packet = assemble(&session_key.public_key(SECP256K1), &payloads, &hmac);
    Ok(Onion { packet, shared_secrets })
}

/// The secrets that a payer shares with each hop.
///
/// # Errors
/// [`OnionError::SessionKey`], practically never.
pub fn shared_secrets<'a>(
    session_key: &SecretKey,
    route: impl IntoIterator<Item = &'a PublicKey>,
) -> Result<Vec<[u8; 32]>, OnionError> {
    let mut ephemeral = *session_key;
    let mut secrets = Vec::new();
    for hop in route {
        let shared = cipher::shared_secret(hop, &ephemeral);
        let factor = cipher::blinding_factor(&ephemeral.public_key(SECP256K1), &shared);
        let scalar = Scalar::from_be_bytes(*factor).map_err(|_| OnionError::SessionKey)?;
        ephemeral = ephemeral.mul_tweak(&scalar).map_err(|_| OnionError::SessionKey)?;
        secrets.push(*shared);
    }
    Ok(secrets)
}

/// Takes the hops' layers off a failure packet, one by one, until its HMAC says whose it is. `None` if it
/// is nobody's, or says nothing.
#[must_use]
pub fn read_failure(shared_secrets: &[[u8; 32]], packet: &[u8]) -> Option<ReceivedFailure> {
    let mut packet = packet.to_vec();
    for (source_index, shared) in shared_secrets.iter().enumerate() {
        FailureKey::new(Zeroizing::new(*shared)).wrap(&mut packet);
        let (mac, body) = packet.split_at_checked(32)?;
        if cipher::mac_matches(cipher::derive(KeyType::Um, shared).as_slice(), &[body], mac) {
            let (length, rest) = body.split_at_checked(2)?;
            let length = usize::from(u16::from_be_bytes(length.try_into().ok()?));
            let (code, data) = rest.get(..length)?.split_at_checked(2)?;
            let code = u16::from_be_bytes(code.try_into().ok()?);
            return Some(ReceivedFailure { source_index, code, data: data.to_vec() });
        }
    }
    None
}

/// What the last hop will see behind its payload: what every hop before it shifted in.
fn filler(hops: &[(PublicKey, Vec<u8>)], shared_secrets: &[[u8; 32]]) -> Vec<u8> {
    let mut filler: Vec<u8> = Vec::new();
    let forwarding = hops.len().saturating_sub(1);
    for ((_, payload), shared) in hops.iter().zip(shared_secrets).take(forwarding) {
        let size = payload.len() + HMAC_BYTES;
        let start = HOP_PAYLOADS_BYTES - filler.len();
        let mut stream = vec![0; HOP_PAYLOADS_BYTES + size];
        cipher::xor_stream(&cipher::derive(KeyType::Rho, shared), &mut stream);
        filler.resize(filler.len() + size, 0);
        for (byte, pad) in filler.iter_mut().zip(&stream[start..]) {
            *byte ^= pad;
        }
    }
    filler
}
