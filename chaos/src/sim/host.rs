//! A simulated process: a tokio runtime whose time passes only while the driver steps it.

mod clock;

use super::net::{Network, Port};
use super::time::SimTime;
pub use clock::HostClock;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::runtime::{self, Runtime};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Tasks polled before the step looks whether it is over. Fixed, as it decides the order of things.
const EVENT_INTERVAL: u32 = 61;
const GLOBAL_QUEUE_INTERVAL: u32 = 31;

/// Names a host; its number is its column in the trace, so the first is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostId(pub usize);

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// kill -9: the operating system goes on, tells those it was connected with, and writes what it was given.
    Killed,
    /// With its machine: nobody is told anything, and what was not synced may be gone.
    PowerCut,
}

/// A process that runs, stands still, or is down.
#[derive(Debug)]
pub struct Host {
    id: HostId,
    network: Network,
    process: Option<Process>,
}

#[derive(Debug)]
struct Process {
    runtime: Runtime,
    clock: HostClock,
    port: Port,
    /// How far it has run.
    reached: SimTime,
    paused: bool,
    /// Threads that were started, of which there may be none.
    threads: Arc<AtomicUsize>,
}

impl Host {
    /// A host that is down.
    #[must_use]
    pub fn new(id: HostId, network: Network) -> Self {
        Self { id, network, process: None }
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> HostId {
        self.id
    }

    /// Starts the process. `main` gets its port and its clock; it runs from the next step on.
    ///
    /// # Panics
    /// It runs already.
    pub fn start<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        now: SimTime,
        wall_offset_ms: i64,
        main: impl FnOnce(Port, HostClock) -> F,
    ) {
        assert!(self.process.is_none(), "host {:?} runs already", self.id);
        let threads = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&threads);
        let runtime = runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .event_interval(EVENT_INTERVAL)
            .global_queue_interval(GLOBAL_QUEUE_INTERVAL)
            .on_thread_start(move || {
                counted.fetch_add(1, Ordering::Relaxed);
            })
            .build()
            .expect("a runtime without IO asks nothing of the system");
        let clock = {
            let _inside = runtime.enter();
            HostClock::new(now, Instant::now(), wall_offset_ms)
        };
        let port = Port::new(self.id, self.network.clone(), clock.clone());
        self.network.host_started(self.id);
        runtime.spawn(main(port.clone(), clock.clone()));
        self.process = Some(Process { runtime, clock, port, reached: now, paused: false, threads });
    }

    /// Whether there is a process.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.process.is_some()
    }

    /// Whether it stands still.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.process.as_ref().is_some_and(|process| process.paused)
    }

    /// Lets it run from now until a moment. A process that stood still wakes up late: its clock jumps to now first.
    /// Nothing, if it is down or stands still.
    pub fn step(&mut self, now: SimTime, until: SimTime) {
        let Some(process) = self.process.as_mut().filter(|process| !process.paused) else { return };
        let missed = now.since(process.reached);
        let packets = self.network.take_due(self.id, until);
        let (clock, port) = (process.clock.clone(), process.port.clone());
        process.runtime.block_on(async move {
            if !missed.is_zero() {
                tokio::time::advance(missed).await;
            }
            for (at, packet) in packets {
                tokio::time::sleep_until(clock.instant(at)).await;
                port.deliver(packet);
            }
            tokio::time::sleep_until(clock.instant(until)).await;
        });
        process.reached = until;
    }

    /// It stands still from now on, as under SIGSTOP.
    pub fn pause(&mut self) {
        self.set_paused(true);
    }

    /// It goes on with the next step.
    pub fn resume(&mut self) {
        self.set_paused(false);
    }

    fn set_paused(&mut self, paused: bool) {
        if let Some(process) = &mut self.process {
            process.paused = paused;
            self.network.set_paused(self.id, paused);
        }
    }

    /// Ends the process where it is: every task is dropped at the point where it waits. What it keeps on disk is not
    /// this one's concern.
    ///
    /// # Panics
    /// It had started a thread, which nothing in a simulation may do.
    pub fn crash(&mut self, how: Ending) {
        let Some(process) = self.process.take() else { return };
        self.network.host_ended(self.id, how);
        process.port.cut();
        // Waits for threads, if there are any.
        drop(process.runtime);
        process.port.clear();
        let threads = process.threads.load(Ordering::Relaxed);
        assert_eq!(threads, 0, "host {:?} ran something on threads", self.id);
    }

    /// Runs something as a task of the process, from the next step on. None: it is down.
    pub fn spawn<F>(&self, task: F) -> Option<JoinHandle<F::Output>>
    where
        F: Future + Send + 'static,
        F::Output: Send,
    {
        self.process.as_ref().map(|process| process.runtime.spawn(task))
    }

    /// Its end of the network. None: it is down.
    #[must_use]
    pub fn port(&self) -> Option<&Port> {
        self.process.as_ref().map(|process| &process.port)
    }

    /// Its clock. None: it is down.
    #[must_use]
    pub fn clock(&self) -> Option<&HostClock> {
        self.process.as_ref().map(|process| &process.clock)
    }

    /// How long it has stood still; zero if it does not.
    #[must_use]
    pub fn behind(&self, now: SimTime) -> Duration {
        self.process.as_ref().map_or(Duration::ZERO, |process| now.since(process.reached))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.crash(Ending::Killed);
        }
    }
}
