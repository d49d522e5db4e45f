//! A second opinion: onions that LDK makes are opened by us, and failures that we encrypt are read by a
//! real LDK payer, through a real LDK node that plays the front node.
//!
//! LDK does not show a failure's data to its user without its test features (which pull in a C++ build of
//! Bitcoin's consensus code), but it authenticates the whole packet before it logs source and code. So the
//! data is looked at in the very bytes that LDK found genuine.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code, helper functions included")]

mod nodes;

use lightning::events::{Event, PathFailure};
use lightning::ln::channelmanager::{PaymentId, RecipientOnionFields};
use lightning::ln::msgs::OnionPacket;
use lightning::ln::onion_utils::create_payment_onion;
use lightning::routing::gossip::NetworkUpdate;
use lightning::routing::router::{Path, Route, RouteHop};
use lightning::types::features::{ChannelFeatures, NodeFeatures};
use lightning::types::payment as ldk;
use mux_raft::machine::model::{FrontNodePolicy, InvoiceKind, InvoiceTerms};
use mux_raft::types::{Msat, NodePubkey, PaymentHash, PaymentSecret};
use muxd::keys::{ClusterKeys, ClusterSeed};
use muxd::onion::{FailureKey, FailureMessage, ONION_PACKET_BYTES, forwarder, peel};
use muxd::screen::{Failure, InterceptedHtlc, RejectCause, Screened, screen};
use nodes::{HEIGHT, Pair};
use secp256k1::{PublicKey, SECP256K1, SecretKey};

const AMOUNT: Msat = Msat(5_000_000);
const FEE: Msat = Msat(1_000);

fn keys() -> ClusterKeys {
    ClusterKeys::derive(&ClusterSeed::from_bytes([1; 32]))
}

/// A genuine invoice's hash and secret.
fn invoice() -> (PaymentHash, PaymentSecret) {
    let terms = InvoiceTerms {
        kind: InvoiceKind::Stateless,
        amount_msat: AMOUNT,
        expires_at_ms: 1_800_000_000_000,
        min_final_cltv: 80,
        key_epoch: 0,
    };
    let (secret, hash) = keys().secrets().issue(&terms, &mut rand::rng()).unwrap();
    (hash, secret)
}

fn policy() -> FrontNodePolicy {
    let scid = keys().virtual_scid(&NodePubkey([2; 33]), 0, &|_| false);
    FrontNodePolicy { scid, fee_base_msat: 1_000, fee_ppm: 0, cltv_delta: 80 }
}

fn hop(pubkey: PublicKey, scid: u64, fee_msat: Msat, cltv_delta: u32) -> RouteHop {
    RouteHop {
        pubkey,
        node_features: NodeFeatures::empty(),
        short_channel_id: scid,
        channel_features: ChannelFeatures::empty(),
        fee_msat: fee_msat.0,
        cltv_expiry_delta: cltv_delta,
        maybe_announced_channel: false,
    }
}

/// Payer → front node → virtual node, as the hint of an invoice makes it.
fn path(front: PublicKey, first_scid: u64) -> Path {
    let hops = vec![
        hop(front, first_scid, FEE, u32::from(policy().cltv_delta)),
        hop(*keys().node_public(), policy().scid, AMOUNT, 83),
    ];
    Path { hops, blinded_tail: None }
}

fn bytes(onion: &OnionPacket) -> Vec<u8> {
    let key = onion.public_key.unwrap().serialize();
    [&[onion.version], key.as_slice(), &onion.hop_data, &onion.hmac].concat()
}

/// The front node's view: its layer off, and what LND would offer to us.
struct Forwarded {
    hop: forwarder::Hop,
    next: [u8; ONION_PACKET_BYTES],
}

impl Forwarded {
    fn new(front: &SecretKey, hash: &PaymentHash, onion: &OnionPacket) -> Self {
        let hop = forwarder::take_layer(front, hash, &bytes(onion)).unwrap();
        let next = hop.next.unwrap();
        Self { hop, next }
    }

    fn screened(&self, hash: PaymentHash, incoming_amount_msat: Msat, incoming_expiry: u32) -> Screened {
        let forward = self.hop.forward_payload().unwrap();
        let htlc = InterceptedHtlc {
            chan_id: 1,
            htlc_id: 0,
            hash,
            outgoing_amount_msat: forward.amt_to_forward,
            outgoing_expiry: forward.outgoing_cltv,
            incoming_amount_msat,
            incoming_expiry,
            scid: forward.scid,
            onion: &self.next,
            auto_fail_height: i32::try_from(incoming_expiry).unwrap() - 19,
        };
        let policy_of = |scid| (scid == policy().scid).then(policy);
        screen(&keys(), &htlc, policy_of, Some(HEIGHT))
    }
}

#[test]
fn onions_made_by_ldk_are_opened_and_offered() {
    let front = SecretKey::from_slice(&[0x22; 32]).unwrap();
    for round in 1..=50_u8 {
        let (hash, secret) = invoice();
        let mut recipient = RecipientOnionFields::secret_only(ldk::PaymentSecret(secret.0));
        if round % 2 == 0 {
            recipient.payment_metadata = Some(vec![round; usize::from(round)]);
            recipient = recipient.with_custom_tlvs(vec![(65_537, vec![round])]).unwrap();
        }
        let (onion, first_amount, first_expiry) = create_payment_onion(
            SECP256K1,
            &path(front.public_key(SECP256K1), 7),
            &SecretKey::from_slice(&[round; 32]).unwrap(),
            AMOUNT.0,
            &recipient,
            HEIGHT + 1,
            &ldk::PaymentHash(hash.0),
            &None,
            None,
            [round; 32],
        )
        .unwrap();
        let forwarded = Forwarded::new(&front, &hash, &onion);
        let peeled = peel(keys().node_secret(), &hash, &forwarded.next).unwrap();
        assert!(peeled.is_final);
        let payload = peeled.payload.unwrap();
        assert_eq!(payload.amt_to_forward, AMOUNT);
        assert_eq!(payload.outgoing_cltv, HEIGHT + 1 + 83);
        assert_eq!(payload.payment_metadata, recipient.payment_metadata);
        assert_eq!(payload.custom, *recipient.custom_tlvs());
        let data = payload.payment_data.unwrap();
        assert_eq!((data.secret.clone(), data.total_msat), (secret, AMOUNT));
        match forwarded.screened(hash, Msat(first_amount), first_expiry) {
            Screened::Offer { offer, .. } => {
                assert_eq!(offer.incoming_amount_msat, Msat(AMOUNT.0 + FEE.0));
                assert_eq!(offer.incoming_expiry, offer.outgoing_expiry + 80);
            }
            other => panic!("round {round}: {other:?}"),
        }
    }
}

#[test]
fn keysend_made_by_ldk_is_refused() {
    let front = SecretKey::from_slice(&[0x22; 32]).unwrap();
    let preimage = ldk::PaymentPreimage([9; 32]);
    let hash: ldk::PaymentHash = preimage.into();
    let (onion, amount, expiry) = create_payment_onion(
        SECP256K1,
        &path(front.public_key(SECP256K1), 7),
        &SecretKey::from_slice(&[3; 32]).unwrap(),
        AMOUNT.0,
        &RecipientOnionFields::spontaneous_empty(),
        HEIGHT + 1,
        &hash,
        &Some(preimage),
        None,
        [1; 32],
    )
    .unwrap();
    let hash = PaymentHash(hash.0);
    let forwarded = Forwarded::new(&front, &hash, &onion);
    let peeled = peel(keys().node_secret(), &hash, &forwarded.next).unwrap();
    assert!(peeled.payload.unwrap().has_keysend_preimage);
    assert!(matches!(
        forwarded.screened(hash, Msat(amount), expiry),
        Screened::Reject { cause: RejectCause::Spontaneous, .. }
    ));
}

/// What an LDK payer makes of a failure.
struct Heard {
    log: String,
    permanent: bool,
    scid: Option<u64>,
    update: Option<NetworkUpdate>,
}

/// One payment of an LDK payer over an LDK front node. `fail` gets what the front node forwards and the
/// virtual node's failure key, and answers with the virtual node's failure packet.
fn pay(
    pair: &mut Pair,
    (hash, secret): (PaymentHash, PaymentSecret),
    fail: impl FnOnce(&Forwarded, Msat, u32) -> [u8; 292],
) -> Heard {
    let route = Route { paths: vec![path(pair.front_id(), pair.scid())], route_params: None };
    let recipient = RecipientOnionFields::secret_only(ldk::PaymentSecret(secret.0));
    let id = PaymentId(hash.0);
    pair.payer.manager.send_payment_with_route(route, ldk::PaymentHash(hash.0), recipient, id).unwrap();
    let add = pair.deliver_htlc();
    assert_eq!(add.payment_hash.0, hash.0);
    let forwarded = Forwarded::new(&pair.front.keys.get_node_secret_key(), &hash, &add.onion_routing_packet);
    let mut packet = fail(&forwarded, Msat(add.amount_msat), add.cltv_expiry);
    forwarded.hop.failure_key.wrap(&mut packet);
    pair.payer.outside.clear_log();
    pair.fail_htlc(&packet);
    let mut heard = None;
    for event in pair.payer.events() {
        if let Event::PaymentPathFailed { payment_failed_permanently, failure, short_channel_id, .. } = event
        {
            let PathFailure::OnPath { network_update } = failure else { panic!("{failure:?}") };
            let log = pair.payer.outside.onion_error();
            heard = Some(Heard {
                log,
                permanent: payment_failed_permanently,
                scid: short_channel_id,
                update: network_update,
            });
        }
    }
    heard.expect("the payer heard of the failure")
}

#[test]
fn an_ldk_payer_attributes_every_failure_to_the_virtual_node() {
    let mut pair = Pair::connected();
    let virtual_node = *keys().node_public();
    let messages = [
        FailureMessage::IncorrectOrUnknownPaymentDetails { htlc_msat: AMOUNT, height: HEIGHT },
        FailureMessage::MppTimeout,
        FailureMessage::FinalIncorrectCltvExpiry { cltv_expiry: HEIGHT },
        FailureMessage::FinalIncorrectHtlcAmount { htlc_msat: AMOUNT },
        FailureMessage::InvalidOnionPayload { tlv_type: 65_536, offset: 50 },
        FailureMessage::UnknownNextPeer,
        FailureMessage::TemporaryNodeFailure,
    ];
    for message in messages {
        let (hash, secret) = invoice();
        let heard = pay(&mut pair, (hash, secret), |forwarded, _, _| {
            peel(keys().node_secret(), &hash, &forwarded.next).unwrap().failure_key.encrypt(&message)
        });
        assert!(heard.log.contains(&format!("Onion Error[from {virtual_node}: ")), "{}", heard.log);
        assert!(heard.log.contains(&format!("({:#x})", message.code())), "{message:?}: {}", heard.log);
        match message {
            // For good: the payer neither tries again nor blames anybody.
            FailureMessage::IncorrectOrUnknownPaymentDetails { .. } => {
                assert!(heard.permanent && heard.scid.is_none() && heard.update.is_none());
            }
            // The last hop is blamed, and other hints are tried.
            FailureMessage::FinalIncorrectCltvExpiry { .. }
            | FailureMessage::FinalIncorrectHtlcAmount { .. } => {
                assert!(!heard.permanent);
                assert_eq!(heard.scid, Some(policy().scid));
            }
            FailureMessage::MppTimeout => assert!(!heard.permanent),
            FailureMessage::InvalidOnionPayload { .. } | FailureMessage::UnknownNextPeer => {}
            FailureMessage::TemporaryNodeFailure => {
                assert!(!heard.permanent);
                assert!(matches!(heard.update,
                    Some(NetworkUpdate::NodeFailure { node_id, is_permanent: false })
                        if node_id == virtual_node));
            }
        }
    }
}

#[test]
fn an_ldk_payers_probe_hears_incorrect_details_with_amount_and_height() {
    let mut pair = Pair::connected();
    let (hash, mut secret) = invoice();
    secret.0[5] ^= 1;
    let mut packet_at_source = None;
    let mut virtual_key = None;
    let heard = pay(&mut pair, (hash, secret), |forwarded, amount, expiry| {
        let Screened::Reject { failure: Failure::Message(message), cause } =
            forwarded.screened(hash, amount, expiry)
        else {
            panic!("a wrong secret must be refused by the virtual node")
        };
        assert_eq!(cause, RejectCause::SecretNotGenuine);
        virtual_key = Some(peel(keys().node_secret(), &hash, &forwarded.next).unwrap().failure_key);
        packet_at_source = Some(*message);
        *message
    });
    assert!(heard.permanent);
    assert!(heard.log.contains("0x400f") && heard.log.contains(&keys().node_public().to_string()));
    // The bytes that LDK authenticated say amount and height. With the virtual node's layer off they are
    // in the clear: 32 bytes of HMAC, 2 of length, 2 of code.
    let mut plain = packet_at_source.unwrap();
    FailureKey::wrap(&virtual_key.unwrap(), &mut plain);
    let expected = format!("000e400f{:016x}{HEIGHT:08x}00f2", AMOUNT.0);
    assert_eq!(hex::encode(&plain[32..50]), expected);
}

#[test]
fn an_altered_failure_is_nobodys_to_an_ldk_payer() {
    let mut pair = Pair::connected();
    let (hash, secret) = invoice();
    let heard = pay(&mut pair, (hash, secret), |forwarded, _, _| {
        let peeled = peel(keys().node_secret(), &hash, &forwarded.next).unwrap();
        let mut packet = peeled.failure_key.encrypt(&FailureMessage::MppTimeout);
        packet[100] ^= 1;
        packet
    });
    assert!(!heard.log.contains("Onion Error[from"), "{}", heard.log);
}
