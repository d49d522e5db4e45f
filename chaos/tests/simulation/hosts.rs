use crate::bench::lone_host;
use mux_chaos::sim::host::{Ending, Host};
use mux_chaos::sim::time::SimTime;
use mux_raft::clock::Clock as _;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep};

fn step(host: &mut Host, from_ms: u64, until_ms: u64) {
    host.step(SimTime::from_ms(from_ms), SimTime::from_ms(until_ms));
}

#[test]
fn time_passes_only_while_a_host_is_stepped_and_timers_fire_at_their_moment() {
    let fired = Arc::new(Mutex::new(Vec::new()));
    let writes = Arc::clone(&fired);
    let mut host = lone_host(|_, clock| async move {
        for ms in [3, 4, 10, 30] {
            sleep(Duration::from_millis(ms)).await;
            writes.lock().push(clock.now().as_ms());
        }
    });
    assert!(fired.lock().is_empty());
    step(&mut host, 0, 5);
    assert_eq!(*fired.lock(), [3]);
    step(&mut host, 5, 15);
    assert_eq!(*fired.lock(), [3, 7]);
    step(&mut host, 15, 500);
    assert_eq!(*fired.lock(), [3, 7, 17, 47]);
}

/// Says so when it is dropped.
struct Guard(Arc<AtomicBool>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_crash_drops_every_task_where_it_waits() {
    let (dropped, finished) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (guard, done) = (Guard(Arc::clone(&dropped)), Arc::clone(&finished));
    let mut host = lone_host(|_, _| async move {
        tokio::spawn(async move {
            let _guard = guard;
            sleep(Duration::from_millis(100)).await;
            done.store(true, Ordering::Relaxed);
        });
    });
    step(&mut host, 0, 95);
    assert!(!dropped.load(Ordering::Relaxed));
    host.crash(Ending::Killed);
    assert!(dropped.load(Ordering::Relaxed) && !host.is_up());
    step(&mut host, 95, 200);
    assert!(!finished.load(Ordering::Relaxed));
}

#[test]
fn a_host_that_stands_still_wakes_up_late_and_finds_that_time_has_jumped() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let writes = Arc::clone(&seen);
    let mut host = lone_host(|_, clock| async move {
        loop {
            let before = Instant::now();
            sleep(Duration::from_millis(10)).await;
            let took = u64::try_from(before.elapsed().as_millis()).unwrap();
            writes.lock().push((clock.now().as_ms(), took));
        }
    });
    step(&mut host, 0, 15);
    host.pause();
    step(&mut host, 15, 20);
    assert!(host.is_paused());
    assert_eq!(*seen.lock(), [(10, 10)]);
    host.resume();
    step(&mut host, 1_000, 1_005);
    assert_eq!(*seen.lock(), [(10, 10), (1_000, 990)], "the timer that was due long ago fires once");
    step(&mut host, 1_005, 1_025);
    assert_eq!(*seen.lock(), [(10, 10), (1_000, 990), (1_010, 10), (1_020, 10)]);
}

#[test]
fn a_new_process_lives_in_the_same_world() {
    let mut host = lone_host(|_, _| async {});
    step(&mut host, 0, 500);
    host.crash(Ending::PowerCut);
    let seen = Arc::new(Mutex::new(None));
    let writes = Arc::clone(&seen);
    host.start(SimTime::from_ms(700), 5_000, |_, clock| async move {
        *writes.lock() = Some((clock.now().as_ms(), clock.monotonic(), clock.wall_ms() % 1_000_000));
    });
    step(&mut host, 700, 705);
    assert_eq!(*seen.lock(), Some((700, Duration::from_millis(700), 5_700)));
}

#[test]
#[should_panic(expected = "ran something on threads")]
fn nothing_may_run_on_threads() {
    let mut host = lone_host(|_, _| async {
        tokio::task::spawn_blocking(|| {});
    });
    step(&mut host, 0, 5);
    host.crash(Ending::Killed);
}
