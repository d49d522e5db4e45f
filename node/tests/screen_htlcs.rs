//! The stateless screening, seen from the payer's end: real onions over [front node → virtual node], and
//! failures decoded by the payer with the front node's layer on them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code, helper functions included")]

use mux_raft::machine::command::HtlcOffer;
use mux_raft::machine::model::{
    DetailsCause, FailReason, FrontNodePolicy, InvoiceKind, InvoiceTerms, TemporaryCause,
};
use mux_raft::types::{Msat, NodePubkey, PaymentHash, PaymentSecret, Preimage};
use muxd::keys::{ClusterKeys, ClusterSeed};
use muxd::onion::payer::{PayloadBuilder, ReceivedFailure, build_onion, frame, read_failure};
use muxd::onion::{FailureKey, ONION_PACKET_BYTES, forwarder};
use muxd::screen::{
    Failure, FrontNodeCode, InterceptedHtlc, RejectCause, Screened, answer_for, answer_recorded, screen,
};
use secp256k1::{SECP256K1, SecretKey};

const HEIGHT: u32 = 800_000;
const AMOUNT: Msat = Msat(100_000);
const FEE: Msat = Msat(1_000 + 100_000 * 50 / 1_000_000);
const OUTGOING_EXPIRY: u32 = HEIGHT + 83;
const DELTA: u16 = 80;
const INCOMING_EXPIRY: u32 = OUTGOING_EXPIRY + DELTA as u32;

/// A payer, a front node and the virtual node, with one HTLC under way; tests spoil one thing.
struct World {
    keys: ClusterKeys,
    front: SecretKey,
    policy: FrontNodePolicy,
    height: Option<u32>,
    hash: PaymentHash,
    secret: PaymentSecret,
    terms: InvoiceTerms,
    /// The virtual node's payload, with its length; default: an honest payer's.
    payload: Option<Vec<u8>>,
    /// Changes what the front node hands over.
    spoil_onion: fn(&mut Vec<u8>),
    /// Changes what LND shows.
    spoil_htlc: fn(&mut InterceptedHtlc<'_>),
}

/// What became of it.
struct Outcome {
    screened: Screened,
    shared_secrets: Vec<[u8; 32]>,
    front_key: FailureKey,
    onion: Vec<u8>,
}

impl World {
    fn new() -> Self {
        Self::with_kind(InvoiceKind::Stored)
    }

    fn with_kind(kind: InvoiceKind) -> Self {
        let keys = ClusterKeys::derive(&ClusterSeed::from_bytes([1; 32]));
        let terms = InvoiceTerms {
            kind,
            amount_msat: AMOUNT,
            expires_at_ms: 1_800_000_000_000,
            min_final_cltv: 80,
            key_epoch: 0,
        };
        let (secret, hash) = if kind == InvoiceKind::Hold {
            let hash = Preimage([9; 32]).payment_hash();
            (keys.secrets().issue_for_hash(&terms, &hash).unwrap(), hash)
        } else {
            keys.secrets().issue(&terms, &mut rand::rng()).unwrap()
        };
        let scid = keys.virtual_scid(&NodePubkey([2; 33]), 0, &|_| false);
        let policy = FrontNodePolicy { scid, fee_base_msat: 1_000, fee_ppm: 50, cltv_delta: DELTA };
        Self {
            keys,
            front: SecretKey::from_slice(&[0x22; 32]).unwrap(),
            policy,
            height: Some(HEIGHT),
            hash,
            secret,
            terms,
            payload: None,
            spoil_onion: |_| {},
            spoil_htlc: |_| {},
        }
    }

    fn payload(mut self, payload: Vec<u8>) -> Self {
        self.payload = Some(payload);
        self
    }

    fn honest_payload(&self) -> PayloadBuilder {
        PayloadBuilder::new(AMOUNT, OUTGOING_EXPIRY).payment_data(&self.secret, AMOUNT)
    }

    fn run(&self) -> Outcome {
        let payload = self.payload.clone().unwrap_or_else(|| self.honest_payload().framed());
        let route = [
            (
                self.front.public_key(SECP256K1),
                PayloadBuilder::new(AMOUNT, OUTGOING_EXPIRY).scid(self.policy.scid).framed(),
            ),
            (*self.keys.node_public(), payload),
        ];
        let session_key = SecretKey::from_slice(&[0x41; 32]).unwrap();
        let built = build_onion(&session_key, &route, &self.hash).unwrap();
        let hop = forwarder::take_layer(&self.front, &self.hash, &built.packet).unwrap();
        let forward = hop.forward_payload().unwrap();
        let mut onion = hop.next.unwrap().to_vec();
        (self.spoil_onion)(&mut onion);
        let mut htlc = InterceptedHtlc {
            chan_id: 7,
            htlc_id: 3,
            hash: self.hash,
            outgoing_amount_msat: forward.amt_to_forward,
            outgoing_expiry: forward.outgoing_cltv,
            incoming_amount_msat: Msat(AMOUNT.0 + FEE.0),
            incoming_expiry: INCOMING_EXPIRY,
            scid: forward.scid,
            onion: &onion,
            auto_fail_height: i32::try_from(INCOMING_EXPIRY - 19).unwrap(),
        };
        (self.spoil_htlc)(&mut htlc);
        let policy_of = |scid| (scid == self.policy.scid).then_some(self.policy);
        let screened = screen(&self.keys, &htlc, policy_of, self.height);
        Outcome { screened, shared_secrets: built.shared_secrets, front_key: hop.failure_key, onion }
    }

    fn offer(&self) -> HtlcOffer {
        match self.run().screened {
            Screened::Offer { offer, .. } => *offer,
            other => panic!("expected an offer: {other:?}"),
        }
    }

    fn reject(&self) -> (RejectCause, Heard) {
        let outcome = self.run();
        match &outcome.screened {
            Screened::Reject { failure, cause } => (*cause, outcome.at_payer(failure)),
            other => panic!("expected a rejection: {other:?}"),
        }
    }
}

/// What the payer learns.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    FrontNode(FrontNodeCode),
    VirtualNode { code: u16, data: String },
}

impl Outcome {
    /// The failure on its way back through the front node.
    fn at_payer(&self, failure: &Failure) -> Heard {
        match failure {
            Failure::Code(code) => Heard::FrontNode(*code),
            Failure::Message(message) => {
                let mut packet = **message;
                assert_eq!(packet.len(), 292, "LND takes no other length");
                self.front_key.wrap(&mut packet);
                let ReceivedFailure { source_index, code, data } =
                    read_failure(&self.shared_secrets, &packet).expect("the payer can read it");
                assert_eq!(source_index, 1, "the virtual node must be the source");
                Heard::VirtualNode { code, data: hex::encode(data) }
            }
        }
    }
}

/// `incorrect_or_unknown_payment_details` with amount and height.
fn incorrect_details(amount: Msat, height: u32) -> Heard {
    Heard::VirtualNode { code: 0x400f, data: format!("{:016x}{height:08x}", amount.0) }
}

fn invalid_payload(tlv_type: &str, offset: u16) -> Heard {
    Heard::VirtualNode { code: 0x4016, data: format!("{tlv_type}{offset:04x}") }
}

// ---- what is accepted

#[test]
fn an_honest_payment_is_offered_with_everything_the_log_needs() {
    for kind in [InvoiceKind::Stored, InvoiceKind::Stateless, InvoiceKind::Hold] {
        let world = World::with_kind(kind);
        assert_eq!(
            world.offer(),
            HtlcOffer {
                chan_id: 7,
                htlc_id: 3,
                hash: world.hash,
                secret: world.secret.clone(),
                terms: world.terms,
                total_msat: AMOUNT,
                outgoing_amount_msat: AMOUNT,
                incoming_amount_msat: Msat(AMOUNT.0 + FEE.0),
                outgoing_expiry: OUTGOING_EXPIRY,
                incoming_expiry: INCOMING_EXPIRY,
                auto_fail_height: INCOMING_EXPIRY - 19,
                on_chain: false,
            }
        );
    }
}

#[test]
fn more_than_asked_for_is_fine() {
    let mut world = World::new();
    world.spoil_htlc = |htlc| {
        htlc.incoming_amount_msat = Msat(u64::MAX);
        htlc.incoming_expiry += 1000;
        htlc.outgoing_amount_msat = Msat(AMOUNT.0 + 1);
        htlc.outgoing_expiry += 1;
    };
    assert_eq!(world.offer().outgoing_amount_msat, Msat(AMOUNT.0 + 1));
}

#[test]
fn one_part_of_many_carries_the_total() {
    let world = World::new();
    let payload = PayloadBuilder::new(Msat(1), 1).payment_data(&world.secret, Msat(u64::MAX)).framed();
    assert_eq!(world.payload(payload).offer().total_msat, Msat(u64::MAX));
}

#[test]
fn odd_records_and_metadata_are_ignored() {
    let world = World::new();
    let payload = world.honest_payload().record(16, b"metadata").record(65_537, b"app").framed();
    world.payload(payload).offer();
}

#[test]
fn a_known_height_is_not_needed_to_offer() {
    let mut world = World::new();
    world.height = None;
    world.offer();
}

// ---- what is not for us

#[test]
fn a_foreign_scid_is_resumed_whatever_its_onion() {
    let mut world = World::new();
    world.spoil_htlc = |htlc| htlc.scid = 900_000 << 40;
    world.spoil_onion = |onion| onion.clear();
    assert!(matches!(world.run().screened, Screened::Foreign));
    // One that could be virtual, but is nobody's; and LND's sentinel for "by node id".
    world.spoil_htlc = |htlc| htlc.scid ^= 1;
    assert!(matches!(world.run().screened, Screened::Foreign));
    world.spoil_htlc = |htlc| htlc.scid = u64::MAX;
    assert!(matches!(world.run().screened, Screened::Foreign));
}

// ---- onions

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

// ---- amounts and expiries

#[test]
fn an_onion_amount_above_the_outgoing_one_is_final_incorrect_htlc_amount() {
    let mut world = World::new();
    world.spoil_htlc = |htlc| htlc.outgoing_amount_msat = Msat(AMOUNT.0 - 1);
    let data = format!("{:016x}", AMOUNT.0 - 1);
    assert_eq!(world.reject(), (RejectCause::OnionAmount, Heard::VirtualNode { code: 19, data }));
}

#[test]
fn an_onion_expiry_above_the_outgoing_one_is_final_incorrect_cltv_expiry() {
    let mut world = World::new();
    world.spoil_htlc = |htlc| htlc.outgoing_expiry -= 1;
    let data = format!("{:08x}", OUTGOING_EXPIRY - 1);
    assert_eq!(world.reject(), (RejectCause::OnionExpiry, Heard::VirtualNode { code: 18, data }));
}

#[test]
fn an_incoming_amount_below_outgoing_and_fee_is_refused() {
    let mut world = World::new();
    let expected = (RejectCause::IncomingAmount, incorrect_details(AMOUNT, HEIGHT));
    world.spoil_htlc = |htlc| htlc.incoming_amount_msat = Msat(AMOUNT.0 + FEE.0 - 1);
    assert_eq!(world.reject(), expected);
    world.spoil_htlc = |htlc| htlc.incoming_amount_msat = Msat(AMOUNT.0 - 1);
    assert_eq!(world.reject(), expected);
    // The free lunch: much in the onion, one millisatoshi in the HTLC.
    world.spoil_htlc = |htlc| htlc.incoming_amount_msat = Msat(1);
    assert_eq!(world.reject(), expected);
    world.spoil_htlc = |htlc| htlc.incoming_amount_msat = Msat(AMOUNT.0 + FEE.0);
    world.offer();
}

#[test]
fn an_incoming_expiry_below_outgoing_and_delta_is_refused() {
    let mut world = World::new();
    let expected = (RejectCause::IncomingExpiry, incorrect_details(AMOUNT, HEIGHT));
    // auto_fail_height goes along, or the HTLC would count as on chain.
    world.spoil_htlc = |htlc| {
        htlc.incoming_expiry -= 1;
        htlc.auto_fail_height -= 1;
    };
    assert_eq!(world.reject(), expected);
    world.spoil_htlc = |htlc| {
        htlc.incoming_expiry = OUTGOING_EXPIRY - 1;
        htlc.auto_fail_height = OUTGOING_EXPIRY as i32 - 20;
    };
    assert_eq!(world.reject(), expected);
}

#[test]
fn amounts_that_overflow_are_refused() {
    let mut world = World::new();
    world.policy.fee_ppm = u32::MAX;
    world.policy.fee_base_msat = u32::MAX;
    world.spoil_htlc = |htlc| {
        htlc.outgoing_amount_msat = Msat(u64::MAX);
        htlc.incoming_amount_msat = Msat(u64::MAX);
    };
    assert_eq!(world.reject(), (RejectCause::IncomingAmount, incorrect_details(Msat(u64::MAX), HEIGHT)));
    world.policy.fee_ppm = 0;
    assert_eq!(world.reject().0, RejectCause::IncomingAmount);
}

#[test]
fn expiries_that_overflow_are_refused() {
    let mut world = World::new();
    world.spoil_htlc = |htlc| {
        htlc.outgoing_expiry = u32::MAX;
        htlc.incoming_expiry = u32::MAX;
    };
    assert_eq!(world.reject(), (RejectCause::IncomingExpiry, incorrect_details(AMOUNT, HEIGHT)));
}

#[test]
fn zero_amounts_are_refused() {
    let world = World::new();
    let payload = PayloadBuilder::new(Msat::ZERO, 1).payment_data(&world.secret, AMOUNT).framed();
    let mut world = world.payload(payload);
    world.spoil_htlc = |htlc| htlc.outgoing_amount_msat = Msat::ZERO;
    assert_eq!(world.reject(), (RejectCause::ZeroAmount, incorrect_details(Msat::ZERO, HEIGHT)));

    let world = World::new();
    let payload =
        PayloadBuilder::new(AMOUNT, OUTGOING_EXPIRY).payment_data(&world.secret, Msat::ZERO).framed();
    assert_eq!(world.payload(payload).reject(), (RejectCause::ZeroAmount, incorrect_details(AMOUNT, HEIGHT)));
}

#[test]
fn each_invoice_is_judged_by_the_policy_of_its_scid() {
    let world = World::new();
    let htlc = |onion| InterceptedHtlc {
        chan_id: 7,
        htlc_id: 3,
        hash: world.hash,
        outgoing_amount_msat: AMOUNT,
        outgoing_expiry: OUTGOING_EXPIRY,
        incoming_amount_msat: AMOUNT,
        incoming_expiry: INCOMING_EXPIRY,
        scid: 11,
        onion,
        auto_fail_height: 1,
    };
    let onion = world.run().onion;
    let former = FrontNodePolicy { scid: 11, fee_base_msat: 0, fee_ppm: 0, cltv_delta: 40 };
    let policy_of = |scid| if scid == 11 { Some(former) } else { Some(world.policy) };
    assert!(matches!(screen(&world.keys, &htlc(&onion), policy_of, Some(HEIGHT)), Screened::Offer { .. }));
    let current = InterceptedHtlc { scid: world.policy.scid, ..htlc(&onion) };
    assert!(matches!(
        screen(&world.keys, &current, policy_of, Some(HEIGHT)),
        Screened::Reject { cause: RejectCause::IncomingAmount, .. }
    ));
}

// ---- secrets

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

// ---- on chain

#[test]
fn on_chain_offers_are_told_by_the_auto_fail_height() {
    let on_chain = |auto_fail_height, incoming_expiry| {
        let htlc = InterceptedHtlc {
            chan_id: 0,
            htlc_id: 0,
            hash: PaymentHash([0; 32]),
            outgoing_amount_msat: Msat::ZERO,
            outgoing_expiry: 0,
            incoming_amount_msat: Msat::ZERO,
            incoming_expiry,
            scid: 0,
            onion: &[],
            auto_fail_height,
        };
        htlc.is_on_chain()
    };
    assert!(!on_chain(800_000 - 19, 800_000));
    assert!(!on_chain(799_999, 800_000));
    assert!(on_chain(800_000, 800_000));
    assert!(on_chain(i32::MAX, 800_000));
    assert!(!on_chain(i32::MAX, u32::MAX));
    // No off-chain HTLC has these: nothing may be accepted, nothing answered but SETTLE.
    assert!(on_chain(0, 800_000));
    assert!(on_chain(-1, 800_000));
    assert!(on_chain(i32::MIN, u32::MAX));
}

#[test]
fn an_acceptable_on_chain_htlc_is_offered_as_such() {
    let mut world = World::new();
    world.spoil_htlc = |htlc| htlc.auto_fail_height = htlc.incoming_expiry as i32;
    let offer = world.offer();
    assert!(offer.on_chain);
    assert_eq!(offer.auto_fail_height, INCOMING_EXPIRY);
    world.spoil_htlc = |htlc| htlc.auto_fail_height = -5;
    let offer = world.offer();
    assert!(offer.on_chain);
    assert_eq!(offer.auto_fail_height, 0);
}

#[test]
fn foreign_and_bad_on_chain_htlcs_get_no_answer_at_all() {
    let mut world = World::new();
    world.spoil_htlc = |htlc| {
        htlc.auto_fail_height = htlc.incoming_expiry as i32;
        htlc.scid = 1;
    };
    assert!(matches!(world.run().screened, Screened::Silent));
    world.spoil_htlc = |htlc| htlc.auto_fail_height = htlc.incoming_expiry as i32;
    world.secret.0[0] ^= 1;
    assert!(matches!(world.run().screened, Screened::Silent));
    world.spoil_onion = |onion| onion.clear();
    assert!(matches!(world.run().screened, Screened::Silent));
}

// ---- recorded verdicts

#[test]
fn recorded_reasons_sound_as_bolt_4_has_them() {
    let world = World::new();
    let outcome = world.run();
    let Screened::Offer { offer, failure_key } = &outcome.screened else { panic!("not offered") };
    let heard = |reason| outcome.at_payer(&answer_for(reason, offer.outgoing_amount_msat, failure_key));
    for cause in [DetailsCause::UnknownInvoice, DetailsCause::AlreadyPaid, DetailsCause::TooSoon] {
        let reason = FailReason::IncorrectDetails { height: 812_345, cause };
        assert_eq!(heard(reason), incorrect_details(AMOUNT, 812_345), "one voice");
    }
    assert_eq!(heard(FailReason::MppTimeout), Heard::VirtualNode { code: 23, data: String::new() });
    assert_eq!(
        heard(FailReason::Temporary { cause: TemporaryCause::GateClosed }),
        Heard::FrontNode(FrontNodeCode::TemporaryChannelFailure)
    );
}

#[test]
fn a_replay_of_a_failed_htlc_gets_the_same_bytes_at_every_replica() {
    let world = World::new();
    let outcome = world.run();
    let Screened::Offer { offer, failure_key } = &outcome.screened else { panic!("not offered") };
    let htlc = InterceptedHtlc {
        chan_id: offer.chan_id,
        htlc_id: offer.htlc_id,
        hash: offer.hash,
        outgoing_amount_msat: offer.outgoing_amount_msat,
        outgoing_expiry: offer.outgoing_expiry,
        incoming_amount_msat: offer.incoming_amount_msat,
        incoming_expiry: offer.incoming_expiry,
        scid: world.policy.scid,
        onion: &outcome.onion,
        auto_fail_height: 1,
    };
    let other_replica = ClusterKeys::derive(&ClusterSeed::from_bytes([1; 32]));
    for reason in [
        FailReason::IncorrectDetails { height: HEIGHT, cause: DetailsCause::Expired },
        FailReason::MppTimeout,
        FailReason::Temporary { cause: TemporaryCause::NoHeight },
    ] {
        assert_eq!(
            answer_recorded(&other_replica, &htlc, reason),
            answer_for(reason, offer.outgoing_amount_msat, failure_key)
        );
    }
    let broken = InterceptedHtlc { onion: &[], ..htlc };
    assert_eq!(
        answer_recorded(&other_replica, &broken, FailReason::MppTimeout),
        Failure::Code(FrontNodeCode::InvalidOnionKey),
        "a failure it must be, whatever comes"
    );
}

#[test]
fn nothing_secret_prints() {
    let mut world = World::new();
    let secret = hex::encode(world.secret.0);
    let text = format!("{:?}", world.run().screened);
    assert!(text.contains("PaymentSecret(…)") && text.contains("FailureKey(…)"), "{text}");
    assert!(!text.contains(&secret));
    world.secret.0[0] ^= 1;
    let text = format!("{:?}", world.run().screened);
    assert!(text.contains("Message(…)"), "{text}");
}
