//! What recorded verdicts sound like.

use crate::world::{AMOUNT, HEIGHT, Heard, World, incorrect_details};
use mux_raft::machine::model::{DetailsCause, FailReason, TemporaryCause};
use muxd::keys::{ClusterKeys, ClusterSeed};
use muxd::screen::{Failure, FrontNodeCode, InterceptedHtlc, Screened, answer_for, answer_recorded};

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
