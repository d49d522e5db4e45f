//! How messages travel when nothing is wrong.

use crate::bench::{Bench, fixed};
use crate::toy;
use futures::StreamExt as _;
use mux_chaos::sim::net::Conditions;
use std::collections::BTreeSet;
use std::time::Duration;

fn varying() -> Conditions {
    Conditions { delay_ms: 5..=80, ..Conditions::default() }
}

#[test]
fn a_connection_takes_a_round_trip_and_a_call_another() {
    let mut bench = Bench::new(1, fixed(12));
    bench.at_client(|mut client| async move {
        let first = client.vote(toy::vote(7)).await.unwrap().into_inner().vote.unwrap().term;
        let again = tokio::time::Instant::now();
        client.vote(toy::vote(8)).await.unwrap();
        format!("{first}, and {} ms for the second", again.elapsed().as_millis())
    });
    bench.run_until(200);
    assert_eq!(bench.only(), (72, "7, and 24 ms for the second".into()));
    assert_eq!(bench.seen.all(), ["36: vote 7", "60: vote 8"]);
}

#[test]
fn what_a_service_refuses_arrives_as_it_said_it() {
    let mut bench = Bench::new(1, fixed(5));
    bench.at_client(|mut client| async move {
        let status = client.append(toy::append(1, 0)).await.unwrap_err();
        format!("{:?}, {}", status.code(), status.message())
    });
    bench.run_until(100);
    assert_eq!(bench.only().1, "InvalidArgument, not asked for");
}

#[test]
fn nobody_can_be_called_at_an_address_where_nobody_listens() {
    let mut bench = Bench::new(1, fixed(5));
    bench.server.port().unwrap().clone().hang_up("nothing");
    bench.run_until(5);
    bench.server.port().unwrap().hang_up(crate::bench::ADDRESS);
    bench.at_client(|mut client| async move {
        let status = client.vote(toy::vote(1)).await.unwrap_err();
        format!("{:?}, {}", status.code(), status.message())
    });
    bench.run_until(100);
    let (at, text) = bench.only();
    assert_eq!(at, 15);
    assert!(text.starts_with("Unavailable") && text.contains("refused"), "{text}");
}

#[test]
fn a_stream_goes_both_ways_in_order() {
    for seed in 0..20 {
        let mut bench = Bench::new(seed, varying());
        bench.at_client(|mut client| async move {
            let messages = futures::stream::iter(0..100).then(|number| async move {
                tokio::time::sleep(Duration::from_millis(3)).await;
                toy::append(number, 10)
            });
            let answers = client.stream_append(messages).await.unwrap().into_inner();
            let numbers: Vec<u64> =
                answers.map(|answer| answer.unwrap().matching.unwrap().index).collect().await;
            assert_eq!(numbers, (0..100).collect::<Vec<_>>());
            "all".into()
        });
        bench.run_until(2_000);
        assert_eq!(bench.only().1, "all", "seed {seed}");
    }
}

/// The numbers of unary calls in the order in which they arrived.
fn arrivals(conditions: Conditions, seed: u64) -> Vec<u64> {
    let mut bench = Bench::new(seed, conditions);
    let channel = bench.channel();
    for number in 0..20 {
        bench.at_client_by(channel.clone(), move |mut client| async move {
            tokio::time::sleep(Duration::from_millis(number)).await;
            client.vote(toy::vote(number)).await.unwrap();
            String::new()
        });
    }
    bench.run_until(1_000);
    assert_eq!(bench.told().len(), 20);
    let number = |line: &String| line.rsplit_once(' ').unwrap().1.parse().unwrap();
    bench.seen.all().iter().map(number).collect()
}

#[test]
fn calls_overtake_each_other_unless_the_connection_keeps_the_order() {
    let sent: Vec<u64> = (0..20).collect();
    let orders: BTreeSet<Vec<u64>> = (0..5).map(|seed| arrivals(varying(), seed)).collect();
    assert!(orders.len() > 1 && !orders.contains(&sent), "{orders:?}");
    for seed in 0..5 {
        assert_eq!(arrivals(Conditions { in_order: true, ..varying() }, seed), sent);
    }
}

#[test]
fn the_same_seed_gives_the_same_deliveries_and_another_seed_others() {
    let run = |seed| {
        let mut bench = Bench::new(seed, Conditions { duplicate: 0.3, slow: 0.1, ..varying() });
        for number in 0..30 {
            bench.at_client(move |mut client| async move {
                client.vote(toy::vote(number)).await.unwrap();
                String::new()
            });
        }
        bench.run_until(2_000);
        (bench.trace.hash(), bench.trace.events(), bench.seen.all(), bench.told(), bench.network.traffic())
    };
    let first = run(1);
    assert_eq!(first, run(1));
    let other = run(2);
    assert_ne!(first.0, other.0);
    assert_ne!(first.2, other.2);
}

#[test]
fn a_sender_waits_for_a_receiver_that_takes_nothing() {
    const CHUNK: usize = 64 << 10;
    let mut bench = Bench::new(1, fixed(5));
    bench.at_client(|mut client| async move {
        let (sent, count) = tokio::sync::watch::channel(0);
        let chunks = futures::stream::iter(0..1_000).map(move |number| {
            sent.send_replace(number);
            mux_proto::mux::raft::v1::SnapshotChunk { data: vec![1; CHUNK].into(), ..Default::default() }
        });
        let _ = tokio::time::timeout(Duration::from_secs(20), client.install_snapshot(chunks)).await;
        let sent = *count.borrow();
        format!("{sent}")
    });
    bench.run_until(25_000);
    let sent: usize = bench.only().1.parse().unwrap();
    let window = (2 << 20) / CHUNK;
    assert!((window - 2..window + 3).contains(&sent), "{sent} parts were made, {window} fit the window");
}

#[test]
fn a_receiver_that_takes_everything_gets_more_than_the_window() {
    let mut bench = Bench::new(1, fixed(5));
    bench.at_client(|mut client| async move {
        let messages = futures::stream::iter((0..200).map(|number| toy::append(number, 64 << 10)));
        let answers = client.stream_append(messages).await.unwrap().into_inner();
        format!("{}", answers.count().await)
    });
    bench.run_until(5_000);
    assert_eq!(bench.only().1, "200");
}
