//! The payer's side of a simulated LND that has no interceptor client.

use super::{Ledger, LndPeer, Patience, Payer, tests::invoice_over};
use crate::{
    ledger::{FailureSource, PaymentEnd},
    lndsim::{Config, Server},
    payer::{FrontPeer, PaymentPlan},
};
use mux_proto::lndsim::v1::{OpenChannelRequest, SetFlagsRequest};
use std::sync::Arc;

/// BOLT 4: permanent, and of a node on the way.
const UNKNOWN_NEXT_PEER: u16 = 0x4000 | 10;

#[tokio::test]
async fn forwards_pass_and_the_virtual_node_is_nobody_without_an_interceptor() {
    let lnd = Server::start(Config::new("alice")).await.unwrap();
    let peer = Arc::new(LndPeer::connect(&lnd.ready().control.to_string()).await.unwrap());
    let mut control = peer.control();
    let optional = SetFlagsRequest { require_interceptor: Some(false), ..SetFlagsRequest::default() };
    control.set_flags(optional).await.unwrap();
    let room = OpenChannelRequest { capacity_sat: 1_000_000, local_sat: 1_000_000, ..Default::default() };
    let out = control.open_channel(room).await.unwrap().into_inner().chan_id;
    let ledger = Arc::new(Ledger::default());
    let payer = Payer::new(vec![peer.clone() as Arc<dyn FrontPeer>], ledger.clone(), Patience::default(), 1);

    let passed = payer.pay_foreign(0, out, 50_000).await;
    assert_eq!(ledger.payment(passed).ends, [PaymentEnd::Settled], "{:?}", ledger.payment(passed));

    let plan = PaymentPlan::new("nobody there", invoice_over(&[peer.node()]), 1);
    let refused = payer.pay(&plan).await.unwrap();
    let record = ledger.payment(refused);
    let [PaymentEnd::Failed(failure)] = record.ends.as_slice() else { panic!("{record:?}") };
    assert_eq!((failure.source, failure.code), (FailureSource::FrontNode, UNKNOWN_NEXT_PEER));
    assert_eq!(record.parts.len(), 1, "permanent: not tried again");
    lnd.stop().await;
}
