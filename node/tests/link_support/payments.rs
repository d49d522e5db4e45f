//! Payments as a scripted LND offers them, and a screener that takes its word: the first byte of the onion
//! names the payment.

use mux_proto::lnrpc::failure::FailureCode;
use mux_proto::routerrpc::{CircuitKey, ForwardHtlcInterceptRequest};
use mux_raft::machine::command::HtlcOffer;
use mux_raft::machine::model::{FailReason, InvoiceKind, InvoiceTerms};
use mux_raft::types::{Msat, PaymentHash, PaymentSecret, Preimage};
use muxd::link::{Failure, ScreenContext, Screened, Screener};
use parking_lot::{Condvar, Mutex};
use std::sync::atomic::{AtomicBool, Ordering};

pub const HEIGHT: u32 = 800_000;
pub const SCID: u64 = 9_000_000 << 40;
pub const CHANNEL: u64 = 77;
pub const AMOUNT: u64 = 10_000;
pub const TIME: u64 = 1_700_000_000_000;

pub fn hash(payment: u8) -> PaymentHash {
    Preimage([payment; 32]).payment_hash()
}

#[derive(Default)]
pub struct TestScreener {
    held_up: Mutex<bool>,
    let_go: Condvar,
    asked: AtomicBool,
}

impl TestScreener {
    /// Holds up whoever asks for a preimage, and with it the link.
    pub fn hold_up(&self) {
        *self.held_up.lock() = true;
    }

    /// The opposite.
    pub fn let_go(&self) {
        *self.held_up.lock() = false;
        self.let_go.notify_all();
    }

    /// Somebody has asked for a preimage.
    pub fn was_asked(&self) -> bool {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Screener for TestScreener {
    fn may_be_ours(&self, scid: u64) -> bool {
        scid == SCID
    }

    fn screen(&self, request: &ForwardHtlcInterceptRequest, _: &ScreenContext) -> Screened {
        let key = request.incoming_circuit_key.unwrap();
        let payment = request.onion_blob[0];
        Screened::Offer(Box::new(HtlcOffer {
            chan_id: key.chan_id,
            htlc_id: key.htlc_id,
            hash: hash(payment),
            secret: PaymentSecret([payment; 32]),
            terms: InvoiceTerms {
                kind: InvoiceKind::Stateless,
                amount_msat: Msat(AMOUNT),
                expires_at_ms: TIME + 3_600_000,
                min_final_cltv: 18,
                key_epoch: 0,
            },
            total_msat: Msat(AMOUNT),
            outgoing_amount_msat: Msat(request.outgoing_amount_msat),
            incoming_amount_msat: Msat(request.incoming_amount_msat),
            outgoing_expiry: request.outgoing_expiry,
            incoming_expiry: request.incoming_expiry,
            auto_fail_height: u32::try_from(request.auto_fail_height).unwrap(),
            on_chain: false,
        }))
    }

    fn failure(&self, _: &ForwardHtlcInterceptRequest, _: FailReason) -> Failure {
        Failure::Code(FailureCode::TemporaryChannelFailure)
    }

    fn preimage(&self, _: &PaymentHash, secret: &PaymentSecret) -> Option<Preimage> {
        self.asked.store(true, Ordering::SeqCst);
        let mut held_up = self.held_up.lock();
        self.let_go.wait_while(&mut held_up, |held_up| *held_up);
        Some(Preimage(secret.0))
    }
}

pub fn request(payment: u8, index: u64) -> ForwardHtlcInterceptRequest {
    let expiry = HEIGHT + 200;
    ForwardHtlcInterceptRequest {
        incoming_circuit_key: Some(CircuitKey { chan_id: CHANNEL, htlc_id: index }),
        payment_hash: hash(payment).0.to_vec().into(),
        outgoing_amount_msat: AMOUNT,
        outgoing_expiry: expiry - 80,
        incoming_amount_msat: AMOUNT,
        incoming_expiry: expiry,
        outgoing_requested_chan_id: SCID,
        onion_blob: vec![payment; 1366].into(),
        auto_fail_height: i32::try_from(expiry).unwrap() - 19,
        ..ForwardHtlcInterceptRequest::default()
    }
}

pub fn foreign(index: u64) -> ForwardHtlcInterceptRequest {
    ForwardHtlcInterceptRequest { outgoing_requested_chan_id: 5, ..request(9, index) }
}
