//! A payer, a front node and the virtual node.

use mux_raft::machine::command::HtlcOffer;
use mux_raft::machine::model::{FrontNodePolicy, InvoiceKind, InvoiceTerms};
use mux_raft::types::{Msat, NodePubkey, PaymentHash, PaymentSecret, Preimage};
use muxd::keys::{ClusterKeys, ClusterSeed};
use muxd::onion::payer::{PayloadBuilder, ReceivedFailure, build_onion, read_failure};
use muxd::onion::{FailureKey, forwarder};
use muxd::screen::{Failure, FrontNodeCode, InterceptedHtlc, RejectCause, Screened, screen};
use secp256k1::{SECP256K1, SecretKey};

pub(crate) const HEIGHT: u32 = 800_000;
pub(crate) const AMOUNT: Msat = Msat(100_000);
pub(crate) const FEE: Msat = Msat(1_000 + 100_000 * 50 / 1_000_000);
pub(crate) const OUTGOING_EXPIRY: u32 = HEIGHT + 83;
pub(crate) const DELTA: u16 = 80;
pub(crate) const INCOMING_EXPIRY: u32 = OUTGOING_EXPIRY + DELTA as u32;

/// A payer, a front node and the virtual node, with one HTLC under way; tests spoil one thing.
pub(crate) struct World {
    pub(crate) keys: ClusterKeys,
    pub(crate) front: SecretKey,
    pub(crate) policy: FrontNodePolicy,
    pub(crate) height: Option<u32>,
    pub(crate) hash: PaymentHash,
    pub(crate) secret: PaymentSecret,
    pub(crate) terms: InvoiceTerms,
    /// The virtual node's payload, with its length; default: an honest payer's.
    pub(crate) payload: Option<Vec<u8>>,
    /// Changes what the front node hands over.
    pub(crate) spoil_onion: fn(&mut Vec<u8>),
    /// Changes what LND shows.
    pub(crate) spoil_htlc: fn(&mut InterceptedHtlc<'_>),
}

/// What became of it.
pub(crate) struct Outcome {
    pub(crate) screened: Screened,
    pub(crate) shared_secrets: Vec<[u8; 32]>,
    pub(crate) front_key: FailureKey,
    pub(crate) onion: Vec<u8>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with_kind(InvoiceKind::Stored)
    }

    pub(crate) fn with_kind(kind: InvoiceKind) -> Self {
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

    pub(crate) fn payload(mut self, payload: Vec<u8>) -> Self {
        self.payload = Some(payload);
        self
    }

    pub(crate) fn honest_payload(&self) -> PayloadBuilder {
        PayloadBuilder::new(AMOUNT, OUTGOING_EXPIRY).payment_data(&self.secret, AMOUNT)
    }

    pub(crate) fn run(&self) -> Outcome {
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

    pub(crate) fn offer(&self) -> HtlcOffer {
        match self.run().screened {
            Screened::Offer { offer, .. } => *offer,
            other => panic!("expected an offer: {other:?}"),
        }
    }

    pub(crate) fn reject(&self) -> (RejectCause, Heard) {
        let outcome = self.run();
        match &outcome.screened {
            Screened::Reject { failure, cause } => (*cause, outcome.at_payer(failure)),
            other => panic!("expected a rejection: {other:?}"),
        }
    }
}

/// What the payer learns.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    FrontNode(FrontNodeCode),
    VirtualNode { code: u16, data: String },
}

impl Outcome {
    /// The failure on its way back through the front node.
    pub(crate) fn at_payer(&self, failure: &Failure) -> Heard {
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
pub(crate) fn incorrect_details(amount: Msat, height: u32) -> Heard {
    Heard::VirtualNode { code: 0x400f, data: format!("{:016x}{height:08x}", amount.0) }
}

pub(crate) fn invalid_payload(tlv_type: &str, offset: u16) -> Heard {
    Heard::VirtualNode { code: 0x4016, data: format!("{tlv_type}{offset:04x}") }
}
