//! Who serves a front node: one supervisor at a time, whatever comes and goes in the log.
//!
//! A supervisor cannot be made without the node's seat, and there is one for each node. It is given on when its
//! supervisor and all of its streams are gone, so that two of them never compete for LND's only slot.

use mux_raft::types::NodePubkey;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The seats of all front nodes that were ever linked to.
#[derive(Default)]
pub(super) struct Seats(Mutex<BTreeMap<NodePubkey, Arc<Semaphore>>>);

/// The right to serve one front node, until it is dropped. Only [`Seats::take`] makes one.
pub(super) struct Seat {
    _only: OwnedSemaphorePermit,
}

impl Seats {
    /// Waits until nobody has this node's seat. Shared by a supervisor and its streams.
    pub(super) async fn take(&self, node: NodePubkey) -> Arc<Seat> {
        let one = || Arc::new(Semaphore::new(1));
        let seat = Arc::clone(self.0.lock().entry(node).or_insert_with(one));
        let only = seat.acquire_owned().await.expect("no code closes a seat's semaphore");
        Arc::new(Seat { _only: only })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    #[test]
    fn a_seat_is_given_on_when_the_last_who_shares_it_is_gone() {
        let (seats, node) = (Seats::default(), NodePubkey([2; 33]));
        let supervisor = seats.take(node).now_or_never().expect("nobody has it");
        let stream = Arc::clone(&supervisor);
        let mut successor = Box::pin(seats.take(node));
        assert!((&mut successor).now_or_never().is_none(), "a supervisor has it");
        drop(supervisor);
        assert!((&mut successor).now_or_never().is_none(), "its stream is not closed yet");
        drop(stream);
        assert!((&mut successor).now_or_never().is_some());
    }

    #[test]
    fn front_nodes_do_not_wait_for_each_other() {
        let seats = Seats::default();
        let one = seats.take(NodePubkey([2; 33])).now_or_never();
        let other = seats.take(NodePubkey([3; 33])).now_or_never();
        assert!(one.is_some() && other.is_some());
    }
}
