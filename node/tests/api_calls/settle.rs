use crate::server::{Server, Setup, front_node, pays, soon, told};
use mux_proto::mux::v1::{
    CancelInvoiceRequest, InvoiceState, ListInvoicesRequest, RemoveFrontNodeRequest, SettleInvoiceRequest,
};
use mux_raft::consensus::Consensus as _;
use mux_raft::local::Weather;
use mux_raft::machine::command::{Command, FinalOutcome};
use mux_raft::types::PaymentHash;
use std::time::Duration;
use tonic::Code;

fn settle(hash: &[u8]) -> SettleInvoiceRequest {
    SettleInvoiceRequest { hash: hash.to_vec().into(), ..Default::default() }
}

/// A set of two parts over two front nodes, complete, its gate closed by an inactive channel.
async fn with_a_closed_gate(server: &Server) -> prost::bytes::Bytes {
    let made = server.add(2_000).await;
    server.offer(1, 1, &made.payment_request, 1_000, 2_000);
    server.offer(2, 1, &made.payment_request, 1_000, 2_000);
    server.report(2, vec![7]);
    assert_eq!(server.get(&made.hash).await.state(), InvoiceState::Accepted);
    made.hash
}

/// The intent has reached the log.
async fn intent_is_kept(server: &Server, hash: &[u8]) {
    let hash = PaymentHash::try_from(hash).unwrap();
    let mut applied = server.consensus.state().watch();
    let kept = || {
        server.consensus.state().read(|state| {
            let set = state.invoice(&hash).and_then(|invoice| invoice.set.as_ref());
            set.is_some_and(|set| set.settle_intent)
        })
    };
    soon(async {
        while !kept() {
            applied.changed().await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn a_preimage_is_shown_after_the_decision_and_never_before() {
    let server = Server::start(Setup::default()).await;
    let made = server.add(1_000).await;
    let lists_none = async || {
        let page = server.invoices().await.list_invoices(ListInvoicesRequest::default()).await;
        let invoices = page.unwrap().into_inner().invoices;
        assert!(invoices.iter().all(|invoice| invoice.preimage.is_empty()));
        assert!(server.get(&made.hash).await.preimage.is_empty());
    };
    lists_none().await;
    server.offer(1, 1, &made.payment_request, 1_000, 1_000);
    assert_eq!(server.get(&made.hash).await.state(), InvoiceState::Accepted);
    lists_none().await;
    let answer = server.invoices().await.settle_invoice(settle(&made.hash)).await.unwrap().into_inner();
    assert_eq!(answer.decision_index, 1);
    let shown = server.get(&made.hash).await;
    assert_eq!(shown.state(), InvoiceState::Settling);
    assert!(pays(&shown.preimage, &made.hash));
    server.finish(1, 1, FinalOutcome::Settled);
    let shown = server.get(&made.hash).await;
    assert_eq!((shown.state(), shown.amount_received_msat), (InvoiceState::Settled, 1_000));
    assert_eq!(shown.htlcs[0].r#final, "settled");
}

#[tokio::test]
async fn a_cancelled_invoice_never_shows_its_preimage() {
    let server = Server::start(Setup::default()).await;
    let made = server.add(1_000).await;
    server.offer(1, 1, &made.payment_request, 1_000, 1_000);
    let request = CancelInvoiceRequest { hash: made.hash.clone(), ..Default::default() };
    server.invoices().await.cancel_invoice(request).await.unwrap();
    assert!(server.get(&made.hash).await.preimage.is_empty());
    let error = server.invoices().await.settle_invoice(settle(&made.hash)).await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn settling_twice_gives_the_same_answer_and_cancelling_then_is_too_late() {
    let server = Server::start(Setup::default()).await;
    let made = server.add(1_000).await;
    server.offer(1, 1, &made.payment_request, 1_000, 1_000);
    let mut client = server.invoices().await;
    let first = client.settle_invoice(settle(&made.hash)).await.unwrap().into_inner();
    let again = client.settle_invoice(settle(&made.hash)).await.unwrap().into_inner();
    assert_eq!(first, again);
    let request = CancelInvoiceRequest { hash: made.hash.clone(), ..Default::default() };
    assert_eq!(client.cancel_invoice(request).await.unwrap_err().code(), Code::FailedPrecondition);
    server.finish(1, 1, FinalOutcome::Failed);
    assert_eq!(server.get(&made.hash).await.state(), InvoiceState::Partial, "lost, and it says so");
}

#[tokio::test]
async fn only_the_named_set_is_settled() {
    let server = Server::start(Setup::default()).await;
    let made = server.add(1_000).await;
    server.offer(1, 1, &made.payment_request, 1_000, 1_000);
    let set_id = server.get(&made.hash).await.set_id;
    let mut client = server.invoices().await;
    let other = SettleInvoiceRequest { set_id: vec![9; 32].into(), ..settle(&made.hash) };
    assert_eq!(client.settle_invoice(other).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(server.get(&made.hash).await.state(), InvoiceState::Accepted);
    client.settle_invoice(SettleInvoiceRequest { set_id, ..settle(&made.hash) }).await.unwrap();
    let unknown = settle(&[8; 32]);
    assert_eq!(client.settle_invoice(unknown).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn settle_waits_for_the_gate_and_answers_after_the_decision() {
    let server = Server::start(Setup { front_nodes: 2, ..Setup::default() }).await;
    let hash = with_a_closed_gate(&server).await;
    let mut client = server.invoices().await;
    let waiting = tokio::spawn({
        let hash = hash.clone();
        async move { client.settle_invoice(settle(&hash)).await }
    });
    intent_is_kept(&server, &hash).await;
    assert!(server.get(&hash).await.preimage.is_empty(), "the intent decides nothing");
    assert!(!waiting.is_finished());
    server.report(2, Vec::new());
    let answer = soon(waiting).await.unwrap().unwrap().into_inner();
    assert_eq!(answer.decision_index, 1);
    assert_eq!(server.get(&hash).await.state(), InvoiceState::Settling);
}

#[tokio::test]
async fn settle_gives_up_at_the_callers_deadline_but_keeps_the_intent() {
    let server = Server::start(Setup { front_nodes: 2, ..Setup::default() }).await;
    let hash = with_a_closed_gate(&server).await;
    let client = server.invoices().await;
    let error = told(Duration::from_millis(1_500), &settle(&hash), |request| {
        let mut client = client.clone();
        async move { client.settle_invoice(request).await }
    })
    .await;
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    assert!(error.message().starts_with("not decided"), "{error}");
    assert!(error.message().contains("channel is not active"), "it says what is in the way: {error}");
    server.report(2, Vec::new());
    assert_eq!(server.get(&hash).await.state(), InvoiceState::Settling);
}

#[tokio::test]
async fn cancel_wins_over_an_undecided_settle() {
    let server = Server::start(Setup { front_nodes: 2, ..Setup::default() }).await;
    let hash = with_a_closed_gate(&server).await;
    let mut client = server.invoices().await;
    let waiting = tokio::spawn({
        let hash = hash.clone();
        async move { client.settle_invoice(settle(&hash)).await }
    });
    intent_is_kept(&server, &hash).await;
    let request = CancelInvoiceRequest { hash: hash.clone(), ..Default::default() };
    server.invoices().await.cancel_invoice(request).await.unwrap();
    let error = soon(waiting).await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    server.report(2, Vec::new());
    let shown = server.get(&hash).await;
    assert_eq!(shown.state(), InvoiceState::Canceled);
    assert!(shown.preimage.is_empty());
}

#[tokio::test]
async fn a_removal_before_the_call_looked_at_its_set_is_told_as_the_reason_too() {
    let server = Server::start(Setup { front_nodes: 2, ..Setup::default() }).await;
    let hash = with_a_closed_gate(&server).await;
    let mut client = server.invoices().await;
    server.consensus.set_weather(Weather::AnswerLate);
    let waiting = tokio::spawn({
        let hash = hash.clone();
        async move { client.settle_invoice(settle(&hash)).await }
    });
    intent_is_kept(&server, &hash).await;
    server.run(Command::RemoveFrontNode { node: front_node(2), force: true });
    // Only now the call hears that its wish was kept: it never sees the set.
    server.consensus.set_weather(Weather::Fair);
    let error = soon(waiting).await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    assert!(error.message().contains("a front node that held a part of it was removed"), "{error}");
}

#[tokio::test]
async fn removing_a_front_node_by_force_ends_a_waiting_settle_and_says_why() {
    let server = Server::start(Setup { front_nodes: 2, ..Setup::default() }).await;
    let hash = with_a_closed_gate(&server).await;
    let mut client = server.invoices().await;
    let waiting = tokio::spawn({
        let hash = hash.clone();
        async move { client.settle_invoice(settle(&hash)).await }
    });
    intent_is_kept(&server, &hash).await;
    let pub_key = front_node(2).0.to_vec().into();
    let request = RemoveFrontNodeRequest { pub_key, force: true };
    server.cluster().await.remove_front_node(request).await.unwrap();
    let error = soon(waiting).await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    assert!(error.message().contains("a front node that held a part of it was removed"), "{error}");
    assert_eq!(server.get(&hash).await.state(), InvoiceState::Open, "payable over the other node");
}
