//! One replica: consensus, storage and its network, behind [`Consensus`].
//!
//! [`Replica::start`] opens the data directory, serves the Raft listener and takes part in the cluster until
//! [`Replica::shutdown`]. Any I/O error of log, vote, snapshot or archive, and any committed command this program does
//! not know, stops the replica for good ([`Replica::stopped`]): there is no retry, since what the disk holds
//! is then unknown. The process is expected to exit (70) and be restarted.
//!
//! * `startup`: opens and recovers; `founding`: who founds a new cluster, and who must not vote; `recognition`:
//!   whether a store is what the others know it to be; `confirmed`: what they know.
//! * `propose`, `read`, `transfer`: what [`Consensus`] promises; `gateway`: the leader's side of it.
//! * `members`, `member_wire`: who belongs to the cluster; `leaving`: who is about to stop; `farewell`: how a
//!   replica learns that it was removed.
//! * `roster`: what members say of themselves; `upgrade`: when the cluster's feature level rises.
//! * `divergence`: whether all replicas have the same state.
//! * `leader_duty`, `time_keeper`: log time. `status_keeper`: status and gauges.
//! * `latch`: why a replica stopped.

mod config;
mod confirmed;
mod core;
pub(crate) mod directory;
pub(crate) mod divergence;
mod farewell;
#[cfg(feature = "mutants")]
mod foretold;
mod founding;
mod gateway;
pub(crate) mod latch;
mod leader_duty;
mod leaving;
mod member_wire;
mod members;
pub(crate) mod opening;
mod propose;
pub(crate) mod raft;
mod read;
mod recognition;
mod roll;
mod roster;
mod startup;
mod status_keeper;
mod time_keeper;
mod transfer;
mod upgrade;

use crate::consensus::{Committed, Consensus, ProposeError, RaftStatus, StateCell};
use crate::log::LogStore;
use crate::machine::{Command, RequestId};
use crate::members::{MemberChange, MemberChanged, MemberError, MemberView};
use crate::network::{May, TlsMaterial};
use crate::snapshot::SnapshotDirectory;
use crate::types::{LogIndex, ReplicaId};
pub use config::{ReplicaConfig, SnapshotConfig, StartError, Timing, TlsPaths, Wiring};
use core::Core;
pub use latch::Latch;
pub use opening::blame;
use startup::Started;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

/// openraft gets this long to end its tasks.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);
/// Calls under way get this long to end.
const SERVER_TIMEOUT: Duration = Duration::from_secs(1);

/// A running replica. Dropping it stops it, as [`Replica::shutdown`] does, without waiting for it.
#[derive(Debug)]
pub struct Replica {
    core: Arc<Core>,
    tls: Option<Arc<TlsMaterial>>,
    routes: Routes,
    stop: CancellationToken,
    closed: watch::Receiver<bool>,
}

impl Replica {
    /// Opens the data directory, binds the listener and joins (or, as its first member, founds) the cluster.
    /// Returns once the recovered state is readable; a leader may not be known yet.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(config: ReplicaConfig) -> Result<Arc<Self>, StartError> {
        Self::start_with(config, Wiring::default()).await
    }

    /// Whether the archive has been looked at since the start, all of it, and was whole.
    #[must_use]
    pub fn archive_is_checked(&self) -> bool {
        self.core.cell.archive().is_checked()
    }

    /// [`Replica::start`] with parts replaced, for tests and fault injection.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start_with(config: ReplicaConfig, wiring: Wiring) -> Result<Arc<Self>, StartError> {
        let started = Box::pin(startup::start(config, wiring)).await?;
        let (core, tls, routes) = (Arc::clone(&started.core), started.tls.clone(), started.routes.clone());
        let stop = CancellationToken::new();
        let (closed_sender, closed) = watch::channel(false);
        tokio::spawn(supervise(started, stop.clone(), closed_sender));
        Ok(Arc::new(Self { core, tls, routes, stop, closed }))
    }

    /// Stops taking part, writes what is queued, closes the store. Idempotent.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        let mut closed = self.closed.clone();
        let _ = closed.wait_for(|closed| *closed).await;
    }

    /// Waits until the replica has stopped because it cannot go on (I/O error, unknown command), and says
    /// why. Never returns after a mere [`Replica::shutdown`].
    pub async fn stopped(&self) -> String {
        self.core.latch.tripped().await
    }

    /// Reads certificate, key and CA again; new connections between replicas use them. False: nothing has changed.
    /// Blocks for as long as it takes to read three small files.
    ///
    /// # Errors
    /// A text: they cannot be used. What was used before still is.
    pub fn reload_certificates(&self) -> Result<bool, String> {
        self.tls.as_ref().map_or(Ok(false), |tls| tls.reload().map_err(|error| error.to_string()))
    }

    /// What other replicas may ask of this one, for whoever runs [`Wiring::net`]: each request must say who calls, by
    /// [`CallerId`](crate::network::CallerId). It keeps the replica's parts alive: to be dropped, and not called any
    /// more, when the replica stops.
    #[must_use]
    pub fn routes(&self) -> Routes {
        self.routes.clone()
    }

    /// Records of the archive that were taken from other replicas since the start, to go with a snapshot.
    #[must_use]
    pub fn archive_records_fetched(&self) -> u64 {
        self.core.archive_fetched.load(Ordering::Acquire)
    }

    /// The applied state, shareable.
    #[must_use]
    pub fn cell(&self) -> Arc<StateCell> {
        Arc::clone(&self.core.cell)
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Runs the replica's tasks until it is stopped or cannot go on, then closes everything in order: first the
/// listener, so that nobody is promised anything any more; then consensus; then the log; then the archive, which snapshots wait for; then the lock.
async fn supervise(started: Started, stop: CancellationToken, closed: watch::Sender<bool>) {
    let Started {
        core, log, directory, snapshots, archive, blocking, clearance, server, stop_serving, ..
    } = started;
    let mut tasks = JoinSet::new();
    tasks.spawn(status_keeper::keep_status(Arc::clone(&core), stop.clone()));
    tasks.spawn(leader_duty::lead(Arc::clone(&core), stop.clone()));
    tasks.spawn(upgrade::keep_roster(Arc::clone(&core), stop.clone()));
    tasks.spawn(divergence::compare_states(Arc::clone(&core), stop.clone()));
    tasks.spawn(leaving::tell_leader(Arc::clone(&core), stop.clone()));
    tasks.spawn(farewell::notice_removal(Arc::clone(&core), stop.clone()));
    if clearance.get() != May::Vote {
        tasks.spawn(founding::found_or_join(Arc::clone(&core), log.clone(), clearance, stop.clone()));
    }
    let reason = tokio::select! {
        biased;
        () = stop.cancelled() => None,
        reason = core.latch.tripped() => Some(reason),
    };
    core.status.send_modify(|status| {
        status.leads = false;
        status.quorum = false;
        status.fatal.clone_from(&reason);
    });
    stop.cancel();
    core.proposals.close();
    stop_serving.cancel();
    close(&core, log, server).await;
    if timeout(SHUTDOWN_TIMEOUT, idle(&snapshots)).await.is_err() {
        tracing::error!("a snapshot is still being written");
    }
    startup::close(archive, &blocking).await;
    drop(directory);
    while tasks.join_next().await.is_some() {}
    closed.send_replace(true);
}

/// Waits until no snapshot is being written.
async fn idle(snapshots: &SnapshotDirectory) {
    while snapshots.is_busy() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn close(core: &Core, log: LogStore, server: Option<JoinHandle<()>>) {
    match timeout(SHUTDOWN_TIMEOUT, core.raft.shutdown()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(%error, "consensus ended badly"),
        Err(_) => tracing::error!("consensus did not end in time"),
    }
    if let Some(server) = server {
        let server_handle = server.abort_handle();
        if timeout(SERVER_TIMEOUT, server).await.is_err() {
            server_handle.abort();
        }
    }
    log.close().await;
}

#[async_trait::async_trait]
impl Consensus for Replica {
    async fn propose(
        &self,
        command: Command,
        request_id: Option<RequestId>,
    ) -> Result<Committed, ProposeError> {
        self.core.propose(command, request_id).await
    }

    async fn read_barrier(&self) -> Result<LogIndex, ProposeError> {
        self.core.read_barrier().await
    }

    fn state(&self) -> &StateCell {
        &self.core.cell
    }

    fn status(&self) -> watch::Receiver<RaftStatus> {
        self.core.status.subscribe()
    }

    async fn transfer_leader(&self, target: Option<ReplicaId>) -> Result<ReplicaId, ProposeError> {
        self.core.transfer_leader(target).await
    }

    async fn members(&self) -> Result<Vec<MemberView>, ProposeError> {
        self.core.members().await
    }

    async fn change_members(&self, change: MemberChange) -> Result<MemberChanged, MemberError> {
        self.core.change_members(change).await
    }

    fn leave(&self) {
        self.core.leaving.leave();
    }
}
