use super::NodePubkey;
use serde::{Deserialize, Serialize};
use std::fmt;

/// An HTLC at a front node. `chan_id` and `htlc_id` alone collide between two front nodes that share a
/// channel, so the node's key is part of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CircuitKey {
    /// The front node that offered the HTLC.
    pub node: NodePubkey,
    /// Its incoming channel (short channel id, or alias of a zero-conf channel).
    pub chan_id: u64,
    /// Index of the HTLC in that channel.
    pub htlc_id: u64,
}

impl fmt::Display for CircuitKey {
    /// `node prefix/block x tx x output/htlc id`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (block, tx, output) =
            (self.chan_id >> 40, (self.chan_id >> 16) & 0xff_ffff, self.chan_id & 0xffff);
        write!(f, "{}/{block}x{tx}x{output}/{}", self.node.short(), self.htlc_id)
    }
}

impl fmt::Debug for CircuitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
