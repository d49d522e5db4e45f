use crate::server::{Server, Setup, soon, told};
use mux_proto::mux::v1::{
    AddInvoiceRequest, Consistency, GetInvoiceRequest, HtlcResolution, ListHtlcsRequest, ListInvoicesRequest,
    ResolveHtlcRequest, Settings, SettleInvoiceRequest, TransferLeaderRequest, UpdateSettingsRequest,
};
use mux_raft::consensus::Consensus as _;
use mux_raft::local::Weather;
use std::time::Duration;
use tonic::Code;

#[tokio::test]
async fn without_a_quorum_writes_and_fresh_reads_are_unavailable() {
    let server = Server::start(Setup::default()).await;
    let made = server.add(1_000).await;
    server.consensus.set_weather(Weather::NoQuorum);
    let mut client = server.invoices().await;
    let error = client.add_invoice(AddInvoiceRequest::default()).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    let error = client
        .settle_invoice(SettleInvoiceRequest { hash: made.hash.clone(), ..Default::default() })
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    let fresh = GetInvoiceRequest { hash: made.hash.clone(), consistency: 0 };
    assert_eq!(client.get_invoice(fresh.clone()).await.unwrap_err().code(), Code::Unavailable);
    let stale = GetInvoiceRequest { consistency: Consistency::Stale.into(), ..fresh };
    assert_eq!(client.get_invoice(stale).await.unwrap().into_inner().invoice.unwrap().hash, made.hash);
}

#[tokio::test]
async fn a_stateless_invoice_needs_no_quorum() {
    let server = Server::start(Setup::default()).await;
    server.consensus.set_weather(Weather::NoQuorum);
    let request = AddInvoiceRequest { amount_msat: 1_000, stateless: true, ..Default::default() };
    let made = server.invoices().await.add_invoice(request).await.unwrap().into_inner();
    assert!(made.payment_request.starts_with("lnbcrt"));
}

#[tokio::test]
async fn a_lost_answer_is_reported_as_unknown_and_the_same_key_finds_out() {
    let server = Server::start(Setup::default()).await;
    let asked =
        AddInvoiceRequest { amount_msat: 1_000, idempotency_key: "order 7".into(), ..Default::default() };
    let mut client = server.invoices().await;
    server.consensus.set_weather(Weather::AnswerLost);
    let error = told(Duration::from_millis(800), &asked, |request| {
        let mut client = client.clone();
        async move { client.add_invoice(request).await }
    })
    .await;
    assert_eq!(error.code(), Code::Aborted, "{error}");
    assert!(error.message().starts_with("outcome unknown"), "{error}");
    server.consensus.set_weather(Weather::Fair);
    let found = client.add_invoice(asked).await.unwrap().into_inner();
    assert_eq!(found.add_index, 1, "it was the first call that made it");
    let list = client.list_invoices(ListInvoicesRequest::default()).await.unwrap().into_inner();
    assert_eq!(list.invoices.len(), 1, "repeating made no second one");
}

#[tokio::test]
async fn an_add_without_a_key_finds_out_by_itself_once_answers_arrive_again() {
    let server = Server::start(Setup::default()).await;
    server.consensus.set_weather(Weather::AnswerLost);
    let mut client = server.invoices().await;
    let waiting = tokio::spawn(async move { client.add_invoice(AddInvoiceRequest::default()).await });
    let mut applied = server.consensus.state().watch();
    let added = || server.consensus.state().read(|state| state.invoices_after(0).count());
    soon(async {
        while added() == 0 {
            applied.changed().await.unwrap();
        }
    })
    .await;
    server.consensus.set_weather(Weather::Fair);
    let made = soon(waiting).await.unwrap().unwrap().into_inner();
    assert_eq!((made.add_index, added()), (1, 1), "once, although proposed more than once");
}

#[tokio::test]
async fn a_settle_whose_answer_was_lost_may_be_repeated() {
    let server = Server::start(Setup::default()).await;
    let made = server.add(1_000).await;
    server.offer(1, 1, &made.payment_request, 1_000, 1_000);
    server.consensus.set_weather(Weather::AnswerLost);
    let mut client = server.invoices().await;
    let asked = SettleInvoiceRequest { hash: made.hash.clone(), ..Default::default() };
    let error = told(Duration::from_millis(800), &asked, |request| {
        let mut client = client.clone();
        async move { client.settle_invoice(request).await }
    })
    .await;
    assert_eq!(error.code(), Code::Aborted, "{error}");
    server.consensus.set_weather(Weather::Fair);
    assert_eq!(client.settle_invoice(asked).await.unwrap().into_inner().decision_index, 1);
}

#[tokio::test]
async fn settings_change_what_is_given_and_nothing_else() {
    let server = Server::start(Setup::default()).await;
    let mut client = server.cluster().await;
    let before = client.get_status(mux_proto::mux::v1::GetStatusRequest {}).await.unwrap().into_inner();
    let changes = Settings { margin_blocks: Some(9), ..Default::default() };
    let request = UpdateSettingsRequest { settings: Some(changes) };
    let after = client.update_settings(request).await.unwrap().into_inner().settings.unwrap();
    assert_eq!(after, Settings { margin_blocks: Some(9), ..before.settings.unwrap() });
    let wrong = Settings { margin_blocks: Some(0), ..Default::default() };
    let error = client.update_settings(UpdateSettingsRequest { settings: Some(wrong) }).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn the_status_tells_front_nodes_members_and_counts() {
    let server = Server::start(Setup { front_nodes: 2, ..Setup::default() }).await;
    let made = server.add(1_000).await;
    server.offer(1, 1, &made.payment_request, 1_000, 1_000);
    let request = mux_proto::mux::v1::GetStatusRequest {};
    let status = server.cluster().await.get_status(request).await.unwrap().into_inner();
    assert_eq!((status.leader, status.replica_id, status.quorum), (1, 1, true));
    assert_eq!(status.pub_key, server.keys.node_pubkey().0.to_vec());
    assert_eq!(status.front_nodes.len(), 2);
    assert!(status.front_nodes.iter().all(|node| node.healthy && node.session_confirmed));
    let held: Vec<_> = status.front_nodes.iter().map(|node| (node.alias.as_str(), node.held_htlcs)).collect();
    assert!(held.contains(&("n1", 1)) && held.contains(&("n2", 0)), "{held:?}");
    assert_eq!((status.invoices_by_state["accepted"], status.invoices_by_state["open"]), (1, 0));
    assert_eq!(status.members.len(), 1);
}

#[tokio::test]
async fn htlcs_are_listed_and_resolved_only_if_an_operator_is_needed() {
    let server = Server::start(Setup::default()).await;
    let made = server.add(1_000).await;
    server.offer(1, 1, &made.payment_request, 1_000, 1_000);
    let mut client = server.cluster().await;
    let list = ListHtlcsRequest { hash: made.hash.clone(), only_unresolved: true, limit: 0 };
    let htlcs = client.list_htlcs(list).await.unwrap().into_inner().htlcs;
    assert_eq!(htlcs.len(), 1);
    assert_eq!((htlcs[0].verdict.as_str(), htlcs[0].r#final.as_str()), ("held", "open"));
    let mut resolve = ResolveHtlcRequest {
        front_node: htlcs[0].front_node.clone(),
        chan_id: htlcs[0].chan_id,
        htlc_id: htlcs[0].htlc_id,
        resolution: HtlcResolution::Settled.into(),
    };
    let error = client.resolve_htlc(resolve.clone()).await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
    resolve.resolution = 0;
    assert_eq!(client.resolve_htlc(resolve).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn leadership_is_not_given_to_strangers() {
    let server = Server::start(Setup::default()).await;
    let mut client = server.cluster().await;
    let error = client.transfer_leader(TransferLeaderRequest { target: 9 }).await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    let error = client.transfer_leader(TransferLeaderRequest { target: 0 }).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "there is nobody else");
}

#[tokio::test]
async fn a_replica_that_has_not_heard_of_any_front_node_says_so_and_does_not_blame_the_cluster() {
    let server = Server::start(Setup { front_nodes: 0, ..Setup::default() }).await;
    let mut client = server.invoices().await;
    for stateless in [false, true] {
        let request = AddInvoiceRequest { amount_msat: 1_000, stateless, ..Default::default() };
        server.consensus.set_weather(Weather::NoQuorum);
        let error = client.add_invoice(request.clone()).await.unwrap_err();
        assert_eq!(error.code(), Code::Unavailable, "{error}");
        assert!(error.message().contains("ask another replica"), "{error}");
        server.consensus.set_weather(Weather::Fair);
        let error = client.add_invoice(request).await.unwrap_err();
        assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
        assert!(error.message().contains("no front node is registered"), "{error}");
    }
}
