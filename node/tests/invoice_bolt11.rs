//! Invoices: what they announce, what is refused, and that they come back.

#![allow(clippy::unwrap_used, reason = "test code, helper functions included")]

use lightning_invoice::{Bolt11Invoice, Bolt11InvoiceDescriptionRef, Currency};
use mux_raft::machine::model::{FrontNodePolicy, InvoiceKind};
use mux_raft::types::{Msat, NodePubkey, PaymentHash, Preimage};
use muxd::invoice::{
    Hint, InvoiceDescription, InvoiceError, InvoiceHash, InvoiceSpec, IssuedInvoice, ParseError, amount_msat,
    create, parse,
};
use muxd::keys::{ClusterKeys, ClusterSeed, Network};
use secp256k1::{SECP256K1, SecretKey};
use std::time::Duration;

const NOW_S: u64 = 1_760_000_000;

fn keys(seed: u8) -> ClusterKeys {
    ClusterKeys::derive(&ClusterSeed::from_bytes([seed; 32]))
}

fn hint(number: u8) -> Hint {
    let key = SecretKey::from_slice(&[number; 32]).unwrap().public_key(SECP256K1);
    let node = NodePubkey(key.serialize());
    let scid = keys(1).virtual_scid(&node, 0, &|_| false);
    let policy = FrontNodePolicy {
        scid,
        fee_base_msat: u32::from(number) * 1000,
        fee_ppm: u32::from(number),
        cltv_delta: 80,
    };
    Hint { node, policy }
}

fn spec() -> InvoiceSpec {
    InvoiceSpec {
        hash: InvoiceHash::Stored,
        amount_msat: Msat(123_456_789),
        description: InvoiceDescription::Plain("two coffees ☕".into()),
        expiry_s: 7200,
        min_final_cltv: 80,
        hints: vec![hint(1), hint(2), hint(3)],
    }
}

fn make(spec: &InvoiceSpec) -> Result<IssuedInvoice, InvoiceError> {
    create(&keys(1), Network::Regtest, spec, NOW_S, &mut rand::rng())
}

/// Decodes with the library alone.
fn decode(issued: &IssuedInvoice) -> Bolt11Invoice {
    issued.payment_request.parse().unwrap()
}

#[test]
fn an_invoice_says_what_was_asked_for() {
    let issued = make(&spec()).unwrap();
    let invoice = decode(&issued);
    assert_eq!(invoice.amount_milli_satoshis(), Some(123_456_789));
    assert_eq!(invoice.currency(), Currency::Regtest);
    assert_eq!(invoice.recover_payee_pub_key(), *keys(1).node_public());
    assert_eq!(invoice.payment_hash().to_string(), issued.hash.to_string());
    assert_eq!(invoice.payment_secret().0, issued.secret.0);
    assert_eq!(invoice.duration_since_epoch(), Duration::from_secs(NOW_S));
    assert_eq!(invoice.expiry_time(), Duration::from_secs(7200));
    assert_eq!(invoice.min_final_cltv_expiry_delta(), 80);
    assert!(matches!(invoice.description(),
        Bolt11InvoiceDescriptionRef::Direct(text) if text.to_string() == "two coffees ☕"));
    assert_eq!(issued.terms.expires_at_ms, (NOW_S + 7200) * 1000);
    assert_eq!(issued.terms.kind, InvoiceKind::Stored);
    assert_eq!(keys(1).secrets().open(&issued.hash, &issued.secret), Some(issued.terms));
}

#[test]
fn exactly_the_three_features_are_announced() {
    let invoice = decode(&make(&spec()).unwrap());
    let features = invoice.features().unwrap();
    let bits: Vec<usize> = features
        .le_flags()
        .iter()
        .enumerate()
        .flat_map(|(at, byte)| (0..8).filter(move |bit| byte & (1 << bit) != 0).map(move |bit| at * 8 + bit))
        .collect();
    // var_onion_optin and payment_secret compulsory, basic_mpp optional (BOLT 9).
    assert_eq!(bits, [8, 14, 17]);
}

#[test]
fn one_hint_per_front_node_in_the_given_order() {
    let invoice = decode(&make(&spec()).unwrap());
    let hints = invoice.route_hints();
    assert_eq!(hints.len(), 3);
    for (found, expected) in hints.iter().zip(spec().hints) {
        let [hop] = found.0.as_slice() else { panic!("one hop each") };
        assert_eq!(hop.src_node_id.serialize(), expected.node.0);
        assert_eq!(hop.short_channel_id, expected.policy.scid);
        assert_eq!(hop.fees.base_msat, expected.policy.fee_base_msat);
        assert_eq!(hop.fees.proportional_millionths, expected.policy.fee_ppm);
        assert_eq!(hop.cltv_expiry_delta, 80);
    }
}

#[test]
fn zero_amount_description_hash_and_no_description_are_possible() {
    let issued = make(&InvoiceSpec {
        amount_msat: Msat::ZERO,
        description: InvoiceDescription::Hash([7; 32]),
        ..spec()
    })
    .unwrap();
    assert_eq!(decode(&issued).amount_milli_satoshis(), None);
    let own = parse(&keys(1), Network::Regtest, &issued.payment_request).unwrap();
    assert_eq!(own.description_hash, Some([7; 32]));
    assert_eq!(own.terms.amount_msat, Msat::ZERO);
    make(&InvoiceSpec { description: InvoiceDescription::Plain(String::new()), ..spec() }).unwrap();
}

#[test]
fn every_network_has_its_prefix() {
    for (network, prefix) in [
        (Network::Mainnet, "lnbc1"),
        (Network::Testnet, "lntb1"),
        (Network::Testnet4, "lntb1"),
        (Network::Signet, "lntbs1"),
        (Network::Regtest, "lnbcrt1"),
        (Network::Simnet, "lnsb1"),
    ] {
        let spec = InvoiceSpec { amount_msat: Msat::ZERO, ..spec() };
        let issued = create(&keys(1), network, &spec, NOW_S, &mut rand::rng()).unwrap();
        assert!(issued.payment_request.starts_with(prefix), "{}", issued.payment_request);
        parse(&keys(1), network, &issued.payment_request).unwrap();
    }
}

#[test]
fn a_hold_invoice_is_for_the_callers_hash() {
    let hash = Preimage([4; 32]).payment_hash();
    let issued = make(&InvoiceSpec { hash: InvoiceHash::Hold(hash), ..spec() }).unwrap();
    assert_eq!((issued.hash, issued.terms.kind), (hash, InvoiceKind::Hold));
    assert_eq!(keys(1).secrets().open(&hash, &issued.secret), Some(issued.terms));
    assert_eq!(keys(1).secrets().preimage(&hash, &issued.secret), None);
}

#[test]
fn own_invoices_never_share_a_hash() {
    let first = make(&spec()).unwrap();
    let second = make(&spec()).unwrap();
    assert_ne!(first.hash, second.hash);
}

#[test]
fn impossible_requests_are_refused_by_name() {
    let refused = |spec: InvoiceSpec| make(&spec).unwrap_err();
    let long = "x".repeat(640);
    assert_eq!(
        refused(InvoiceSpec { description: InvoiceDescription::Plain(long), ..spec() }),
        InvoiceError::DescriptionTooLong(640)
    );
    // Bytes count, not characters.
    let long = "☕".repeat(214);
    assert_eq!(
        refused(InvoiceSpec { description: InvoiceDescription::Plain(long), ..spec() }),
        InvoiceError::DescriptionTooLong(642)
    );
    assert_eq!(refused(InvoiceSpec { expiry_s: 0, ..spec() }), InvoiceError::Expiry(0));
    for expiry_s in [31_536_001, u64::MAX] {
        assert_eq!(refused(InvoiceSpec { expiry_s, ..spec() }), InvoiceError::Expiry(expiry_s));
    }
    let too_much = 21_000_000 * 100_000_000 * 1000 + 1;
    for amount in [too_much, u64::MAX] {
        assert_eq!(
            refused(InvoiceSpec { amount_msat: Msat(amount), ..spec() }),
            InvoiceError::AmountTooLarge(amount)
        );
    }
    for min_final_cltv in [0, 23, 1009, u16::MAX] {
        assert_eq!(
            refused(InvoiceSpec { min_final_cltv, ..spec() }),
            InvoiceError::MinFinalCltv(min_final_cltv)
        );
    }
    assert_eq!(refused(InvoiceSpec { hints: vec![], ..spec() }), InvoiceError::NoHints);
    assert_eq!(
        refused(InvoiceSpec { hints: (1..=21).map(hint).collect(), ..spec() }),
        InvoiceError::TooManyHints(21)
    );
    assert_eq!(
        refused(InvoiceSpec { hints: vec![hint(1), hint(1)], ..spec() }),
        InvoiceError::DuplicateHint(hint(1).node)
    );
    let node = NodePubkey([0xff; 33]);
    assert_eq!(
        refused(InvoiceSpec { hints: vec![Hint { node, ..hint(1) }], ..spec() }),
        InvoiceError::InvalidHint(node)
    );
    for now_s in [u64::MAX, u64::MAX / 1000, 1 << 36] {
        let error = create(&keys(1), Network::Regtest, &spec(), now_s, &mut rand::rng()).unwrap_err();
        assert_eq!(error, InvoiceError::Timestamp(now_s));
    }
}

#[test]
fn the_limits_themselves_are_possible() {
    let made = |spec: InvoiceSpec| make(&spec).unwrap();
    made(InvoiceSpec { description: InvoiceDescription::Plain("x".repeat(639)), ..spec() });
    made(InvoiceSpec { expiry_s: 1, ..spec() });
    made(InvoiceSpec { expiry_s: 31_536_000, ..spec() });
    made(InvoiceSpec { min_final_cltv: 24, ..spec() });
    made(InvoiceSpec { min_final_cltv: 1008, ..spec() });
    made(InvoiceSpec { amount_msat: Msat(1), ..spec() });
    made(InvoiceSpec { hints: (1..=20).map(hint).collect(), ..spec() });
}

#[test]
fn signed_amounts_are_checked() {
    assert_eq!(amount_msat(-1), Err(InvoiceError::NegativeAmount(-1)));
    assert_eq!(amount_msat(i64::MIN), Err(InvoiceError::NegativeAmount(i64::MIN)));
    assert_eq!(amount_msat(i64::MAX), Err(InvoiceError::AmountTooLarge(i64::MAX as u64)));
    assert_eq!(amount_msat(0), Ok(Msat::ZERO));
    assert_eq!(amount_msat(2_100_000_000_000_000_000), Ok(Msat(2_100_000_000_000_000_000)));
}

#[test]
fn what_we_made_comes_back_in_any_spelling() {
    let issued = make(&InvoiceSpec { hash: InvoiceHash::Stateless, ..spec() }).unwrap();
    let text = &issued.payment_request;
    for text in
        [text.clone(), text.to_uppercase(), format!("lightning:{text}"), format!(" LIGHTNING:{text}\n")]
    {
        let own = parse(&keys(1), Network::Regtest, &text).unwrap();
        assert_eq!((own.hash, &own.secret, own.terms), (issued.hash, &issued.secret, issued.terms));
        assert_eq!(own.terms.kind, InvoiceKind::Stateless);
        assert_eq!(own.description, "two coffees ☕");
    }
}

#[test]
fn what_we_did_not_make_is_refused() {
    let issued = make(&spec()).unwrap();
    let text = &issued.payment_request;
    assert_eq!(parse(&keys(2), Network::Regtest, text), Err(ParseError::NotOurs));
    assert_eq!(parse(&keys(1), Network::Mainnet, text), Err(ParseError::OtherNetwork(Network::Mainnet)));
    for garbage in ["", "lnbc", "lightning:", "lnbcrt1", "☕☕☕☕☕☕☕☕☕☕", &text[..text.len() - 1]]
    {
        assert!(
            matches!(parse(&keys(1), Network::Regtest, garbage), Err(ParseError::Malformed(_))),
            "{garbage}"
        );
    }
    // Altered: the checksum notices.
    let mut altered = text.clone().into_bytes();
    let at = altered.len() - 20;
    altered[at] = if altered[at] == b'q' { b'p' } else { b'q' };
    let altered = String::from_utf8(altered).unwrap();
    assert!(matches!(parse(&keys(1), Network::Regtest, &altered), Err(ParseError::Malformed(_))));
}

#[test]
fn a_secret_of_other_making_under_our_signature_is_refused() {
    use bitcoin::hashes::{Hash as _, sha256};
    use lightning_invoice::{InvoiceBuilder, PaymentSecret};
    let foreign = InvoiceBuilder::new(Currency::Regtest)
        .description("made elsewhere with the node's key".into())
        .payment_hash(sha256::Hash::from_byte_array(PaymentHash([1; 32]).0))
        .payment_secret(PaymentSecret([2; 32]))
        .duration_since_epoch(Duration::from_secs(NOW_S))
        .min_final_cltv_expiry_delta(80)
        .build_signed(|digest| SECP256K1.sign_ecdsa_recoverable(digest, keys(1).node_secret()))
        .unwrap();
    assert_eq!(parse(&keys(1), Network::Regtest, &foreign.to_string()), Err(ParseError::SecretNotOurs));
}

#[test]
fn an_issued_invoice_does_not_print_its_secret() {
    let issued = make(&spec()).unwrap();
    let text = format!("{issued:?}");
    assert!(text.contains(&issued.hash.to_string()));
    assert!(!text.contains("lnbcrt") && !text.contains(&hex::encode(issued.secret.0)), "{text}");
}
