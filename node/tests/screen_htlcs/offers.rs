//! What is accepted, what is not for us, and what comes from the chain.

use crate::world::{AMOUNT, FEE, INCOMING_EXPIRY, OUTGOING_EXPIRY, World};
use mux_raft::machine::command::HtlcOffer;
use mux_raft::machine::model::InvoiceKind;
use mux_raft::types::{Msat, PaymentHash};
use muxd::onion::payer::PayloadBuilder;
use muxd::screen::{InterceptedHtlc, Screened};

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
