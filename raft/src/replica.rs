//! One replica: consensus, storage and its network, behind [`Consensus`].
//!
//! [`Replica::start`] opens the data directory, serves the Raft listener and takes part in the cluster until
//! [`Replica::shutdown`]. Any I/O error of log, vote or snapshot, and any committed command this program does
//! not know, stops the replica for good ([`Replica::stopped`]): there is no retry, since what the disk holds
//! is then unknown. The process is expected to exit (70) and be restarted.

mod config;

use crate::consensus::{Committed, Consensus, ProposeError, RaftStatus, StateCell};
use crate::machine::{Command, RequestId};
use crate::types::{LogIndex, ReplicaId};
pub use config::{ReplicaConfig, SnapshotConfig, StartError, Timing, TlsPaths, Wiring};
use std::sync::Arc;
use tokio::sync::watch;

/// A running replica. See the module.
#[derive(Debug)]
pub struct Replica {
    cell: Arc<StateCell>,
    status: watch::Sender<RaftStatus>,
    stopped: watch::Sender<Option<String>>,
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

    /// [`Replica::start`] with parts replaced, for tests and fault injection.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start_with(_config: ReplicaConfig, _wiring: Wiring) -> Result<Arc<Self>, StartError> {
        Err(StartError::Config("consensus is not built into this version yet".into()))
    }

    /// Stops taking part, writes what is queued, closes the store. Idempotent.
    pub async fn shutdown(&self) {}

    /// Waits until the replica has stopped because it cannot go on (I/O error, unknown command), and says
    /// why. Never returns after a mere [`Replica::shutdown`].
    pub async fn stopped(&self) -> String {
        let mut receiver = self.stopped.subscribe();
        loop {
            if let Some(reason) = receiver.borrow_and_update().clone() {
                return reason;
            }
            if receiver.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// The applied state, shareable.
    #[must_use]
    pub fn cell(&self) -> Arc<StateCell> {
        Arc::clone(&self.cell)
    }
}

#[async_trait::async_trait]
impl Consensus for Replica {
    async fn propose(
        &self,
        _command: Command,
        _request_id: Option<RequestId>,
    ) -> Result<Committed, ProposeError> {
        Err(ProposeError::Unavailable("not started".into()))
    }

    async fn read_barrier(&self) -> Result<LogIndex, ProposeError> {
        Err(ProposeError::Unavailable("not started".into()))
    }

    fn state(&self) -> &StateCell {
        &self.cell
    }

    fn status(&self) -> watch::Receiver<RaftStatus> {
        self.status.subscribe()
    }

    async fn transfer_leader(&self, _target: Option<ReplicaId>) -> Result<ReplicaId, ProposeError> {
        Err(ProposeError::Unavailable("not started".into()))
    }
}
