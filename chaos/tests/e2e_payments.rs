//! Payments of every kind against a whole cluster, good ones and bad ones, as the payer sees their end.

#![allow(clippy::unwrap_used, clippy::panic)] // test code, outside of test functions

mod e2e_support;

use e2e_support::{ALICE, BOB, World};
use mux_chaos::{
    demo::Job,
    ledger::{Expectation, FailureSource, PartFailure, PaymentEnd, PaymentRecord},
    payer::{Deviation, FrontPeer as _, INCORRECT_DETAILS, MPP_TIMEOUT, Patience, PaymentPlan},
};
use mux_proto::mux::v1::InvoiceState;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payers_get_what_the_invoice_promises_and_the_right_failure_otherwise() {
    let mut world = World::start(|_| {}).await;

    world.step("a set spread over both front nodes settles as one");
    let (text, hash) = world.invoice(900_000).await;
    let record = world.pay_well(PaymentPlan::new("four parts", text, 4)).await;
    assert_eq!(record.parts.len(), 4);
    let invoice = world.wait_state(hash, InvoiceState::Settled).await;
    assert_eq!((invoice.amount_paid_msat, invoice.amount_received_msat), (900_000, 900_000));
    for lnd in [ALICE, BOB] {
        assert_eq!(world.htlcs(lnd, hash).await.len(), 2);
    }

    world.step("stored and stateless, with and without amount, one part and several");
    for stored in [true, false] {
        for open_amount in [true, false] {
            for parts in [1, 3] {
                world.load.run(Job::Pay { stored, open_amount, parts }).await.unwrap();
            }
        }
    }

    world.step("up to twice the amount is taken");
    let (text, hash) = world.invoice(100_000).await;
    world.pay_well(PaymentPlan::new("generous", text, 1).of(200_000)).await;
    assert_eq!(world.wait_state(hash, InvoiceState::Settled).await.amount_received_msat, 200_000);

    world.step("HTLCs that are not ours pass");
    for _ in 0..5 {
        world.load.run(Job::Forward).await.unwrap();
    }

    world.step("bad payments fail in one voice, with amount and height");
    for deviation in [
        Deviation::WrongSecret,
        Deviation::UnknownHash,
        Deviation::TooLittle,
        Deviation::TooMuch,
        Deviation::TooSoon,
    ] {
        let (text, _) = world.invoice(100_000).await;
        let record =
            world.pay(PaymentPlan::new(format!("{deviation:?}"), text, 1).deviating(deviation)).await;
        assert_eq!(failure(&record), &incorrect_details(&world, &record).await, "{deviation:?}");
    }
    for cheat in [Deviation::Expired, Deviation::AlreadyPaid, Deviation::Canceled, Deviation::Underfunded] {
        world.load.run(Job::Cheat(cheat)).await.unwrap();
        let record = world.ledger.snapshot().pop().unwrap();
        assert_eq!(failure(&record).source, FailureSource::VirtualNode, "{cheat:?} {record:?}");
    }

    world.step("an incomplete set gets mpp_timeout, and the invoice stays payable");
    world.cluster.replicas[0].client.set_mpp_timeout(1_500).await.unwrap();
    let (text, hash) = world.invoice(100_000).await;
    let once = Patience { attempts_per_part: 1, ..Patience::default() };
    let plan = PaymentPlan::new("incomplete", text.clone(), 2).deviating(Deviation::Incomplete);
    let id = world.load.payer().with_patience(once).pay(&plan).await.unwrap();
    let record = world.ledger.payment(id);
    assert_eq!((failure(&record).code, failure(&record).source), (MPP_TIMEOUT, FailureSource::VirtualNode));
    world.wait_state(hash, InvoiceState::Open).await;
    world.pay_well(PaymentPlan::new("again, whole", text, 2)).await;

    world.step("of two payers, one pays");
    two_payers(&world).await;

    world.reckon().await;
}

fn failure(record: &PaymentRecord) -> &PartFailure {
    match record.ends.as_slice() {
        [PaymentEnd::Failed(failure)] => failure,
        other => panic!("{other:?} of {record:?}"),
    }
}

/// `incorrect_or_unknown_payment_details` with the HTLC's amount and the front node's height (BOLT 4).
async fn incorrect_details(world: &World, record: &PaymentRecord) -> PartFailure {
    let part = record.parts.last().unwrap();
    let lnd = world.cluster.lnds.iter().find(|lnd| lnd.node == part.front).unwrap();
    let height = lnd.peer.height().await.unwrap();
    PartFailure {
        source: FailureSource::VirtualNode,
        code: INCORRECT_DETAILS,
        data: format!("{:016x}{height:08x}", part.amount_msat),
    }
}

async fn two_payers(world: &World) {
    let (text, _) = world.invoice(300_000).await;
    let plan = |label: &str| PaymentPlan::new(label, text.clone(), 1).expecting(Expectation::Any);
    let (first, second) = tokio::join!(world.pay(plan("first payer")), world.pay(plan("second payer")));
    let settled = |record: &PaymentRecord| record.ends == [PaymentEnd::Settled];
    assert!(settled(&first) != settled(&second), "{first:?} {second:?}");
}
