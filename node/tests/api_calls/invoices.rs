use crate::server::{NOW_MS, Server, Setup, front_node, pays};
use lightning_invoice::Bolt11Invoice;
use mux_proto::mux::v1::add_invoice_request::What;
use mux_proto::mux::v1::{
    AddInvoiceRequest, CancelInvoiceRequest, GetInvoiceRequest, InvoiceState, ListInvoicesRequest,
};
use mux_raft::machine::command::{Command, FinalOutcome};
use std::collections::BTreeSet;
use tonic::Code;

#[tokio::test]
async fn an_added_invoice_is_found_with_what_was_asked_for() {
    let server = Server::start(Setup::default()).await;
    let request = AddInvoiceRequest {
        amount_msat: 5_000,
        expiry_secs: 600,
        min_final_cltv: 40,
        what: Some(What::Description("coffee".into())),
        ..Default::default()
    };
    let made = server.invoices().await.add_invoice(request).await.unwrap().into_inner();
    let bolt11: Bolt11Invoice = made.payment_request.parse().unwrap();
    assert_eq!(bolt11.amount_milli_satoshis(), Some(5_000));
    assert_eq!(bolt11.description().to_string(), "coffee");
    assert_eq!(bolt11.min_final_cltv_expiry_delta(), 40);
    assert_eq!(bolt11.expiry_time().as_secs(), 600);
    assert_eq!(bolt11.payment_secret().0, made.payment_secret[..]);
    let shown = server.get(&made.hash).await;
    assert_eq!(shown.state(), InvoiceState::Open);
    assert_eq!((shown.amount_msat, shown.description.as_str()), (5_000, "coffee"));
    assert_eq!((shown.add_index, made.add_index), (1, 1));
    assert_eq!(shown.payment_request, made.payment_request);
    assert_eq!(shown.expires_at_ms, NOW_MS + 600_000);
    assert!(shown.preimage.is_empty());
}

#[tokio::test]
async fn the_payer_may_choose_the_amount_and_a_hash_may_describe() {
    let server = Server::start(Setup::default()).await;
    let what = Some(What::DescriptionHash(vec![7; 32].into()));
    let request = AddInvoiceRequest { what, ..Default::default() };
    let made = server.invoices().await.add_invoice(request).await.unwrap().into_inner();
    let bolt11: Bolt11Invoice = made.payment_request.parse().unwrap();
    assert_eq!(bolt11.amount_milli_satoshis(), None);
    assert_eq!(server.get(&made.hash).await.description_hash, vec![7; 32]);
    server.offer(1, 1, &made.payment_request, 123, 123);
    assert_eq!(server.get(&made.hash).await.state(), InvoiceState::Accepted);
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused_as_such() {
    let server = Server::start(Setup::default()).await;
    let long = "x".repeat(640);
    let wrong = [
        AddInvoiceRequest { amount_msat: u64::MAX, ..Default::default() },
        AddInvoiceRequest { expiry_secs: u64::MAX, ..Default::default() },
        AddInvoiceRequest { min_final_cltv: 70_000, ..Default::default() },
        AddInvoiceRequest { min_final_cltv: 1, ..Default::default() },
        AddInvoiceRequest { what: Some(What::Description(long.clone())), ..Default::default() },
        AddInvoiceRequest { what: Some(What::DescriptionHash(vec![1; 31].into())), ..Default::default() },
        AddInvoiceRequest { idempotency_key: long, ..Default::default() },
        AddInvoiceRequest { stateless: true, idempotency_key: "k".into(), ..Default::default() },
    ];
    for request in wrong {
        let error = server.invoices().await.add_invoice(request.clone()).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{request:?}: {error}");
    }
    let request = GetInvoiceRequest { hash: vec![1; 5].into(), consistency: 0 };
    let error = server.invoices().await.get_invoice(request).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    let request = GetInvoiceRequest { hash: vec![1; 32].into(), consistency: 0 };
    let error = server.invoices().await.get_invoice(request).await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
}

#[tokio::test]
async fn the_same_key_makes_one_invoice() {
    let server = Server::start(Setup::default()).await;
    let request =
        AddInvoiceRequest { amount_msat: 1_000, idempotency_key: "order 7".into(), ..Default::default() };
    let mut client = server.invoices().await;
    let first = client.add_invoice(request.clone()).await.unwrap().into_inner();
    let again = client.add_invoice(request.clone()).await.unwrap().into_inner();
    assert_eq!(first, again);
    let other = AddInvoiceRequest { amount_msat: 2_000, ..request.clone() };
    assert_eq!(client.add_invoice(other).await.unwrap_err().code(), Code::AlreadyExists);
    let other_key = AddInvoiceRequest { idempotency_key: "order 8".into(), ..request };
    assert_ne!(client.add_invoice(other_key).await.unwrap().into_inner().hash, first.hash);
}

#[tokio::test]
async fn hints_take_turns_and_prefer_healthy_front_nodes() {
    let server = Server::start(Setup { front_nodes: 5, ..Setup::default() }).await;
    let hinted = |text: &str| -> Vec<Vec<u8>> {
        let bolt11: Bolt11Invoice = text.parse().unwrap();
        bolt11.route_hints().iter().map(|hint| hint.0[0].src_node_id.serialize().to_vec()).collect()
    };
    let mut first_ones = BTreeSet::new();
    for _ in 0..5 {
        let hints = hinted(&server.add(1).await.payment_request);
        assert_eq!(hints.iter().collect::<BTreeSet<_>>().len(), 3, "three different ones");
        first_ones.insert(hints[0].clone());
    }
    assert_eq!(first_ones.len(), 5, "every front node has its turn");
    // All but two are not heard from any more.
    server.consensus.advance(4_000);
    server.report(2, Vec::new());
    server.report(4, Vec::new());
    let healthy: BTreeSet<_> = [2, 4].map(|number| front_node(number).0.to_vec()).into();
    let hints: BTreeSet<_> = hinted(&server.add(1).await.payment_request).into_iter().collect();
    assert_eq!(hints, healthy);
    server.consensus.advance(4_000);
    assert_eq!(hinted(&server.add(1).await.payment_request).len(), 3, "if none is healthy, any");
}

#[tokio::test]
async fn without_a_front_node_no_invoice_is_made() {
    let server = Server::start(Setup { front_nodes: 0, ..Setup::default() }).await;
    let error = server.invoices().await.add_invoice(AddInvoiceRequest::default()).await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    assert!(error.message().contains("front_nodes"), "{error}");
}

#[tokio::test]
async fn a_stateless_invoice_is_known_from_its_first_htlc_on() {
    let server = Server::start(Setup { auto_settle: true, ..Setup::default() }).await;
    let request = AddInvoiceRequest { amount_msat: 1_000, stateless: true, ..Default::default() };
    let made = server.invoices().await.add_invoice(request).await.unwrap().into_inner();
    assert_eq!(made.add_index, 0);
    let request = GetInvoiceRequest { hash: made.hash.clone(), consistency: 0 };
    let error = server.invoices().await.get_invoice(request).await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    server.offer(1, 1, &made.payment_request, 1_000, 1_000);
    let shown = server.get(&made.hash).await;
    assert!(shown.stateless);
    assert_eq!((shown.state(), shown.add_index), (InvoiceState::Settling, 1));
    assert!(pays(&shown.preimage, &made.hash));
}

#[tokio::test]
async fn an_unseen_stateless_invoice_is_cancelled_by_its_text() {
    let server = Server::start(Setup { auto_settle: true, ..Setup::default() }).await;
    let request = AddInvoiceRequest { amount_msat: 1_000, stateless: true, ..Default::default() };
    let made = server.invoices().await.add_invoice(request).await.unwrap().into_inner();
    let by_hash = CancelInvoiceRequest { hash: made.hash.clone(), ..Default::default() };
    let error = server.invoices().await.cancel_invoice(by_hash).await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    let by_text =
        CancelInvoiceRequest { payment_request: made.payment_request.clone(), ..Default::default() };
    server.invoices().await.cancel_invoice(by_text).await.unwrap();
    server.offer(1, 1, &made.payment_request, 1_000, 1_000);
    assert_eq!(server.get(&made.hash).await.state(), InvoiceState::Canceled);
    let foreign = CancelInvoiceRequest { payment_request: "lnbcrt1nonsense".into(), ..Default::default() };
    let error = server.invoices().await.cancel_invoice(foreign).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn lists_page_in_both_directions_and_filter() {
    let server = Server::start(Setup { auto_settle: true, ..Setup::default() }).await;
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(server.add(1_000).await);
    }
    server.offer(1, 1, &made[2].payment_request, 1_000, 1_000);
    server.finish(1, 1, FinalOutcome::Settled);
    let list = async |after_add_index, limit, newest_first, states: Vec<i32>| {
        let request = ListInvoicesRequest { after_add_index, limit, newest_first, states, consistency: 0 };
        let page = server.invoices().await.list_invoices(request).await.unwrap().into_inner();
        let numbers: Vec<_> = page.invoices.iter().map(|invoice| invoice.add_index).collect();
        (numbers, page.next_add_index)
    };
    assert_eq!(list(0, 2, false, vec![]).await, (vec![1, 2], 2));
    assert_eq!(list(2, 2, false, vec![]).await, (vec![3, 4], 4));
    assert_eq!(list(4, 2, false, vec![]).await, (vec![5], 0));
    assert_eq!(list(0, 2, true, vec![]).await, (vec![5, 4], 4));
    assert_eq!(list(4, 9, true, vec![]).await, (vec![3, 2, 1], 0));
    assert_eq!(list(0, 9, false, vec![InvoiceState::Settled.into()]).await, (vec![3], 0));
    assert_eq!(list(0, 4, false, vec![InvoiceState::Open.into()]).await, (vec![1, 2, 4, 5], 0));
}

#[tokio::test]
async fn cancelling_is_final_for_an_invoice_and_not_for_a_set() {
    let server = Server::start(Setup::default()).await;
    let made = server.add(1_000).await;
    server.offer(1, 1, &made.payment_request, 1_000, 1_000);
    let set_id = server.get(&made.hash).await.set_id;
    let mut client = server.invoices().await;
    let set = CancelInvoiceRequest { hash: made.hash.clone(), set_id, ..Default::default() };
    client.cancel_invoice(set.clone()).await.unwrap();
    assert_eq!(server.get(&made.hash).await.state(), InvoiceState::Open);
    assert_eq!(client.cancel_invoice(set).await.unwrap_err().code(), Code::NotFound, "that set is gone");
    let invoice = CancelInvoiceRequest { hash: made.hash.clone(), ..Default::default() };
    client.cancel_invoice(invoice).await.unwrap();
    assert_eq!(server.get(&made.hash).await.state(), InvoiceState::Canceled);
    server.offer(1, 2, &made.payment_request, 1_000, 1_000);
    assert_eq!(server.get(&made.hash).await.state(), InvoiceState::Canceled);
}

/// Front nodes that an invoice names.
fn named(payment_request: &str) -> BTreeSet<[u8; 33]> {
    let invoice: Bolt11Invoice = payment_request.parse().unwrap();
    invoice.route_hints().into_iter().map(|hint| hint.0[0].src_node_id.serialize()).collect()
}

#[tokio::test]
async fn an_invoice_names_healthy_front_nodes_and_says_if_there_is_none() {
    let server = Server::start(Setup { front_nodes: 2, ..Setup::default() }).await;
    let both = server.add(1_000).await;
    let all = [1, 2].map(|number| front_node(number).0);
    assert_eq!((named(&both.payment_request), both.warnings.len()), (BTreeSet::from(all), 0));
    server.run(Command::LinkDown { node: front_node(1), session: 1 });
    for _ in 0..4 {
        let one = server.add(1_000).await;
        assert_eq!((named(&one.payment_request), one.warnings.len()), (BTreeSet::from([all[1]]), 0));
    }
    server.run(Command::LinkDown { node: front_node(2), session: 1 });
    for stateless in [false, true] {
        let request = AddInvoiceRequest { amount_msat: 1_000, stateless, ..Default::default() };
        let none = server.invoices().await.add_invoice(request).await.unwrap().into_inner();
        assert_eq!(named(&none.payment_request), BTreeSet::from(all), "they may be back");
        assert!(none.warnings[0].contains("no front node is healthy now (n"), "{:?}", none.warnings);
    }
}
