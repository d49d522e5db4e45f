//! Onions and payloads that are not what they should be, and secrets that are not genuine.

use crate::world::{
    AMOUNT, FEE, HEIGHT, Heard, INCOMING_EXPIRY, OUTGOING_EXPIRY, World, incorrect_details, invalid_payload,
};
use mux_raft::types::{Msat, PaymentHash, PaymentSecret};
use muxd::keys::{ClusterKeys, ClusterSeed};
use muxd::onion::ONION_PACKET_BYTES;
use muxd::onion::payer::{PayloadBuilder, build_onion, frame, read_failure};
use muxd::screen::{Failure, FrontNodeCode, InterceptedHtlc, RejectCause, Screened, screen};
use secp256k1::{SECP256K1, SecretKey};

#[test]
fn a_short_onion_is_invalid_onion_key() {
    let mut world = World::new();
    let expected = (RejectCause::OnionLength, Heard::FrontNode(FrontNodeCode::InvalidOnionKey));
    world.spoil_onion = |onion| onion.truncate(ONION_PACKET_BYTES - 1);
    assert_eq!(world.reject(), expected);
    world.spoil_onion = |onion| onion.clear();
    assert_eq!(world.reject(), expected);
    world.spoil_onion = |onion| onion.push(0);
    assert_eq!(world.reject(), expected);
}

#[test]
fn a_wrong_version_is_invalid_onion_version() {
    let mut world = World::new();
    world.spoil_onion = |onion| onion[0] = 1;
    let expected = (RejectCause::OnionVersion, Heard::FrontNode(FrontNodeCode::InvalidOnionVersion));
    assert_eq!(world.reject(), expected);
}

#[test]
fn a_bad_key_is_invalid_onion_key() {
    let mut world = World::new();
    world.spoil_onion = |onion| onion[1] = 5;
    assert_eq!(world.reject(), (RejectCause::OnionKey, Heard::FrontNode(FrontNodeCode::InvalidOnionKey)));
}

#[test]
fn a_bad_hmac_is_invalid_onion_hmac() {
    let mut world = World::new();
    let expected = (RejectCause::OnionHmac, Heard::FrontNode(FrontNodeCode::InvalidOnionHmac));
    world.spoil_onion = |onion| *onion.last_mut().unwrap() ^= 1;
    assert_eq!(world.reject(), expected);
    // The onion of another payment.
    world.spoil_onion = |_| {};
    world.spoil_htlc = |htlc| htlc.hash = PaymentHash([1; 32]);
    assert_eq!(world.reject(), expected);
}

#[test]
fn lnd_numbers_of_the_front_nodes_codes() {
    let numbers = [
        FrontNodeCode::InvalidOnionVersion,
        FrontNodeCode::InvalidOnionHmac,
        FrontNodeCode::InvalidOnionKey,
        FrontNodeCode::TemporaryChannelFailure,
    ]
    .map(|code| code.lnd() as i32);
    assert_eq!(numbers, [8, 9, 10, 15]);
}

#[test]
fn asked_to_forward_we_know_no_next_peer() {
    // The same onion with one more hop behind us.
    let world = World::new();
    let session_key = SecretKey::from_slice(&[0x41; 32]).unwrap();
    let beyond = SecretKey::from_slice(&[0x33; 32]).unwrap().public_key(SECP256K1);
    let route = [
        (*world.keys.node_public(), PayloadBuilder::new(AMOUNT, OUTGOING_EXPIRY).scid(5).framed()),
        (beyond, world.honest_payload().framed()),
    ];
    let built = build_onion(&session_key, &route, &world.hash).unwrap();
    let htlc = InterceptedHtlc {
        chan_id: 7,
        htlc_id: 3,
        hash: world.hash,
        outgoing_amount_msat: AMOUNT,
        outgoing_expiry: OUTGOING_EXPIRY,
        incoming_amount_msat: Msat(AMOUNT.0 + FEE.0),
        incoming_expiry: INCOMING_EXPIRY,
        scid: world.policy.scid,
        onion: &built.packet,
        auto_fail_height: 1,
    };
    match screen(&world.keys, &htlc, |_| Some(world.policy), Some(HEIGHT)) {
        Screened::Reject { failure: Failure::Message(message), cause } => {
            assert_eq!(cause, RejectCause::NotFinal);
            let read = read_failure(&built.shared_secrets, &*message).unwrap();
            assert_eq!((read.source_index, read.code, read.data.len()), (0, 0x400a, 0));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn garbage_tlv_is_invalid_onion_payload() {
    let world = World::new().payload(frame(&[0x02, 0xff, 0xff]));
    assert_eq!(world.reject(), (RejectCause::Payload, invalid_payload("02", 1)));
    // Not a stream at all.
    let world = World::new().payload(vec![0xff; 40]);
    assert_eq!(world.reject(), (RejectCause::Payload, invalid_payload("00", 0)));
    // Right records in the wrong order: 2 comes at offset 1 + 6.
    let swapped = PayloadBuilder::default().record(4, &[0, 1][1..]).record(2, &[1]).framed();
    assert_eq!(World::new().payload(swapped).reject().1, invalid_payload("02", 4));
}

#[test]
fn an_unknown_even_record_is_named() {
    let world = World::new();
    let payload = world.honest_payload().record(65_536, &[]).framed();
    let (cause, heard) = world.payload(payload).reject();
    assert_eq!(cause, RejectCause::Payload);
    let Heard::VirtualNode { code: 0x4016, data } = heard else { panic!("{heard:?}") };
    assert!(data.starts_with("fe00010000"), "{data}");
}

#[test]
fn a_payload_without_an_amount_is_invalid() {
    let payload = PayloadBuilder::default().record(4, &[1]).framed();
    assert_eq!(World::new().payload(payload).reject(), (RejectCause::Payload, invalid_payload("02", 0)));
}

#[test]
fn a_wrong_secret_an_unknown_hash_and_a_probe_sound_the_same() {
    let expected = (RejectCause::SecretNotGenuine, incorrect_details(AMOUNT, HEIGHT));
    // Wrong secret for a known hash.
    let mut world = World::new();
    world.secret.0[31] ^= 1;
    assert_eq!(world.reject(), expected);
    // A probe: a hash nobody has, with a genuine secret of another invoice, and with noise.
    let mut world = World::new();
    world.hash = PaymentHash([0xaa; 32]);
    assert_eq!(world.reject(), expected);
    world.secret = PaymentSecret([0x55; 32]);
    assert_eq!(world.reject(), expected);
    // Another cluster's invoice.
    let mut world = World::new();
    let other = ClusterKeys::derive(&ClusterSeed::from_bytes([2; 32]));
    (world.secret, world.hash) = other.secrets().issue(&world.terms, &mut rand::rng()).unwrap();
    assert_eq!(world.reject(), expected);
}

#[test]
fn a_missing_secret_is_refused_in_the_same_voice() {
    let world = World::new().payload(PayloadBuilder::new(AMOUNT, OUTGOING_EXPIRY).framed());
    assert_eq!(world.reject(), (RejectCause::NoPaymentData, incorrect_details(AMOUNT, HEIGHT)));
}

#[test]
fn keysend_and_amp_are_refused_even_with_a_genuine_secret() {
    let expected = (RejectCause::Spontaneous, incorrect_details(AMOUNT, HEIGHT));
    let world = World::new();
    let payload = world.honest_payload().record(5_482_373_484, &[9; 32]).framed();
    assert_eq!(world.payload(payload).reject(), expected);
    let world = World::new();
    let payload = world.honest_payload().record(14, &[9; 65]).framed();
    assert_eq!(world.payload(payload).reject(), expected);
    let payload = PayloadBuilder::new(AMOUNT, OUTGOING_EXPIRY).record(5_482_373_484, &[9; 32]).framed();
    assert_eq!(World::new().payload(payload).reject(), expected);
}

#[test]
fn without_a_height_details_give_way_to_a_temporary_failure() {
    let mut world = World::new();
    world.height = None;
    world.secret.0[31] ^= 1;
    assert_eq!(
        world.reject(),
        (RejectCause::SecretNotGenuine, Heard::FrontNode(FrontNodeCode::TemporaryChannelFailure))
    );
}
