//! Onions and failure packets against BOLT 4's test vectors: against the files where they are at hand, and
//! in any case against a few facts taken from them (lightning/bolts, bolt04/onion-test.json and
//! onion-error-test.json, CC-BY 4.0).

#![allow(clippy::unwrap_used, reason = "test code, helper functions included")]

use mux_raft::types::{Msat, PaymentHash};
use muxd::onion::payer::{OnionError, build_onion, frame, read_failure, shared_secrets};
use muxd::onion::{FailureKey, FailureMessage, ONION_PACKET_BYTES, PayloadFault, PeelError, forwarder, peel};
use secp256k1::{PublicKey, SECP256K1, SecretKey};
use sha2::{Digest as _, Sha256};
use std::path::Path;

const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors");

const HASH: PaymentHash = PaymentHash([0x42; 32]);

/// Shared secrets of the five hops.
const SHARED_SECRETS: [&str; 5] = [
    "53eb63ea8a3fec3b3cd433b85cd62a4b145e1dda09391b348c4e1cd36a03ea66",
    "a6519e98832a0b179f62123b3567c106db99ee37bef036e783263602f3488fae",
    "3a6b412548762f0dbccce5c7ae7bb8147d1caf9b5471c34120b30bc9c04891cc",
    "21e13c2d7cfe7e18836df50872466117a295783ab8aab0e7ecc8c725503ad02d",
    "b5756b9b542727dbafc6765a49488b023a725d631af688fc031217e90770c328",
];

/// SHA-256 of the onion that the file has.
const ONION_SHA256: &str = "92e0742510440ed2368e1c03aed09d49a2e4cb4409c88ee0ad02a35c4a4b495a";

/// SHA-256 of the failure packet that the file has.
const ERROR_SHA256: &str = "3ba4a39c222872dbe9d2a583aedb40d6baf29fc46c4379152997939d5144115c";

fn session_key() -> SecretKey {
    SecretKey::from_slice(&[0x41; 32]).unwrap()
}

/// Private keys of the five hops.
fn hop_keys() -> Vec<SecretKey> {
    (0x41..=0x45_u8).map(|byte| SecretKey::from_slice(&[byte; 32]).unwrap()).collect()
}

/// The five payloads with their lengths.
fn payloads() -> Vec<Vec<u8>> {
    let counting: Vec<u8> = (0..60).map(|at| at % 15 + 1).collect();
    let long = "22".to_owned()
        + "24a33562c54507a9334e79f0dc4f17d407e6d7c61f0e2f3d0d38599502f617042710"
        + "fd012de0"
        + &"2a".repeat(224);
    [
        "1202023a98040205dc06080000000000000001".to_owned(),
        format!("52020236b00402057806080000000000000002fd02013c{}", hex::encode(counting)),
        "12020230d4040204e206080000000000000003".to_owned(),
        "1202022710040203e806080000000000000004".to_owned(),
        format!("fd011002022710040203e808{long}"),
    ]
    .iter()
    .map(|text| hex::decode(text).unwrap())
    .collect()
}

fn route() -> Vec<(PublicKey, Vec<u8>)> {
    hop_keys().iter().map(|key| key.public_key(SECP256K1)).zip(payloads()).collect()
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// A vector file, or `None` (said aloud) if it is not there.
fn vectors(name: &str) -> Option<serde_json::Value> {
    let path = Path::new(VECTORS).join(name);
    if !path.exists() {
        eprintln!("SKIPPED: no {} here; only the embedded facts were checked", path.display());
        return None;
    }
    Some(serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
}

fn unhex(value: &serde_json::Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

#[test]
fn shared_secrets_are_those_of_bolt_4() {
    let keys: Vec<PublicKey> = hop_keys().iter().map(|key| key.public_key(SECP256K1)).collect();
    let secrets = shared_secrets(&session_key(), &keys).unwrap();
    assert_eq!(secrets.iter().map(hex::encode).collect::<Vec<_>>(), SHARED_SECRETS);
}

#[test]
fn the_onion_is_that_of_bolt_4() {
    let onion = build_onion(&session_key(), &route(), &HASH).unwrap();
    assert_eq!(sha256(&onion.packet), ONION_SHA256);
}

#[test]
fn five_hops_peel_the_onion_of_bolt_4() {
    let mut packet = build_onion(&session_key(), &route(), &HASH).unwrap().packet;
    for (at, (key, payload)) in hop_keys().iter().zip(payloads()).enumerate() {
        let hop = forwarder::take_layer(key, &HASH, &packet).unwrap();
        assert_eq!(frame(&hop.payload), payload, "hop {at}");
        if at < 4 {
            let forward = hop.forward_payload().unwrap();
            assert_eq!(forward.scid, at as u64 + 1);
            assert_eq!(forward.amt_to_forward, Msat([15_000, 14_000, 12_500, 10_000][at]));
            assert_eq!(forward.outgoing_cltv, [1500, 1400, 1250, 1000][at]);
            assert!(!peel(key, &HASH, &packet).unwrap().is_final);
            packet = hop.next.unwrap();
        } else {
            assert!(hop.next.is_none());
        }
    }
    let last = peel(&hop_keys()[4], &HASH, &packet).unwrap();
    assert!(last.is_final);
    let payload = last.payload.unwrap();
    assert_eq!((payload.amt_to_forward, payload.outgoing_cltv), (Msat(10_000), 1000));
    let data = payload.payment_data.unwrap();
    assert_eq!(data.total_msat, Msat(10_000));
    assert_eq!(
        hex::encode(data.secret.0),
        "24a33562c54507a9334e79f0dc4f17d407e6d7c61f0e2f3d0d38599502f61704"
    );
}

/// The key of the hop that fails, as its own peel gives it, and those of the hops before it.
fn failure_keys() -> Vec<FailureKey> {
    let mut packet = build_onion(&session_key(), &route(), &HASH).unwrap().packet;
    let mut keys = Vec::new();
    for key in hop_keys() {
        let hop = forwarder::take_layer(&key, &HASH, &packet).unwrap();
        keys.push(hop.failure_key);
        packet = hop.next.unwrap_or(packet);
    }
    keys
}

#[test]
fn the_failure_packet_is_that_of_bolt_4() {
    let keys = failure_keys();
    let mut packet = keys[4].encrypt(&FailureMessage::TemporaryNodeFailure);
    for key in keys[..4].iter().rev() {
        key.wrap(&mut packet);
    }
    assert_eq!(sha256(&packet), ERROR_SHA256);
    let secrets = shared_secrets(&session_key(), route().iter().map(|(key, _)| key)).unwrap();
    let read = read_failure(&secrets, &packet).unwrap();
    assert_eq!((read.source_index, read.code, read.data), (4, 0x2002, vec![]));
}

#[test]
fn the_vector_files_say_the_same() {
    if let Some(file) = vectors("onion-test.json") {
        let generate = &file["generate"];
        let hops: Vec<(PublicKey, Vec<u8>)> = generate["hops"]
            .as_array()
            .unwrap()
            .iter()
            .map(|hop| (PublicKey::from_slice(&unhex(&hop["pubkey"])).unwrap(), unhex(&hop["payload"])))
            .collect();
        assert_eq!(hops, route(), "the embedded route is not the file's");
        let session = SecretKey::from_slice(&unhex(&generate["session_key"])).unwrap();
        let hash = PaymentHash::try_from(&unhex(&generate["associated_data"])[..]).unwrap();
        let built = build_onion(&session, &hops, &hash).unwrap();
        assert_eq!(built.packet.to_vec(), unhex(&file["onion"]));
        let mut packet = unhex(&file["onion"]);
        for (key, (_, payload)) in file["decode"].as_array().unwrap().iter().zip(&hops) {
            let key = SecretKey::from_slice(&unhex(key)).unwrap();
            let hop = forwarder::take_layer(&key, &hash, &packet).unwrap();
            assert_eq!(&frame(&hop.payload), payload);
            packet = hop.next.map_or_else(Vec::new, |next| next.to_vec());
        }
        assert!(packet.is_empty(), "the last hop has nobody after it");
    }
    if let Some(file) = vectors("onion-error-test.json") {
        let hops = file["generate"]["hops"].as_array().unwrap();
        let secrets: Vec<[u8; 32]> =
            hops.iter().map(|hop| unhex(&hop["hop_shared_secret"]).try_into().unwrap()).collect();
        let read = read_failure(&secrets, &unhex(&file["errorpacket"])).unwrap();
        assert_eq!(read.source_index, 4);
        assert_eq!(read.code.to_be_bytes().to_vec(), unhex(&file["generate"]["failure_message"]));
    }
}

#[test]
fn a_failure_is_attributed_to_the_hop_that_sent_it() {
    let keys = failure_keys();
    let secrets = shared_secrets(&session_key(), route().iter().map(|(key, _)| key)).unwrap();
    let message =
        FailureMessage::IncorrectOrUnknownPaymentDetails { htlc_msat: Msat(10_000), height: 800_000 };
    for source in 0..5 {
        let mut packet = keys[source].encrypt(&message);
        for key in keys[..source].iter().rev() {
            key.wrap(&mut packet);
        }
        let read = read_failure(&secrets, &packet).unwrap();
        assert_eq!((read.source_index, read.code), (source, 0x400f));
        assert_eq!(read.data, hex::decode("0000000000002710000c3500").unwrap());
        for at in [0, 31, 32, 40, 291] {
            let mut altered = packet;
            altered[at] ^= 1;
            assert_eq!(read_failure(&secrets, &altered), None, "byte {at}");
        }
    }
    assert_eq!(read_failure(&secrets, &[]), None);
    assert_eq!(read_failure(&secrets, &[0; 33]), None);
}

#[test]
fn every_altered_byte_of_an_onion_is_refused() {
    let onion = build_onion(&session_key(), &[route()[4].clone()], &HASH).unwrap();
    let key = hop_keys()[4];
    let good = onion.packet;
    assert!(peel(&key, &HASH, &good).is_ok());
    for at in 0..ONION_PACKET_BYTES {
        let mut altered = good;
        altered[at] ^= 1;
        let error = peel(&key, &HASH, &altered).unwrap_err();
        match at {
            0 => assert_eq!(error, PeelError::Version(1)),
            // The parity, or another x: maybe a point, but not this one.
            1..34 => assert!(matches!(error, PeelError::Key | PeelError::Hmac), "byte {at}: {error}"),
            _ => assert_eq!(error, PeelError::Hmac, "byte {at}"),
        }
    }
    assert_eq!(peel(&key, &PaymentHash([0x43; 32]), &good).unwrap_err(), PeelError::Hmac);
    assert_eq!(peel(&hop_keys()[3], &HASH, &good).unwrap_err(), PeelError::Hmac);
}

#[test]
fn onions_of_another_length_version_or_key_are_told_apart() {
    let key = hop_keys()[4];
    let good = build_onion(&session_key(), &[route()[4].clone()], &HASH).unwrap().packet;
    let error = |onion: &[u8]| peel(&key, &HASH, onion).unwrap_err();
    assert_eq!(error(&[]), PeelError::Length(0));
    assert_eq!(error(&good[..1365]), PeelError::Length(1365));
    assert_eq!(error(&[good.as_slice(), &[0]].concat()), PeelError::Length(1367));
    assert_eq!(error(&[7; 10]), PeelError::Version(7));
    let mut no_point = good;
    no_point[1..34].copy_from_slice(&[0xff; 33]);
    assert_eq!(error(&no_point), PeelError::Key);
}

#[test]
fn payload_lengths_that_make_no_sense_are_payload_errors() {
    let key = hop_keys()[4];
    let public = key.public_key(SECP256K1);
    let fault = |payload: Vec<u8>| {
        let onion = build_onion(&session_key(), &[(public, payload)], &HASH).unwrap();
        let peeled = peel(&key, &HASH, &onion.packet).unwrap();
        assert!(peeled.is_final);
        let error = peeled.payload.unwrap_err();
        (error.fault, error.offset)
    };
    assert_eq!(fault(vec![0]), (PayloadFault::Length, 0), "the old fixed format");
    assert_eq!(fault(vec![1, 0]), (PayloadFault::Length, 0), "reserved");
    assert_eq!(fault(vec![0xfd, 0, 2, 0, 0]), (PayloadFault::Encoding, 0));
    assert_eq!(fault(vec![0xfd, 0xff, 0xff]), (PayloadFault::Length, 0), "beyond the end");
    assert_eq!(fault(vec![0xff; 9]), (PayloadFault::Length, 0), "beyond any end");
    // Room for the payload, none for the HMAC.
    assert_eq!(fault(vec![0xfd, 0x04, 0xf6]), (PayloadFault::Length, 0));
}

#[test]
fn routes_that_do_not_fit_are_refused() {
    let public = hop_keys()[4].public_key(SECP256K1);
    let build = |hops: &[(PublicKey, Vec<u8>)]| build_onion(&session_key(), hops, &HASH).map(|_| ());
    assert_eq!(build(&[]), Err(OnionError::DoesNotFit));
    assert_eq!(build(&[(public, vec![0; 1269])]), Err(OnionError::DoesNotFit));
    assert_eq!(build(&[(public, vec![0; 1268])]), Ok(()));
}

proptest::proptest! {
    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        let _ = peel(&hop_keys()[4], &HASH, &bytes);
    }

    /// Genuine packets whose payload is arbitrary: past the HMAC, right into the parser.
    #[test]
    fn no_genuine_payload_panics(payload in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
        let public = hop_keys()[4].public_key(SECP256K1);
        for payload in [frame(&payload), payload] {
            let onion = build_onion(&session_key(), &[(public, payload)], &HASH).unwrap();
            let peeled = peel(&hop_keys()[4], &HASH, &onion.packet).unwrap();
            if let Ok(payload) = peeled.payload {
                let _ = format!("{payload:?}");
            }
        }
    }

    #[test]
    fn no_failure_packet_panics(bytes: Vec<u8>, secret: [u8; 32]) {
        let _ = read_failure(&[secret, secret], &bytes);
    }
}
