//! What is forgotten, and when.
//!
//! * A FAIL verdict: once it is final *and* its session is over, so that a delayed repeat of its offer is
//!   stale and cannot make a dead HTLC join a set; or once the chain is past its expiry by
//!   [`FAIL_KEPT_BLOCKS`](super::model::FAIL_KEPT_BLOCKS), when any repeat comes too late to join.
//! * A SETTLE verdict: never; the archive takes it with its finished invoice, see `archiving`. What LND settled
//!   without one: never.
//! * A tombstone: an hour after its invoice's expiry, from which on the expiry alone refuses HTLCs.
//! * A client's request: after a day, the oldest first when there are too many.

use super::apply::Step;
use super::command::RequestId;
use super::reply::Reply;
use super::state::State;
use super::timers::{highest_key, lowest_key};
use crate::types::{BlockHeight, CircuitKey, LogTimeMs, NodePubkey, SessionId};
use std::collections::BTreeSet;

/// How long a request's reply is kept.
const REQUEST_KEPT_MS: LogTimeMs = 86_400_000;

/// The most requests kept.
const REQUESTS_KEPT_MAX: usize = 65_536;

impl State {
    /// Remembers what a request was answered.
    pub(super) fn keep_request(&mut self, id: RequestId, reply: Reply) {
        let time_ms = self.core.time_ms;
        self.core.requests.insert(id, (time_ms, reply));
        self.index.requests.insert((time_ms, id));
    }

    /// Forgets what is no longer needed and marks what nobody can know any more.
    pub(super) fn forget(&mut self, step: &mut Step) {
        self.forget_requests();
        self.forget_tombstones();
        let nodes: Vec<_> = self.core.front_nodes.keys().copied().collect();
        for node in nodes {
            self.forget_ended(node);
            if let Some(height) = self.certain_height(&node) {
                for key in below(&self.index.failed_until, node, height) {
                    if self.more.restored.as_ref().is_some_and(|restored| restored.in_doubt.contains(&key)) {
                        continue;
                    }
                    self.remove_htlc(&key);
                }
                let unconfirmed = below(&self.index.unconfirmed_after, node, height);
                self.mark_unconfirmed(step, unconfirmed);
            }
        }
    }

    fn forget_requests(&mut self) {
        let oldest_ms = self.core.time_ms.saturating_sub(REQUEST_KEPT_MS);
        while let Some((time_ms, id)) = self.index.requests.first().copied() {
            if time_ms >= oldest_ms && self.index.requests.len() <= REQUESTS_KEPT_MAX {
                break;
            }
            self.index.requests.pop_first();
            self.core.requests.remove(&id);
        }
    }

    fn forget_tombstones(&mut self) {
        while let Some((end_ms, hash)) = self.index.tombstones.first().copied() {
            if end_ms > self.core.time_ms {
                break;
            }
            self.remove_tombstone(&hash);
        }
    }

    /// Failed and final HTLCs of sessions that are over.
    fn forget_ended(&mut self, node: NodePubkey) {
        let session = self.core.front_nodes.get(&node).and_then(|front| front.session.as_ref());
        let end: SessionId = session.map_or(SessionId::MAX, |session| session.id);
        let range = (node, 0, lowest_key(node))..(node, end, lowest_key(node));
        let ended: Vec<_> = self.index.ended.range(range).map(|(_, _, key)| *key).collect();
        for key in ended {
            self.remove_htlc(&key);
        }
    }
}

/// The HTLCs of a node whose height in this index is below the given one.
fn below(
    index: &BTreeSet<(NodePubkey, BlockHeight, CircuitKey)>,
    node: NodePubkey,
    height: BlockHeight,
) -> Vec<CircuitKey> {
    let Some(last) = height.checked_sub(1) else { return Vec::new() };
    let range = (node, 0, lowest_key(node))..=(node, last, highest_key(node));
    index.range(range).map(|(_, _, key)| *key).collect()
}
