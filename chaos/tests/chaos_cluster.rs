//! A minute of kills, pauses and restarts under load; afterwards everybody's books agree.
//!
//! `MUX_CHAOS_SECS` (default 60) and `MUX_CHAOS_SEED` (default: random, printed) may be set; with
//! `MUX_CHAOS_KEEP` the files stay.

use mux_chaos::{
    cluster::{Cluster, ClusterOptions, Executable, Faults},
    demo::{Job, Load, Mix},
    ledger::{Expectation, Ledger, PaymentEnd, PaymentRecord, check::check},
    payer::Patience,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::task::JoinSet;

/// Payments under way at a time.
const PAYERS: usize = 6;

/// Between two payments of one payer: with these, two cores are busy and not drowned.
const PAUSE: Duration = Duration::from_millis(30);

/// How long everything may take to come to rest.
const REST: Duration = Duration::from_secs(90);

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chaos_leaves_every_payment_with_one_end_and_the_books_in_agreement() {
    let seconds = from_env("MUX_CHAOS_SECS").unwrap_or(60);
    let seed = from_env("MUX_CHAOS_SEED").unwrap_or_else(rand::random);
    println!("MUX_CHAOS_SEED={seed} MUX_CHAOS_SECS={seconds}");
    let mut options = ClusterOptions::new(Executable::at(env!("CARGO_BIN_EXE_demo")));
    options.seed = seed;
    options.proxied = true;
    let mut cluster = Cluster::start(options).await.unwrap();
    cluster.replicas[0].client.set_mpp_timeout(20_000).await.unwrap();
    let ledger = Arc::new(Ledger::default());
    let load = Load::new(&cluster, ledger.clone(), Patience::default(), seed).await.unwrap();

    let over = Arc::new(AtomicBool::new(false));
    let next = Arc::new(AtomicUsize::new(0));
    let mut payers = JoinSet::new();
    for _ in 0..PAYERS {
        payers.spawn(pay(load.clone(), next.clone(), over.clone()));
    }
    let faults = Faults::new(seed).run(&mut cluster, Duration::from_secs(seconds)).await.unwrap();
    over.store(true, Ordering::Relaxed);
    while let Some(ended) = payers.join_next().await {
        ended.unwrap();
    }

    let payments = ledger.snapshot();
    let books = cluster.take_books(&payments, REST).await.unwrap();
    let mut violations = check(&payments, &books);
    violations.extend(cluster.look_for_leaks().await.unwrap().violations);
    let totals = ledger.totals();
    println!("{totals:?}\n{faults:?}");
    tell_durations(&payments);
    if !violations.is_empty() {
        cluster.keep_files();
        let shown: Vec<_> =
            violations.iter().take(20).map(|v| format!("{}: {}", v.rule, v.evidence)).collect();
        panic!("seed {seed}, files in {}:\n{}", cluster.dir().display(), shown.join("\n"));
    }
    if std::env::var_os("MUX_CHAOS_KEEP").is_some() {
        cluster.keep_files();
        println!("files in {}", cluster.dir().display());
    }
    assert!(totals.settled > 0, "nothing was paid at all: {totals:?}");
    assert!(!faults.is_empty(), "nothing was broken");
}

/// How long honest payments took: a long tail is worth a look even if nothing is wrong.
fn tell_durations(payments: &[PaymentRecord]) {
    let mut honest: Vec<_> =
        payments.iter().filter(|payment| payment.order.expect == Expectation::Settle).collect();
    honest.sort_by_key(|payment| std::cmp::Reverse(payment.ended_unix_ms - payment.started_unix_ms));
    for payment in honest.iter().take(3) {
        println!("{} ms: {payment:?}", payment.ended_unix_ms - payment.started_unix_ms);
    }
    for payment in honest.iter().filter(|payment| payment.ends != [PaymentEnd::Settled]) {
        println!("failed: {payment:?}");
    }
    if let Some(middle) = honest.get(honest.len() / 2) {
        println!("median {} ms", middle.ended_unix_ms - middle.started_unix_ms);
    }
}

/// One payer after the other, until it is over.
async fn pay(load: Load, next: Arc<AtomicUsize>, over: Arc<AtomicBool>) {
    while !over.load(Ordering::Relaxed) {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let job = if number.is_multiple_of(7) { Job::Forward } else { Mix { honest: false }.job(number) };
        // An invoice that cannot be had is no payment: the cluster was without a quorum for a moment.
        if let Err(error) = load.run(job).await {
            println!("not paid: {error}");
        }
        tokio::time::sleep(PAUSE).await;
    }
}
