//! Where blocking work is done: disks, and whatever waits for them.
//!
//! In production on threads, so that no task waits for a disk. In a simulation, which has one thread and its own
//! time, in the task that asks for it; how long it takes is then the simulation's to say.

use futures::FutureExt as _;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

/// What blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Work {
    /// Opening everything there is on disk.
    Open,
    /// The log makes a batch durable. Between [`Engine::write`](crate::store::Engine::write) and
    /// [`Engine::sync`](crate::store::Engine::sync).
    LogSync,
    /// The archive is read for another replica or a client, takes records of others, or has to make room.
    Archive,
    /// A snapshot is made, installed or read.
    Snapshot,
    /// A part of a snapshot was received and is written.
    SnapshotPart,
    /// The archive is closed.
    Close,
    /// HTLCs are judged, or failures encrypted: elliptic curves. The archive may be read for it.
    Screen,
}

type Takes = Arc<dyn Fn(Work) -> Duration + Send + Sync>;

/// How a replica runs what blocks.
#[derive(Clone, Default)]
pub struct Blocking {
    /// How long it takes, inline.
    inline: Option<Takes>,
}

impl Blocking {
    /// On threads, as in production: the log has its own, all else is given to the runtime's.
    #[must_use]
    pub fn on_threads() -> Self {
        Self::default()
    }

    /// In the task that asks, after sleeping for as long as `takes` says (by tokio's clock, which counts in whole
    /// milliseconds). The log's writer becomes a task. For simulations on one thread.
    #[must_use]
    pub fn inline(takes: impl Fn(Work) -> Duration + Send + Sync + 'static) -> Self {
        Self { inline: Some(Arc::new(takes)) }
    }

    /// Whether nothing may be given to a thread.
    pub(crate) fn is_inline(&self) -> bool {
        self.inline.is_some()
    }

    /// Lets simulated time pass before work that is done right after, in the same task. Nothing on threads, where work
    /// takes the time it takes.
    pub(crate) async fn pass(&self, work: Work) {
        if let Some(takes) = &self.inline {
            let time = takes(work);
            if !time.is_zero() {
                tokio::time::sleep(time).await;
            }
        }
    }

    /// Runs a job to its end, even if nobody waits for it any more (on threads; inline it is dropped if it has not
    /// begun).
    ///
    /// # Errors
    /// See [`WorkFailed`].
    pub async fn run<T: Send + 'static>(
        &self,
        work: Work,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, WorkFailed> {
        if !self.is_inline() {
            return tokio::task::spawn_blocking(job).await.map_err(|error| WorkFailed(error.to_string()));
        }
        self.pass(work).await;
        let job = AssertUnwindSafe(async move { job() });
        job.catch_unwind().await.map_err(|_| WorkFailed("it panicked".into()))
    }
}

impl fmt::Debug for Blocking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_inline() { "inline" } else { "on threads" })
    }
}

/// The job panicked, or the runtime has ended.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct WorkFailed(String);

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn inline_work_takes_the_time_that_is_said_and_no_thread() {
        let blocking =
            Blocking::inline(|work| Duration::from_millis(if work == Work::Archive { 7 } else { 0 }));
        let (started, here) = (Instant::now(), thread::current().id());
        assert_eq!(blocking.run(Work::Archive, move || thread::current().id()).await.unwrap(), here);
        assert_eq!(started.elapsed(), Duration::from_millis(7));
        blocking.run(Work::Snapshot, || ()).await.unwrap();
        assert_eq!(started.elapsed(), Duration::from_millis(7));
    }

    #[tokio::test]
    async fn on_threads_no_task_waits_for_the_work() {
        let here = thread::current().id();
        let there = Blocking::on_threads().run(Work::Archive, move || thread::current().id()).await.unwrap();
        assert_ne!(there, here);
    }

    #[tokio::test]
    async fn work_that_panics_is_reported_wherever_it_runs() {
        for blocking in [Blocking::on_threads(), Blocking::inline(|_| Duration::ZERO)] {
            let failed = blocking.run(Work::Open, || panic!("a damaged file")).await.unwrap_err();
            assert!(failed.to_string().contains("panicked"), "{failed}");
        }
    }
}
