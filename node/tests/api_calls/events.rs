use crate::server::{Server, Setup, soon};
use mux_proto::mux::v1::{EventKind, SubscribeEventsRequest, SubscribeEventsResponse};
use mux_raft::machine::command::FinalOutcome;
use tonic::{Code, Streaming};

async fn subscribe(server: &Server, request: SubscribeEventsRequest) -> Streaming<SubscribeEventsResponse> {
    server.invoices().await.subscribe_events(request).await.unwrap().into_inner()
}

async fn next(events: &mut Streaming<SubscribeEventsResponse>) -> SubscribeEventsResponse {
    soon(events.message()).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_subscriber_sees_everything_in_order_and_goes_on_anywhere_without_a_gap() {
    let server = Server::start(Setup { auto_settle: true, ..Setup::default() }).await;
    let made = server.add(1_000).await;
    let mut events = subscribe(&server, SubscribeEventsRequest::default()).await;
    server.offer(1, 1, &made.payment_request, 1_000, 1_000);
    server.finish(1, 1, FinalOutcome::Settled);
    let expected = [
        EventKind::Added,
        EventKind::HtlcJoined,
        EventKind::Accepted,
        EventKind::Settling,
        EventKind::HtlcFinal,
        EventKind::Settled,
    ];
    let mut seen = Vec::new();
    for (at, kind) in expected.into_iter().enumerate() {
        let event = next(&mut events).await;
        assert_eq!((event.sequence, event.kind()), (at as u64 + 1, kind));
        assert_eq!(event.hash, made.hash);
        seen.push(event);
    }
    for after in 0..expected.len() {
        let request = SubscribeEventsRequest { after_sequence: after as u64, ..Default::default() };
        let mut resumed = subscribe(&server, request).await;
        for event in &seen[after..] {
            assert_eq!(next(&mut resumed).await, *event);
        }
    }
}

#[tokio::test]
async fn a_subscriber_ahead_of_this_replica_gets_what_comes_next() {
    let server = Server::start(Setup::default()).await;
    server.add(1).await;
    let ahead = SubscribeEventsRequest { after_sequence: 2, ..Default::default() };
    let mut events = subscribe(&server, ahead).await;
    server.add(2).await;
    server.add(3).await;
    assert_eq!(next(&mut events).await.sequence, 3);
}

#[tokio::test]
async fn from_now_and_for_one_invoice_only() {
    let server = Server::start(Setup::default()).await;
    let first = server.add(1_000).await;
    let from_now = SubscribeEventsRequest { from_now: true, ..Default::default() };
    let mut now = subscribe(&server, from_now).await;
    let of_one = SubscribeEventsRequest { hash: first.hash.clone(), ..Default::default() };
    let mut one = subscribe(&server, of_one).await;
    let second = server.add(1_000).await;
    server.offer(1, 1, &first.payment_request, 1_000, 1_000);
    assert_eq!(next(&mut now).await.hash, second.hash);
    assert_eq!(next(&mut one).await.kind(), EventKind::Added);
    let joined = next(&mut one).await;
    assert_eq!((joined.kind(), joined.hash), (EventKind::HtlcJoined, first.hash));
}

#[tokio::test]
async fn streams_end_with_a_word_when_the_replica_stops() {
    let server = Server::start(Setup::default()).await;
    let mut events = subscribe(&server, SubscribeEventsRequest::default()).await;
    server.streams.cancel();
    let error = soon(events.message()).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    soon(server.api.stop()).await;
}

#[tokio::test]
async fn many_events_arrive_complete() {
    let server = Server::start(Setup::default()).await;
    // More than a batch and more than the queue.
    for _ in 0..700 {
        server.add(1).await;
    }
    let mut events = subscribe(&server, SubscribeEventsRequest::default()).await;
    for sequence in 1..=700 {
        assert_eq!(next(&mut events).await.sequence, sequence);
    }
}
