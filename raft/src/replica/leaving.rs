use super::core::Core;
use crate::types::ReplicaId;
use mux_proto::mux::raft::v1 as pb;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Between two repetitions: a new leader must hear of it too.
const REPEAT: Duration = Duration::from_millis(250);
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);
/// A replica that does not repeat it for this long has stopped, or started again.
const FORGET: Duration = Duration::from_secs(3);

/// Who is about to stop. Not in the log: it is of no use to anybody but the leader of the moment, and must be
/// forgotten by itself when the replica has started again.
#[derive(Debug)]
pub(crate) struct Leaving {
    here: watch::Sender<bool>,
    others: Mutex<BTreeMap<ReplicaId, Instant>>,
}

impl Default for Leaving {
    fn default() -> Self {
        Self { here: watch::Sender::new(false), others: Mutex::default() }
    }
}

impl Leaving {
    /// This replica is about to stop.
    pub(crate) fn leave(&self) {
        self.here.send_replace(true);
    }

    /// Another one said that it is, or is to be removed.
    pub(crate) fn heard(&self, id: ReplicaId) {
        self.others.lock().insert(id, Instant::now());
    }

    /// Everybody of whom it is known.
    pub(crate) fn known(&self, me: ReplicaId) -> BTreeSet<ReplicaId> {
        let mut others = self.others.lock();
        others.retain(|_, heard| heard.elapsed() < FORGET);
        others.keys().copied().chain(self.here.borrow().then_some(me)).collect()
    }
}

/// Once this replica leaves, tells whoever leads, until it is stopped.
pub(crate) async fn tell_leader(core: Arc<Core>, stop: CancellationToken) {
    let mut leaves = core.leaving.here.subscribe();
    let telling = async {
        if leaves.wait_for(|leaves| *leaves).await.is_err() {
            return;
        }
        loop {
            let leader = core.leader().filter(|leader| *leader != core.id);
            if let Some(Ok(mut client)) = leader.map(|leader| core.gateway_of(leader)) {
                let message = pb::LeavingRequest { header: leader.map(|leader| core.peers.header(leader)) };
                // An older leader does not know the call; then the links are given away from here.
                let answer = timeout(ANSWER_TIMEOUT, client.leaving(message)).await;
                tracing::trace!(?answer, "told the leader that this replica leaves");
            }
            sleep(REPEAT).await;
        }
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = telling => {}
    }
}
