use crate::server::{Server, Setup, front_node, pays, soon};
use lightning_invoice::Bolt11Invoice;
use mux_proto::lnmux::{
    AddInvoiceRequest, AddInvoiceResponse, CancelInvoiceRequest, GetInfoRequest, InvoiceStatus,
    ListInvoicesRequest, SettleInvoiceRequest, SubscribeInvoiceAcceptedRequest,
    SubscribeInvoiceAcceptedResponse, WaitForInvoiceFinalStatusRequest,
};
use mux_raft::machine::command::FinalOutcome;
use sha2::{Digest as _, Sha256};
use tonic::{Code, Streaming};

async fn add(server: &Server, amt_msat: i64) -> AddInvoiceResponse {
    let request = AddInvoiceRequest { amt_msat, expiry_secs: 600, ..Default::default() };
    server.lnmux().await.add_invoice(request).await.unwrap().into_inner()
}

async fn next(
    accepted: &mut Streaming<SubscribeInvoiceAcceptedResponse>,
) -> SubscribeInvoiceAcceptedResponse {
    soon(accepted.message()).await.unwrap().unwrap()
}

#[tokio::test]
async fn info_tells_key_network_nodes_and_mode() {
    let server = Server::start(Setup { front_nodes: 2, ..Setup::default() }).await;
    let info = server.lnmux().await.get_info(GetInfoRequest {}).await.unwrap().into_inner();
    assert_eq!(info.pub_key, server.keys.node_pubkey().0.to_vec());
    assert_eq!(info.network, "regtest");
    assert_eq!(info.nodes.len(), 2);
    assert!(!info.auto_settle);
}

#[tokio::test]
async fn the_preimage_comes_with_the_invoice_only_if_configured() {
    let server = Server::start(Setup::default()).await;
    assert!(add(&server, 1_000).await.preimage.is_empty());
    let server = Server::start(Setup { return_preimage: true, ..Setup::default() }).await;
    let made = add(&server, 1_000).await;
    assert!(pays(&made.preimage, &made.hash));
    let bolt11: Bolt11Invoice = made.payment_request.parse().unwrap();
    assert_eq!(bolt11.amount_milli_satoshis(), Some(1_000));
}

#[tokio::test]
async fn negative_numbers_and_two_descriptions_are_refused() {
    let server = Server::start(Setup::default()).await;
    for wrong in [
        AddInvoiceRequest { amt_msat: -1, ..Default::default() },
        AddInvoiceRequest { expiry_secs: -1, ..Default::default() },
        AddInvoiceRequest { description_hash: vec![1; 31].into(), ..Default::default() },
        AddInvoiceRequest {
            description: "x".into(),
            description_hash: vec![1; 32].into(),
            ..Default::default()
        },
    ] {
        let error = server.lnmux().await.add_invoice(wrong.clone()).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{wrong:?}");
    }
}

#[tokio::test]
async fn accepted_sets_of_now_come_first_and_then_new_ones() {
    let server = Server::start(Setup { front_nodes: 2, ..Setup::default() }).await;
    let (first, second) = (add(&server, 1_000).await, add(&server, 2_000).await);
    server.offer(1, 1, &first.payment_request, 1_000, 1_000);
    let request = SubscribeInvoiceAcceptedRequest {};
    let mut accepted = server.lnmux().await.subscribe_invoice_accepted(request).await.unwrap().into_inner();
    assert_eq!(next(&mut accepted).await.hash, first.hash);
    server.offer(2, 5, &second.payment_request, 1_500, 2_000);
    server.offer(1, 2, &second.payment_request, 500, 2_000);
    let set = next(&mut accepted).await;
    assert_eq!(set.hash, second.hash);
    // SHA-256 over the sorted (node, chan_id, htlc_id), integers big-endian.
    let mut keys = vec![(front_node(2).0, 7_u64, 5_u64), (front_node(1).0, 7, 2)];
    keys.sort();
    let mut digest = Sha256::new();
    for (node, chan_id, htlc_id) in keys {
        digest.update(node);
        digest.update(chan_id.to_be_bytes());
        digest.update(htlc_id.to_be_bytes());
    }
    assert_eq!(set.set_id, digest.finalize().to_vec());
}

#[tokio::test]
async fn a_set_is_settled_by_its_id_and_followed_to_its_end() {
    let server = Server::start(Setup::default()).await;
    let made = add(&server, 1_000).await;
    let mut client = server.lnmux().await;
    let wait = WaitForInvoiceFinalStatusRequest { hash: made.hash.clone() };
    let error = client.wait_for_invoice_final_status(wait.clone()).await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound, "not decided yet");
    server.offer(1, 1, &made.payment_request, 1_000, 1_000);
    let request = SubscribeInvoiceAcceptedRequest {};
    let mut accepted = client.subscribe_invoice_accepted(request).await.unwrap().into_inner();
    let set_id = next(&mut accepted).await.set_id;
    let settle = SettleInvoiceRequest { hash: made.hash.clone(), set_id: set_id.clone() };
    let unknown = SettleInvoiceRequest { set_id: vec![1; 32].into(), ..settle.clone() };
    assert_eq!(client.settle_invoice(unknown).await.unwrap_err().code(), Code::NotFound);
    let nothing = SettleInvoiceRequest { set_id: Default::default(), ..settle.clone() };
    assert_eq!(client.settle_invoice(nothing).await.unwrap_err().code(), Code::InvalidArgument);
    client.settle_invoice(settle.clone()).await.unwrap();
    client.settle_invoice(settle).await.unwrap();
    let cancel = CancelInvoiceRequest { hash: made.hash.clone(), set_id };
    assert_eq!(client.cancel_invoice(cancel).await.unwrap_err().code(), Code::FailedPrecondition);

    let mut waiter = server.lnmux().await;
    let waiting = tokio::spawn(async move { waiter.wait_for_invoice_final_status(wait).await });
    let listed = client.list_invoices(ListInvoicesRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.invoice[0].status(), InvoiceStatus::StatusSettleRequested);
    server.finish(1, 1, FinalOutcome::Settled);
    let answer = soon(waiting).await.unwrap().unwrap().into_inner();
    assert_eq!(answer.invoice_status(), InvoiceStatus::StatusSettled);
}

#[tokio::test]
async fn a_cancelled_set_leaves_the_invoice_payable() {
    let server = Server::start(Setup::default()).await;
    let made = add(&server, 1_000).await;
    let mut client = server.lnmux().await;
    let request = SubscribeInvoiceAcceptedRequest {};
    let mut accepted = client.subscribe_invoice_accepted(request).await.unwrap().into_inner();
    server.offer(1, 1, &made.payment_request, 1_000, 1_000);
    let set_id = next(&mut accepted).await.set_id;
    let cancel = CancelInvoiceRequest { hash: made.hash.clone(), set_id: set_id.clone() };
    client.cancel_invoice(cancel.clone()).await.unwrap();
    assert_eq!(client.cancel_invoice(cancel).await.unwrap_err().code(), Code::NotFound);
    let settle = SettleInvoiceRequest { hash: made.hash.clone(), set_id };
    assert_eq!(client.settle_invoice(settle).await.unwrap_err().code(), Code::NotFound);
    server.offer(1, 2, &made.payment_request, 1_000, 1_000);
    assert_eq!(next(&mut accepted).await.hash, made.hash);
}

#[tokio::test]
async fn lists_know_decided_invoices_only_by_the_number_of_their_decision() {
    let server = Server::start(Setup { auto_settle: true, ..Setup::default() }).await;
    let (a, b, c) = (add(&server, 1_000).await, add(&server, 0).await, add(&server, 3_000).await);
    server.offer(1, 1, &c.payment_request, 3_000, 3_000);
    server.offer(1, 2, &b.payment_request, 777, 777);
    server.finish(1, 1, FinalOutcome::Failed);
    server.finish(1, 2, FinalOutcome::Settled);
    let list = async |sequence_start, max_invoices_count| {
        let request = ListInvoicesRequest { sequence_start, max_invoices_count };
        server.lnmux().await.list_invoices(request).await.unwrap().into_inner()
    };
    let all = list(0, 10).await;
    assert_eq!((all.first_sequence_number, all.last_sequence_number), (1, 2));
    assert!(all.invoice.iter().all(|invoice| invoice.hash != a.hash));
    let (lost, paid) = (&all.invoice[0], &all.invoice[1]);
    assert_eq!((&lost.hash, lost.status()), (&c.hash, InvoiceStatus::StatusFailed), "PARTIAL is FAILED");
    assert_eq!((&paid.hash, paid.status()), (&b.hash, InvoiceStatus::StatusSettled));
    assert_eq!((lost.amount_msat, paid.amount_msat), (3_000, 777));
    assert!(pays(&paid.preimage, &b.hash));
    assert_eq!(list(2, 10).await.invoice.len(), 1);
    assert_eq!(list(0, 1).await.last_sequence_number, 1);
    assert_eq!(list(3, 10).await.invoice.len(), 0);
}

#[tokio::test]
async fn with_auto_settle_there_is_nothing_to_settle_by_hand() {
    let server = Server::start(Setup { auto_settle: true, ..Setup::default() }).await;
    let made = add(&server, 1_000).await;
    server.offer(1, 1, &made.payment_request, 1_000, 1_000);
    let settle = SettleInvoiceRequest { hash: made.hash, set_id: vec![1; 32].into() };
    let error = server.lnmux().await.settle_invoice(settle).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
}
