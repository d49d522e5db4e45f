//! Payments that go on while something else happens.

use super::{SOON, World};
use mux_chaos::demo::Job;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinHandle;

/// Payments one after the other until it is stopped; the ledger tells at the end whether one was lost.
pub struct Payments {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Payments {
    pub fn start(world: &World) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (load, until, count) = (world.load.clone(), Arc::clone(&stop), Arc::clone(&done));
        let task = tokio::spawn(async move {
            while !until.load(Ordering::Relaxed) {
                load.run(Job::Pay { stored: true, open_amount: false, parts: 2 }).await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { stop, done, task }
    }

    /// Waits for so many more.
    pub async fn go_on(&self, more: usize) {
        let enough = self.done.load(Ordering::Relaxed) + more;
        let began = Instant::now();
        while self.done.load(Ordering::Relaxed) < enough {
            assert!(began.elapsed() < SOON * 2 && !self.task.is_finished(), "payments have stopped");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
    }
}
