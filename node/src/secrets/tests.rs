use super::*;
use crate::keys::{ClusterKeys, ClusterSeed};
use mux_raft::machine::model::{InvoiceKind, InvoiceTerms};
use mux_raft::types::{Msat, PaymentHash, PaymentSecret, Preimage};
use proptest::prelude::*;
use std::collections::HashSet;

fn codec(seed: u8) -> SecretCodec {
    ClusterKeys::derive(&ClusterSeed::from_bytes([seed; 32])).secrets().clone()
}

fn terms(kind: InvoiceKind) -> InvoiceTerms {
    InvoiceTerms {
        kind,
        amount_msat: Msat(123_456_789),
        expires_at_ms: 1_800_000_000_000,
        min_final_cltv: 80,
        key_epoch: KEY_EPOCH,
    }
}

/// Every kind, with a genuine secret and its hash.
fn genuine() -> Vec<(InvoiceTerms, PaymentHash, PaymentSecret)> {
    let codec = codec(1);
    let mut all = Vec::new();
    for kind in [InvoiceKind::Stored, InvoiceKind::Stateless] {
        let (secret, hash) = codec.issue(&terms(kind), &mut rand::rng()).unwrap();
        all.push((terms(kind), hash, secret));
    }
    let hash = Preimage([9; 32]).payment_hash();
    let hold = terms(InvoiceKind::Hold);
    all.push((hold, hash, codec.issue_for_hash(&hold, &hash).unwrap()));
    all
}

#[test]
fn a_genuine_secret_gives_back_its_terms() {
    for (terms, hash, secret) in genuine() {
        assert_eq!(codec(1).open(&hash, &secret), Some(terms));
    }
}

/// Computed by another program from the seed and the labels.
#[test]
fn secrets_of_earlier_versions_still_open() {
    let parse = |text: &str| PaymentSecret(hex::decode(text).unwrap().try_into().unwrap());
    let own = parse("07070707070707070707070707070707a84a7829f14cb6e442c40a20d78ba2b9");
    let hash = "50a7bd691afda703a00ac1bd27f98603a64b15c730db76d7f53f8069d95e37c2".parse().unwrap();
    assert_eq!(codec(1).open(&hash, &own), Some(terms(InvoiceKind::Stored)));
    let hold = parse("ce7929aeb0b6835650c86fea985a8e9bb8710d752a4acbed9fe0d23372a19855");
    assert_eq!(codec(1).open(&PaymentHash([5; 32]), &hold), Some(terms(InvoiceKind::Hold)));
}

#[test]
fn every_flipped_bit_of_secret_or_hash_is_refused() {
    for (_, hash, secret) in genuine() {
        for bit in 0..256 {
            let mut wrong = secret.clone();
            wrong.0[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(codec(1).open(&hash, &wrong), None, "secret bit {bit}");
            assert_eq!(codec(1).preimage(&hash, &wrong), None, "secret bit {bit}");
            let mut wrong = hash;
            wrong.0[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(codec(1).open(&wrong, &secret), None, "hash bit {bit}");
        }
    }
}

#[test]
fn every_term_is_bound_to_the_hash() {
    let hash = PaymentHash([5; 32]);
    let base = terms(InvoiceKind::Hold);
    let secret = codec(1).issue_for_hash(&base, &hash).unwrap();
    let changed = [
        InvoiceTerms { amount_msat: Msat(123_456_788), ..base },
        InvoiceTerms { expires_at_ms: base.expires_at_ms + 1000, ..base },
        InvoiceTerms { min_final_cltv: 81, ..base },
    ];
    for other in changed {
        let other_secret = codec(1).issue_for_hash(&other, &hash).unwrap();
        assert_ne!(secret, other_secret);
        // The sealed terms of one under the IV of the other.
        let mut mixed = secret.clone();
        mixed.0[16..].copy_from_slice(&other_secret.0[16..]);
        assert_eq!(codec(1).open(&hash, &mixed), None);
    }
}

#[test]
fn a_secret_is_worth_nothing_for_another_invoices_hash() {
    let all = genuine();
    for (at, (_, hash, _)) in all.iter().enumerate() {
        for (other, (_, _, secret)) in all.iter().enumerate() {
            assert_eq!(codec(1).open(hash, secret).is_some(), at == other);
        }
    }
}

#[test]
fn a_secret_is_worth_nothing_to_another_cluster() {
    for (_, hash, secret) in genuine() {
        assert_eq!(codec(2).open(&hash, &secret), None);
    }
}

#[test]
fn only_own_invoices_have_a_preimage_and_it_pays_the_hash() {
    for (terms, hash, secret) in genuine() {
        let preimage = codec(1).preimage(&hash, &secret);
        assert_eq!(preimage.is_some(), terms.kind != InvoiceKind::Hold);
        if let Some(preimage) = preimage {
            assert_eq!(preimage.payment_hash(), hash);
        }
    }
}

#[test]
fn hashes_never_repeat_and_terms_are_hidden() {
    let codec = codec(1);
    let mut hashes = HashSet::new();
    let mut sealed = HashSet::new();
    for _ in 0..1000 {
        let (secret, hash) = codec.issue(&terms(InvoiceKind::Stored), &mut rand::rng()).unwrap();
        assert!(hashes.insert(hash));
        assert!(sealed.insert(secret.0[16..].to_vec()), "equal terms must not look equal");
    }
}

#[test]
fn a_callers_hash_gives_the_same_secret_again() {
    let hash = PaymentHash([5; 32]);
    let hold = terms(InvoiceKind::Hold);
    assert_eq!(codec(1).issue_for_hash(&hold, &hash), codec(1).issue_for_hash(&hold, &hash));
}

#[test]
fn impossible_terms_are_refused_by_name() {
    let stored = terms(InvoiceKind::Stored);
    let issue = |terms: InvoiceTerms| codec(1).issue(&terms, &mut rand::rng()).map(|_| ());
    let too_much = SECRET_AMOUNT_MSAT_MAX + 1;
    assert_eq!(
        issue(InvoiceTerms { amount_msat: Msat(too_much), ..stored }),
        Err(TermsError::Amount(too_much))
    );
    assert_eq!(issue(InvoiceTerms { expires_at_ms: 1001, ..stored }), Err(TermsError::Expiry(1001)));
    let too_late = (EXPIRY_S_MAX + 1) * 1000;
    assert_eq!(issue(InvoiceTerms { expires_at_ms: too_late, ..stored }), Err(TermsError::Expiry(too_late)));
    assert_eq!(issue(InvoiceTerms { key_epoch: 1, ..stored }), Err(TermsError::KeyEpoch(1)));
    assert_eq!(issue(terms(InvoiceKind::Hold)), Err(TermsError::Kind(InvoiceKind::Hold)));
    assert_eq!(
        codec(1).issue_for_hash(&stored, &PaymentHash([0; 32])),
        Err(TermsError::Kind(InvoiceKind::Stored))
    );
}

#[test]
fn the_codec_does_not_print() {
    assert_eq!(format!("{:?}", codec(1)), "SecretCodec(…)");
}

proptest! {
    #[test]
    fn all_possible_terms_survive(
        amount in 0..=SECRET_AMOUNT_MSAT_MAX,
        expiry_s in 0..=EXPIRY_S_MAX,
        min_final_cltv: u16,
        hash: [u8; 32],
        which in 0..3,
    ) {
        let kind = [InvoiceKind::Stored, InvoiceKind::Stateless, InvoiceKind::Hold][which as usize];
        let terms = InvoiceTerms {
            kind, amount_msat: Msat(amount), expires_at_ms: expiry_s * 1000, min_final_cltv, key_epoch: KEY_EPOCH,
        };
        let (secret, hash) = if kind == InvoiceKind::Hold {
            (codec(1).issue_for_hash(&terms, &PaymentHash(hash)).unwrap(), PaymentHash(hash))
        } else {
            codec(1).issue(&terms, &mut rand::rng()).unwrap()
        };
        prop_assert_eq!(codec(1).open(&hash, &secret), Some(terms));
    }

    #[test]
    fn what_we_did_not_issue_never_opens(hash: [u8; 32], secret: [u8; 32]) {
        prop_assert_eq!(codec(1).open(&PaymentHash(hash), &PaymentSecret(secret)), None);
    }
}
