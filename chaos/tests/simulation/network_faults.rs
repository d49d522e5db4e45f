//! What clients and services see of a network, or of each other, when something is wrong.

use crate::bench::{Bench, CLIENT, SERVER, fixed};
use crate::toy;
use mux_chaos::sim::host::{Ending, HostId};
use mux_chaos::sim::net::Conditions;
use mux_proto::mux::raft::v1::TransferLeaderRequest;
use std::time::Duration;

/// A call that never ends by itself, and how it ended.
fn hang(bench: &Bench) {
    bench.at_client(|mut client| async move {
        let status = client.transfer_leader(TransferLeaderRequest::default()).await.unwrap_err();
        format!("{:?}, {}", status.code(), status.message())
    });
}

fn was_dropped(bench: &Bench) -> bool {
    bench.seen.all().iter().any(|line| line == "dropped")
}

/// Holds directions under a call that hangs, and checks that both ends notice by their keep-alive.
fn held(directions: &[(HostId, HostId)]) {
    let mut bench = Bench::new(1, fixed(5));
    hang(&bench);
    bench.run_until(1_000);
    for (from, to) in directions {
        bench.network.hold(*from, *to);
        assert!(!bench.network.passes(*from, *to));
    }
    bench.run_until(3_000);
    assert!(bench.told().is_empty(), "not before two seconds: {:?}", bench.told());
    bench.run_until(4_100);
    let (at, text) = bench.only();
    assert!((3_000..=4_010).contains(&at), "after two to three seconds: {at}");
    assert!(text.starts_with("Unavailable") && text.contains("keep-alive"), "{text}");
    bench.run_until(7_100);
    assert!(was_dropped(&bench), "the service too");
}

#[test]
fn a_partition_is_noticed_at_both_ends_by_keep_alive() {
    held(&[(CLIENT, SERVER), (SERVER, CLIENT)]);
}

#[test]
fn one_direction_is_enough() {
    held(&[(CLIENT, SERVER)]);
    held(&[(SERVER, CLIENT)]);
}

#[test]
fn what_was_held_arrives_if_the_partition_ends_in_time() {
    let mut bench = Bench::new(1, fixed(5));
    bench.at_client(|mut client| async move {
        client.vote(toy::vote(1)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        client.vote(toy::vote(2)).await.unwrap();
        "both".into()
    });
    bench.run_until(400);
    bench.network.hold(CLIENT, SERVER);
    bench.run_until(1_000);
    assert_eq!(bench.seen.all().len(), 1);
    bench.network.release(CLIENT, SERVER);
    bench.run_until(2_000);
    let (at, text) = bench.only();
    assert_eq!(text, "both");
    assert!((1_000..1_100).contains(&at), "{at}");
}

#[test]
fn what_was_on_its_way_when_a_partition_began_is_held_too() {
    let mut bench = Bench::new(1, fixed(50));
    bench.at_client(|mut client| async move { format!("{}", client.vote(toy::vote(1)).await.is_ok()) });
    bench.run_until(120);
    // The request has left.
    bench.network.hold(CLIENT, SERVER);
    bench.run_until(1_000);
    assert!(bench.seen.all().is_empty());
    bench.network.release(CLIENT, SERVER);
    bench.run_until(2_000);
    assert_eq!(bench.only().1, "true");
}

#[test]
fn a_new_connection_into_a_partition_times_out() {
    let mut bench = Bench::new(1, fixed(5));
    bench.network.hold(SERVER, CLIENT);
    bench.at_client(|mut client| async move { client.vote(toy::vote(1)).await.unwrap_err().to_string() });
    bench.run_until(2_000);
    let (at, text) = bench.only();
    assert_eq!(at, 1_000);
    assert!(text.contains("timed out"), "{text}");
}

#[test]
fn a_broken_connection_ends_its_calls_and_the_next_makes_another() {
    let mut bench = Bench::new(1, fixed(5));
    bench.at_client(|mut client| async move {
        let first = client.transfer_leader(TransferLeaderRequest::default()).await.unwrap_err();
        let second = client.vote(toy::vote(1)).await.is_ok();
        format!("{:?}, then {second}", first.code())
    });
    bench.run_until(500);
    assert_eq!(bench.network.break_connections(SERVER, CLIENT), 1);
    bench.run_until(1_000);
    assert_eq!(bench.only().1, "Unavailable, then true");
    assert!(was_dropped(&bench));
    assert_eq!(bench.network.traffic().connects, 2);
}

#[test]
fn connections_are_refused_while_they_are_to_be() {
    let mut bench = Bench::new(1, fixed(5));
    bench.network.refuse(CLIENT, SERVER, true);
    bench.at_client(|mut client| async move {
        let refused = client.vote(toy::vote(1)).await.unwrap_err().to_string();
        tokio::time::sleep(Duration::from_millis(500)).await;
        format!("{}, then {}", refused.contains("refused"), client.vote(toy::vote(2)).await.is_ok())
    });
    bench.run_until(200);
    bench.network.refuse(CLIENT, SERVER, false);
    bench.run_until(1_000);
    assert_eq!(bench.only().1, "true, then true");
}

#[test]
fn a_killed_server_ends_its_calls_at_once_and_refuses_until_it_is_back() {
    let mut bench = Bench::new(1, fixed(5));
    bench.at_client(|mut client| async move {
        let first = client.transfer_leader(TransferLeaderRequest::default()).await.unwrap_err();
        let second = client.vote(toy::vote(1)).await.unwrap_err();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let third = client.vote(toy::vote(2)).await.is_ok();
        format!("{:?}, {}, {third}", first.code(), second.message().contains("refused"))
    });
    bench.run_until(500);
    bench.end_server(Ending::Killed);
    bench.run_until(1_000);
    bench.start_server();
    bench.run_until(3_000);
    let (at, text) = bench.only();
    assert_eq!(text, "Unavailable, true, true");
    assert!(at < 1_600, "no time-out was needed: {at}");
}

#[test]
fn a_server_without_power_says_nothing() {
    let mut bench = Bench::new(1, fixed(5));
    hang(&bench);
    bench.run_until(500);
    bench.end_server(Ending::PowerCut);
    bench.run_until(2_400);
    assert!(bench.told().is_empty());
    bench.at_client(|mut client| async move { client.vote(toy::vote(1)).await.unwrap_err().to_string() });
    bench.run_until(5_000);
    let told = bench.told();
    assert!(told[0].contains("keep-alive") || told[1].contains("keep-alive"), "{told:?}");
    assert!(told.iter().any(|line| line.contains("connecting timed out")), "{told:?}");
}

#[test]
fn a_server_that_is_back_knows_nothing_of_older_connections() {
    let mut bench = Bench::new(1, fixed(5));
    hang(&bench);
    bench.run_until(500);
    bench.end_server(Ending::PowerCut);
    bench.run_until(600);
    bench.start_server();
    bench.run_until(700);
    let (_, text) = bench.only();
    assert!(text.contains("unknown connection"), "{text}");
}

#[test]
fn a_killed_client_ends_its_calls_at_the_server() {
    let mut bench = Bench::new(1, fixed(5));
    hang(&bench);
    bench.run_until(500);
    bench.client.crash(Ending::Killed);
    bench.run_until(500 + 15);
    assert!(was_dropped(&bench));
    assert!(bench.told().is_empty(), "nobody is there to be told");
}

#[test]
fn a_client_without_power_is_noticed_by_the_server_in_the_end() {
    let mut bench = Bench::new(1, fixed(5));
    hang(&bench);
    bench.run_until(500);
    bench.client.crash(Ending::PowerCut);
    bench.run_until(4_400);
    assert!(!was_dropped(&bench));
    bench.run_until(6_600);
    assert!(was_dropped(&bench));
}

#[test]
fn a_call_that_is_given_up_is_dropped_at_the_server() {
    let mut bench = Bench::new(1, fixed(5));
    bench.at_client(|mut client| async move {
        let call = client.transfer_leader(TransferLeaderRequest::default());
        let ended = tokio::time::timeout(Duration::from_millis(200), call).await;
        format!("{}", ended.is_err())
    });
    bench.run_until(190);
    assert!(!was_dropped(&bench));
    bench.run_until(250);
    assert_eq!(bench.only().1, "true");
    assert!(was_dropped(&bench));
}

#[test]
fn a_server_that_stands_still_is_given_up_and_finds_its_connections_gone() {
    let mut bench = Bench::new(1, fixed(5));
    hang(&bench);
    bench.run_until(500);
    bench.server.pause();
    bench.run_until(5_000);
    let (at, text) = bench.only();
    assert!((2_500..=3_510).contains(&at) && text.contains("keep-alive"), "{at}: {text}");
    assert!(!was_dropped(&bench));
    bench.server.resume();
    bench.run_until(5_050);
    assert!(was_dropped(&bench));
}

#[test]
fn a_request_may_arrive_twice_and_is_answered_once() {
    let mut bench = Bench::new(1, Conditions { duplicate: 1.0, ..fixed(5) });
    bench.at_client(|mut client| async move {
        let answers = [client.vote(toy::vote(1)).await.is_ok(), client.vote(toy::vote(2)).await.is_ok()];
        format!("{answers:?}")
    });
    bench.run_until(500);
    assert_eq!(bench.only().1, "[true, true]");
    let seen = bench.seen.all();
    for vote in ["vote 1", "vote 2"] {
        assert_eq!(seen.iter().filter(|line| line.ends_with(vote)).count(), 2, "{seen:?}");
    }
    assert_eq!(bench.network.traffic().duplicated, 2);
}

/// What the service saw, without the times.
fn heard(bench: &Bench) -> Vec<String> {
    bench.seen.all().iter().map(|line| line.split_once(": ").unwrap_or(("", line)).1.to_owned()).collect()
}

#[test]
fn an_answer_can_be_lost_after_its_request_was_heard() {
    let mut bench = Bench::new(1, Conditions { lose: 1.0, ..fixed(5) });
    bench.at_client(|mut client| async move {
        let first = client.vote(toy::vote(1)).await.unwrap_err();
        tokio::time::sleep(Duration::from_millis(100)).await;
        format!("{:?}, then {}", first.code(), client.vote(toy::vote(2)).await.is_ok())
    });
    bench.run_until(50);
    assert_eq!(heard(&bench), ["vote 1"]);
    bench.network.calm();
    bench.run_until(1_000);
    assert_eq!(bench.only().1, "Unavailable, then true");
    let traffic = bench.network.traffic();
    assert_eq!((traffic.answers_lost, traffic.connects), (1, 2));
}

#[test]
fn a_request_that_strays_is_heard_after_what_was_sent_over_the_next_connection() {
    let mut bench = Bench::new(1, Conditions { stray: 1.0, stray_ms: 500..=500, ..fixed(5) });
    // A message of a stream; its caller tries again.
    bench.at_client(|mut client| async move {
        let messages = |number| futures::stream::iter([toy::append(number, 10)]);
        let first = client.stream_append(messages(1)).await.unwrap_err();
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut answers = client.stream_append(messages(2)).await.unwrap().into_inner();
        format!("{:?}, then {}", first.code(), answers.message().await.is_ok())
    });
    bench.run_until(50);
    bench.network.calm();
    assert_eq!(heard(&bench), Vec::<String>::new());
    bench.run_until(400);
    assert_eq!(heard(&bench)[0], "append 2");
    assert_eq!(bench.only().1, "Unavailable, then true");
    assert_eq!(bench.network.traffic().overtaken, 0, "not yet");
    bench.run_until(1_000);
    assert!(heard(&bench).contains(&"append 1".to_owned()), "{:?}", heard(&bench));
    assert_eq!(bench.network.traffic().overtaken, 1);
}

#[test]
fn a_unary_request_that_strays_is_heard_late() {
    let mut bench = Bench::new(3, Conditions { stray: 0.5, stray_ms: 500..=500, ..fixed(5) });
    for number in 0..20 {
        bench.at_client(move |mut client| async move {
            format!("{}", client.vote(toy::vote(number)).await.is_ok())
        });
    }
    bench.run_until(1_000);
    let late = |line: &&String| line.split_once(": ").unwrap().0.parse::<u64>().unwrap() > 500;
    let answered = bench.told().iter().filter(|line| line.ends_with("true")).count();
    let seen = bench.seen.all();
    assert!(seen.iter().any(|line| late(&line)), "the end of a request strayed: {seen:?}");
    assert!(answered < seen.len(), "and its caller was not told: {answered} of {seen:?}");
    assert!(seen.len() < 20, "without its message it was not heard at all: {seen:?}");
}
