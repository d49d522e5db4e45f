use mux_proto::{chainrpc::BlockEpoch, lndsim::v1 as ctl};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// How many reorganisations are remembered; older ones are buried.
const FORKS_KEPT: usize = 64;

/// The block chain, and how much of it the node sees.
///
/// A block's hash follows from network, height and the reorganisations below it, so that simulated nodes of
/// one network agree on hashes without talking to each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    network: String,
    tip: u32,
    /// First height of each replaced branch, oldest first.
    forks: Vec<u32>,
    forks_total: u64,
    seen: u32,
    /// The node does not follow the tip.
    pub frozen: bool,
    /// The node follows the tip this many blocks behind.
    pub lag_blocks: u32,
    /// What `GetInfo` says.
    pub synced: bool,
}

impl Chain {
    /// A chain whose tip the node has seen.
    #[must_use]
    pub fn new(network: &str, height: u32) -> Self {
        Self {
            network: network.to_owned(),
            tip: height,
            forks: Vec::new(),
            forks_total: 0,
            seen: height,
            frozen: false,
            lag_blocks: 0,
            synced: true,
        }
    }

    /// The height the node is at.
    #[must_use]
    pub fn height(&self) -> u32 {
        self.seen
    }

    /// The height of the chain itself.
    #[must_use]
    pub fn tip(&self) -> u32 {
        self.tip
    }

    /// The hash of a block of the present branch.
    #[must_use]
    pub fn hash(&self, height: u32) -> [u8; 32] {
        let below = self.forks.iter().filter(|fork| **fork <= height).count() as u64;
        let buried = self.forks_total.saturating_sub(self.forks.len() as u64);
        let mut hasher = Sha256::new();
        hasher.update(self.network.as_bytes());
        hasher.update(height.to_be_bytes());
        hasher.update(if below == 0 { 0 } else { below + buried }.to_be_bytes());
        hasher.finalize().into()
    }

    /// The node's tip, as LND announces it.
    #[must_use]
    pub fn epoch(&self, height: u32) -> BlockEpoch {
        BlockEpoch { hash: self.hash(height).to_vec().into(), height }
    }

    /// Adds blocks to the chain; the node sees them with [`Self::next_seen`].
    pub fn mine(&mut self, blocks: u32) {
        self.tip = self.tip.saturating_add(blocks);
    }

    /// Cuts the chain back to `height`. The node's own view follows at once.
    pub fn disconnect_to(&mut self, height: u32) {
        if height >= self.tip {
            return;
        }
        if self.forks.len() >= FORKS_KEPT {
            self.forks.remove(0);
        }
        self.forks.push(height.saturating_add(1));
        self.forks_total = self.forks_total.saturating_add(1);
        self.tip = height;
        self.seen = self.seen.min(height);
    }

    /// The next block that the node gets to see, if there is one.
    pub fn next_seen(&mut self) -> Option<u32> {
        if self.frozen || self.seen >= self.tip.saturating_sub(self.lag_blocks) {
            return None;
        }
        self.seen = self.seen.saturating_add(1);
        Some(self.seen)
    }

    /// For the controls.
    #[must_use]
    pub fn view(&self) -> ctl::ChainView {
        ctl::ChainView {
            height: self.seen,
            hash: self.hash(self.seen).to_vec().into(),
            tip_height: self.tip,
            synced_to_chain: self.synced,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_nodes_of_one_network_agree_on_hashes_until_one_reorganises() {
        let (mut a, b) = (Chain::new("regtest", 100), Chain::new("regtest", 90));
        assert_eq!(a.hash(95), b.hash(95));
        assert_ne!(a.hash(95), Chain::new("simnet", 100).hash(95));
        let (kept, replaced) = (a.hash(97), a.hash(99));
        a.disconnect_to(97);
        a.mine(3);
        assert_eq!((a.tip(), a.height()), (100, 97));
        assert_eq!(a.hash(97), kept);
        assert_ne!(a.hash(99), replaced);
    }

    #[test]
    fn a_lagging_or_frozen_node_does_not_see_the_tip() {
        let mut chain = Chain::new("regtest", 100);
        chain.lag_blocks = 2;
        chain.mine(3);
        assert_eq!(chain.next_seen(), Some(101));
        assert_eq!(chain.next_seen(), None);
        chain.lag_blocks = 0;
        chain.frozen = true;
        assert_eq!(chain.next_seen(), None);
        chain.frozen = false;
        assert_eq!(chain.next_seen(), Some(102));
    }
}
