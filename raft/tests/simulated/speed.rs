//! How much simulated time a second of real time brings. Run by hand:
//! `cargo test --release -p mux-raft --test simulated -- --ignored --nocapture`.

use crate::cluster::{Cluster, command, simulate};
use futures::future::join_all;
use mux_raft::types::ReplicaId;
use std::time::{Duration, Instant};
use tokio::time::sleep;

fn report(what: &str, commands: u64, simulated: Duration, real: Duration, calls: u64) {
    let factor = simulated.as_secs_f64() / real.as_secs_f64();
    println!(
        "{what}: {simulated:?} in {real:?}, {factor:.0} times real time; {commands} commands, {calls} calls"
    );
}

#[test]
#[ignore = "a measurement"]
fn of_an_idle_cluster() {
    simulate(async {
        let cluster = Cluster::start(3).await;
        let (real, calls, simulated) = (Instant::now(), cluster.wires.calls(), Duration::from_secs(600));
        sleep(simulated).await;
        report("idle", 0, simulated, real.elapsed(), cluster.wires.calls() - calls);
    });
}

#[test]
#[ignore = "a measurement"]
fn of_a_busy_cluster() {
    simulate(async {
        let cluster = Cluster::start(3).await;
        let (real, calls, simulated) = (Instant::now(), cluster.wires.calls(), tokio::time::Instant::now());
        let ids: Vec<ReplicaId> = cluster.running.keys().copied().collect();
        for _ in 0..500_u64 {
            join_all(ids.iter().map(|id| cluster.commit(*id, command()))).await;
            sleep(Duration::from_millis(20)).await;
        }
        report("busy", 1_500, simulated.elapsed(), real.elapsed(), cluster.wires.calls() - calls);
    });
}
