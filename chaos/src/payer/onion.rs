//! Onions as a real payer builds them: LDK makes the packet for the whole route, front node and virtual node.
//!
//! The simulated front node has no Sphinx of its own, so its layer is taken off here, as LND takes it off
//! before it offers an HTLC to its interceptor. The payer knows the session key, so it can derive every
//! hop's shared secret and needs no node's private key. The layer's MAC is checked: a packet that a front
//! node would refuse is refused here too. What the front node is told to forward is read from the packet,
//! not taken from the route.

use chacha20::{
    ChaCha20,
    cipher::{KeyIvInit as _, StreamCipher as _},
};
use hmac::{Hmac, Mac as _};
use lightning::{
    ln::{channelmanager::RecipientOnionFields, msgs::OnionPacket, onion_utils::create_payment_onion},
    routing::router::{Path, RouteHop},
    types::{
        features::{ChannelFeatures, NodeFeatures},
        payment,
    },
    util::ser::Writeable as _,
};
use mux_raft::types::{BlockHeight, NodePubkey, PaymentHash, PaymentSecret};
use rand::RngCore as _;
use secp256k1::{PublicKey, SECP256K1, Scalar, SecretKey, ecdh::SharedSecret};
use sha2::{Digest as _, Sha256};

const HOP_DATA_LEN: usize = 1300;
const HMAC_LEN: usize = 32;

/// An onion packet as `update_add_htlc` carries it (BOLT 4).
const PACKET_LEN: usize = 1 + 33 + HOP_DATA_LEN + HMAC_LEN;

/// The payer built a packet that the route's nodes would not take; always the payer's fault.
#[derive(Debug, thiserror::Error)]
pub enum OnionError {
    /// LDK refused the route or the amounts.
    #[error("LDK cannot build the onion: {0}")]
    Build(String),
    /// A key of the invoice is not a point.
    #[error("not a public key: {0}")]
    Key(#[from] secp256k1::Error),
    /// The front node's layer does not verify or does not parse.
    #[error("the front node's layer is broken: {0}")]
    Layer(&'static str),
}

/// The last hop, from a front node to the virtual node, as the invoice's hint describes it.
#[derive(Clone, Debug)]
pub struct Hop {
    /// The front node.
    pub front: NodePubkey,
    /// The virtual node: the invoice's signer.
    pub payee: NodePubkey,
    /// Virtual short channel id.
    pub scid: u64,
    /// What the front node takes for the hop, from the hint's policy.
    pub fee_msat: u64,
    /// The hint's delta.
    pub cltv_delta: u16,
}

/// What one part shall carry.
#[derive(Clone, Debug)]
pub struct PartTerms {
    /// What arrives at the virtual node.
    pub amount_msat: u64,
    /// Of the whole payment.
    pub total_msat: u64,
    /// Height that the payer believes in.
    pub height: BlockHeight,
    /// Blocks above the height at the virtual node: the invoice's delta and the payer's reserve.
    pub final_cltv: u32,
    /// What is paid.
    pub hash: PaymentHash,
    /// From the invoice (or not, if the payer cheats).
    pub secret: PaymentSecret,
}

/// An HTLC as the front node has it after taking its layer off.
pub struct BuiltOnion {
    /// The packet for the virtual node, 1366 bytes.
    pub packet: Vec<u8>,
    /// What the payer's HTLC to the front node carries.
    pub incoming_amount_msat: u64,
    /// When that HTLC ends.
    pub incoming_expiry: BlockHeight,
    /// What the onion tells the front node to forward.
    pub outgoing_amount_msat: u64,
    /// And until when.
    pub outgoing_expiry: BlockHeight,
    /// And where to.
    pub outgoing_scid: u64,
    /// For reading failures, front node first.
    pub secrets: HopSecrets,
}

/// The shared secrets of the route's hops, front node first. Not printable.
#[derive(Clone)]
pub struct HopSecrets(pub [[u8; 32]; 2]);

/// Builds the onion of one part with LDK and takes the front node's layer off.
///
/// # Errors
/// [`OnionError`], if the route or the amounts cannot be put into an onion.
pub fn build(hop: &Hop, terms: &PartTerms) -> Result<BuiltOnion, OnionError> {
    let front = PublicKey::from_slice(&hop.front.0)?;
    let payee = PublicKey::from_slice(&hop.payee.0)?;
    let session_key = SecretKey::new(&mut secp256k1::rand::thread_rng());
    let mut seed = [0; 32];
    rand::rng().fill_bytes(&mut seed);
    let path = Path {
        hops: vec![
            route_hop(front, 0, hop.fee_msat, u32::from(hop.cltv_delta)),
            route_hop(payee, hop.scid, terms.amount_msat, terms.final_cltv),
        ],
        blinded_tail: None,
    };
    let (packet, incoming_amount_msat, incoming_expiry) = create_payment_onion(
        SECP256K1,
        &path,
        &session_key,
        terms.total_msat,
        &RecipientOnionFields::secret_only(payment::PaymentSecret(terms.secret.0)),
        terms.height,
        &payment::PaymentHash(terms.hash.0),
        &None,
        None,
        seed,
    )
    .map_err(|error| OnionError::Build(format!("{error:?}")))?;
    let layer =
        take_layer_off(&packet, &SharedSecret::new(&front, &session_key).secret_bytes(), &terms.hash)?;
    let order = ForwardOrder::parse(&layer.payload)?;
    Ok(BuiltOnion {
        packet: layer.next_packet,
        incoming_amount_msat,
        incoming_expiry,
        outgoing_amount_msat: order.amount_msat,
        outgoing_expiry: order.expiry,
        outgoing_scid: order.scid,
        secrets: hop_secrets(&session_key, front, payee)?,
    })
}

/// The same as a front node hands it on: the packet is built for the virtual node alone, so there is no layer
/// to take off. For payments by the hundred thousand.
///
/// # Errors
/// [`OnionError`], if the route or the amounts cannot be put into an onion.
pub fn build_last_hop(hop: &Hop, terms: &PartTerms) -> Result<LastHop, OnionError> {
    let payee = PublicKey::from_slice(&hop.payee.0)?;
    let session_key = SecretKey::new(&mut secp256k1::rand::thread_rng());
    let mut seed = [0; 32];
    rand::rng().fill_bytes(&mut seed);
    let path = Path {
        hops: vec![route_hop(payee, hop.scid, terms.amount_msat, terms.final_cltv)],
        blinded_tail: None,
    };
    let (packet, amount_msat, expiry) = create_payment_onion(
        SECP256K1,
        &path,
        &session_key,
        terms.total_msat,
        &RecipientOnionFields::secret_only(payment::PaymentSecret(terms.secret.0)),
        terms.height,
        &payment::PaymentHash(terms.hash.0),
        &None,
        None,
        seed,
    )
    .map_err(|error| OnionError::Build(format!("{error:?}")))?;
    Ok(LastHop { packet: packet.encode(), amount_msat, expiry })
}

/// What [`build_last_hop`] gives.
pub struct LastHop {
    /// The packet for the virtual node, 1366 bytes.
    pub packet: Vec<u8>,
    /// What the onion says is forwarded.
    pub amount_msat: u64,
    /// And until when.
    pub expiry: BlockHeight,
}

fn route_hop(pubkey: PublicKey, short_channel_id: u64, fee_msat: u64, cltv_expiry_delta: u32) -> RouteHop {
    RouteHop {
        pubkey,
        node_features: NodeFeatures::empty(),
        short_channel_id,
        channel_features: ChannelFeatures::empty(),
        fee_msat,
        cltv_expiry_delta,
        maybe_announced_channel: true,
    }
}

fn hop_secrets(
    session_key: &SecretKey,
    front: PublicKey,
    payee: PublicKey,
) -> Result<HopSecrets, OnionError> {
    let first = SharedSecret::new(&front, session_key).secret_bytes();
    let blinding = blinding_factor(&session_key.public_key(SECP256K1), &first);
    let next_key = session_key.mul_tweak(&blinding)?;
    Ok(HopSecrets([first, SharedSecret::new(&payee, &next_key).secret_bytes()]))
}

fn blinding_factor(ephemeral: &PublicKey, secret: &[u8; 32]) -> Scalar {
    let digest = Sha256::new().chain_update(ephemeral.serialize()).chain_update(secret).finalize();
    Scalar::from_be_bytes(digest.into())
        .expect("a SHA-256 digest above the group order is not met in practice")
}

/// A BOLT 4 sub-key of a hop's shared secret.
pub(super) fn sub_key(kind: &[u8], secret: &[u8; 32]) -> [u8; 32] {
    mac(kind, &[secret])
}

pub(super) fn mac(key: &[u8], chunks: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for chunk in chunks {
        mac.update(chunk);
    }
    mac.finalize().into_bytes().into()
}

/// Adds a front node's layer of obfuscation to a failure packet, as LND does with what its interceptor gave.
#[must_use]
pub fn obfuscate_failure(packet: &[u8], secret: &[u8; 32]) -> Vec<u8> {
    let mut bytes = packet.to_vec();
    ChaCha20::new(&sub_key(b"ammag", secret).into(), &[0; 12].into()).apply_keystream(&mut bytes);
    bytes
}

struct Layer {
    payload: Vec<u8>,
    next_packet: Vec<u8>,
    #[cfg(test)]
    is_final: bool,
}

fn take_layer_off(packet: &OnionPacket, secret: &[u8; 32], hash: &PaymentHash) -> Result<Layer, OnionError> {
    let bytes = packet.encode();
    if bytes.len() != PACKET_LEN {
        return Err(OnionError::Layer("wrong length"));
    }
    if mac(&sub_key(b"mu", secret), &[&packet.hop_data, &hash.0]) != packet.hmac {
        return Err(OnionError::Layer("MAC does not verify"));
    }
    let mut data = [0_u8; HOP_DATA_LEN * 2];
    data[..HOP_DATA_LEN].copy_from_slice(&packet.hop_data);
    ChaCha20::new(&sub_key(b"rho", secret).into(), &[0; 12].into()).apply_keystream(&mut data);
    let (payload_len, prefix) = big_size(&data)?;
    let payload_len = usize::try_from(payload_len).map_err(|_| OnionError::Layer("payload too long"))?;
    let end = prefix + payload_len;
    if end + HMAC_LEN > HOP_DATA_LEN {
        return Err(OnionError::Layer("payload too long"));
    }
    let ephemeral = packet.public_key.map_err(OnionError::Key)?;
    let next = ephemeral.mul_tweak(SECP256K1, &blinding_factor(&ephemeral, secret))?;
    let next_hmac = &data[end..end + HMAC_LEN];
    let mut next_packet = Vec::with_capacity(PACKET_LEN);
    next_packet.push(0);
    next_packet.extend_from_slice(&next.serialize());
    next_packet.extend_from_slice(&data[end + HMAC_LEN..end + HMAC_LEN + HOP_DATA_LEN]);
    next_packet.extend_from_slice(next_hmac);
    Ok(Layer {
        payload: data[prefix..end].to_vec(),
        next_packet,
        #[cfg(test)]
        is_final: next_hmac.iter().all(|byte| *byte == 0),
    })
}

/// BOLT 1 `bigsize`: the value and the bytes it took.
fn big_size(bytes: &[u8]) -> Result<(u64, usize), OnionError> {
    let short = OnionError::Layer("cut off");
    let (width, start) = match bytes.first() {
        None => return Err(short),
        Some(0xfd) => (2, 1),
        Some(0xfe) => (4, 1),
        Some(0xff) => (8, 1),
        Some(_) => (1, 0),
    };
    let value = bytes.get(start..start + width).ok_or(short)?;
    Ok((truncated_u64(value), start + width))
}

fn truncated_u64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |value, byte| (value << 8) | u64::from(*byte))
}

/// What a forwarding hop's payload says: TLV 2, 4 and 6 of BOLT 4.
#[derive(Default)]
struct ForwardOrder {
    amount_msat: u64,
    expiry: BlockHeight,
    scid: u64,
}

impl ForwardOrder {
    fn parse(mut payload: &[u8]) -> Result<Self, OnionError> {
        let mut order = Self::default();
        while !payload.is_empty() {
            let (kind, kind_len) = big_size(payload)?;
            let (len, len_len) = big_size(&payload[kind_len..])?;
            let start = kind_len + len_len;
            let len = usize::try_from(len).map_err(|_| OnionError::Layer("TLV too long"))?;
            let value = payload.get(start..start + len).ok_or(OnionError::Layer("TLV cut off"))?;
            match kind {
                2 => order.amount_msat = truncated_u64(value),
                4 => {
                    order.expiry =
                        truncated_u64(value).try_into().map_err(|_| OnionError::Layer("expiry too far"))?;
                }
                6 => order.scid = truncated_u64(value),
                _ => {}
            }
            payload = &payload[start + len..];
        }
        if order.scid == 0 { Err(OnionError::Layer("no next channel")) } else { Ok(order) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lightning::util::ser::Readable as _;

    fn key(byte: u8) -> (SecretKey, NodePubkey) {
        let secret = SecretKey::from_slice(&[byte; 32]).unwrap();
        (secret, NodePubkey(secret.public_key(SECP256K1).serialize()))
    }

    fn terms() -> PartTerms {
        PartTerms {
            amount_msat: 40_000,
            total_msat: 100_000,
            height: 800_000,
            final_cltv: 83,
            hash: PaymentHash([9; 32]),
            secret: PaymentSecret([5; 32]),
        }
    }

    #[test]
    fn front_node_is_told_what_the_hint_says() {
        let (_, front) = key(1);
        let (_, payee) = key(2);
        let hop = Hop { front, payee, scid: 9_000_000 << 40, fee_msat: 7, cltv_delta: 80 };
        let built = build(&hop, &terms()).unwrap();
        assert_eq!(built.outgoing_amount_msat, 40_000);
        assert_eq!(built.incoming_amount_msat, 40_007);
        assert_eq!(built.outgoing_expiry, 800_083);
        assert_eq!(built.incoming_expiry, 800_163);
        assert_eq!(built.outgoing_scid, hop.scid);
        assert_eq!(built.packet.len(), PACKET_LEN);
    }

    #[test]
    fn virtual_node_can_open_the_last_layer_with_its_own_key() {
        let (_, front) = key(1);
        let (payee_key, payee) = key(2);
        let hop = Hop { front, payee, scid: 9_000_000 << 40, fee_msat: 0, cltv_delta: 80 };
        let built = build(&hop, &terms()).unwrap();
        let packet = OnionPacket::read(&mut built.packet.as_slice()).unwrap();
        let secret = SharedSecret::new(&packet.public_key.unwrap(), &payee_key).secret_bytes();
        assert_eq!(secret, built.secrets.0[1], "payer and payee derive the same secret");
        let layer = take_layer_off(&packet, &secret, &terms().hash).unwrap();
        assert!(layer.is_final);
        assert!(layer.payload.windows(32).any(|window| window == [5; 32]), "carries the payment secret");
    }

    #[test]
    fn a_packet_for_the_last_hop_alone_says_the_same_to_the_virtual_node() {
        let (_, front) = key(1);
        let (payee_key, payee) = key(2);
        let hop = Hop { front, payee, scid: 9_000_000 << 40, fee_msat: 7, cltv_delta: 80 };
        let open = |packet: &[u8]| {
            let packet = OnionPacket::read(&mut &*packet).unwrap();
            let secret = SharedSecret::new(&packet.public_key.unwrap(), &payee_key).secret_bytes();
            take_layer_off(&packet, &secret, &terms().hash).unwrap()
        };
        let (whole, last) = (build(&hop, &terms()).unwrap(), build_last_hop(&hop, &terms()).unwrap());
        assert_eq!(open(&whole.packet).payload, open(&last.packet).payload);
        assert!(open(&last.packet).is_final);
        assert_eq!((last.amount_msat, last.expiry), (whole.outgoing_amount_msat, whole.outgoing_expiry));
    }

    #[test]
    fn broken_mac_is_refused() {
        let (_, front) = key(1);
        let (payee_key, payee) = key(2);
        let hop = Hop { front, payee, scid: 9_000_000 << 40, fee_msat: 0, cltv_delta: 80 };
        let mut built = build(&hop, &terms()).unwrap();
        built.packet[100] ^= 1;
        let packet = OnionPacket::read(&mut built.packet.as_slice()).unwrap();
        let secret = SharedSecret::new(&packet.public_key.unwrap(), &payee_key).secret_bytes();
        assert!(matches!(take_layer_off(&packet, &secret, &terms().hash), Err(OnionError::Layer(_))));
    }
}
