//! Amounts and expiries that do not add up.

use crate::world::{AMOUNT, FEE, HEIGHT, Heard, INCOMING_EXPIRY, OUTGOING_EXPIRY, World, incorrect_details};
use mux_raft::machine::model::FrontNodePolicy;
use mux_raft::types::Msat;
use muxd::onion::payer::{PayloadBuilder, build_onion};
use muxd::screen::{InterceptedHtlc, RejectCause, Screened, screen};
use proptest::prelude::{Strategy, prop_oneof};
use secp256k1::SecretKey;

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

proptest::proptest! {
    /// Whatever numbers a stranger picks: nothing panics, and what is offered is backed.
    #[test]
    fn only_backed_htlcs_are_offered(
        (onion_amount, onion_expiry) in (edges_64(), edges_32()),
        (outgoing_amount, outgoing_expiry) in (edges_64(), edges_32()),
        (incoming_amount, incoming_expiry) in (edges_64(), edges_32()),
        (fee_base_msat, fee_ppm, cltv_delta) in (edges_32(), edges_32(), proptest::num::u16::ANY),
        total in edges_64(),
        auto_fail_height: i32,
    ) {
        let mut world = World::new();
        world.policy = FrontNodePolicy { fee_base_msat, fee_ppm, cltv_delta, ..world.policy };
        let payload =
            PayloadBuilder::new(Msat(onion_amount), onion_expiry).payment_data(&world.secret, Msat(total));
        let session_key = SecretKey::from_slice(&[0x41; 32]).unwrap();
        let route = [(*world.keys.node_public(), payload.framed())];
        let built = build_onion(&session_key, &route, &world.hash).unwrap();
        let htlc = InterceptedHtlc {
            chan_id: 7,
            htlc_id: 3,
            hash: world.hash,
            outgoing_amount_msat: Msat(outgoing_amount),
            outgoing_expiry,
            incoming_amount_msat: Msat(incoming_amount),
            incoming_expiry,
            scid: world.policy.scid,
            onion: &built.packet,
            auto_fail_height,
        };
        let fee = u128::from(fee_base_msat)
            + u128::from(outgoing_amount) * u128::from(fee_ppm) / 1_000_000;
        let backed = onion_amount <= outgoing_amount
            && onion_expiry <= outgoing_expiry
            && outgoing_amount > 0
            && total > 0
            && u128::from(incoming_amount) >= u128::from(outgoing_amount) + fee
            && u64::from(incoming_expiry) >= u64::from(outgoing_expiry) + u64::from(cltv_delta);
        let on_chain = auto_fail_height <= 0 || i64::from(auto_fail_height) >= i64::from(incoming_expiry);
        match screen(&world.keys, &htlc, |_| Some(world.policy), Some(HEIGHT)) {
            Screened::Offer { offer, .. } => {
                assert!(backed, "offered without backing");
                assert_eq!(offer.on_chain, on_chain);
            }
            Screened::Silent => assert!(!backed && on_chain, "silent without need"),
            Screened::Reject { .. } => assert!(!backed && !on_chain, "refused without reason"),
            Screened::Foreign => panic!("it is ours"),
        }
    }
}

/// Values around each other and around the ends, so that every comparison is met from both sides.
fn edges_64() -> impl Strategy<Value = u64> {
    prop_oneof![0..4_u64, 99_990..100_010_u64, u64::MAX - 4..=u64::MAX, proptest::num::u64::ANY]
}

fn edges_32() -> impl Strategy<Value = u32> {
    prop_oneof![0..4_u32, 799_990..800_010_u32, u32::MAX - 4..=u32::MAX, proptest::num::u32::ANY]
}
