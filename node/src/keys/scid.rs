//! Virtual short channel ids: the names of the hops from front nodes to the virtual node.
//!
//! Payers remember failures by scid and drop hints that share one, so each front node has its own for
//! each policy. The block height keeps clear of 0 (read as "final hop"), of any channel that could exist
//! for a century, and of the range that LND hands out as aliases (16,000,000 and up).

use super::cluster::hmac;
use mux_raft::types::NodePubkey;

/// Lowest block height of a virtual scid.
pub const SCID_BLOCK_MIN: u32 = 8_388_608;

/// Highest block height of a virtual scid; LND's aliases begin at the next one.
pub const SCID_BLOCK_MAX: u32 = 15_999_999;

/// Whether a scid is in the range that virtual ones are taken from.
#[must_use]
pub fn is_virtual_scid(scid: u64) -> bool {
    (u64::from(SCID_BLOCK_MIN)..=u64::from(SCID_BLOCK_MAX)).contains(&(scid >> 40))
}

pub(super) fn derive(
    key: &[u8; 32],
    node: &NodePubkey,
    policy_version: u32,
    taken: &dyn Fn(u64) -> bool,
) -> u64 {
    let mut attempt: u64 = 0;
    loop {
        let digest = hmac(key, &[&node.0, &policy_version.to_be_bytes(), &attempt.to_be_bytes()]);
        let [a, b, c, d, e, f, g, h, i, ..] = digest;
        let span = SCID_BLOCK_MAX - SCID_BLOCK_MIN + 1;
        let block = SCID_BLOCK_MIN + u32::from_be_bytes([a, b, c, d]) % span;
        let scid = u64::from(block) << 40 | u64::from_be_bytes([0, 0, 0, e, f, g, h, i]);
        if !taken(scid) {
            return scid;
        }
        attempt += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ClusterKeys, ClusterSeed};
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn scids_are_stable_distinct_and_in_range() {
        let keys = ClusterKeys::derive(&ClusterSeed::from_bytes([3; 32]));
        let mut seen = HashSet::new();
        for node in 0..64 {
            for version in 0..16 {
                let node = NodePubkey([node; 33]);
                let scid = keys.virtual_scid(&node, version, &|scid| seen.contains(&scid));
                assert_eq!(scid, keys.virtual_scid(&node, version, &|scid| seen.contains(&scid)));
                assert!(is_virtual_scid(scid), "{scid:x}");
                assert!(scid != 0 && scid != u64::MAX);
                assert!(seen.insert(scid));
            }
        }
    }

    #[test]
    fn a_taken_scid_is_passed_over() {
        let keys = ClusterKeys::derive(&ClusterSeed::from_bytes([3; 32]));
        let node = NodePubkey([2; 33]);
        let first = keys.virtual_scid(&node, 0, &|_| false);
        let second = keys.virtual_scid(&node, 0, &|scid| scid == first);
        assert_ne!(first, second);
        assert!(is_virtual_scid(second));
    }

    #[test]
    fn another_seed_gives_other_scids() {
        let node = NodePubkey([2; 33]);
        let of = |seed| {
            ClusterKeys::derive(&ClusterSeed::from_bytes([seed; 32])).virtual_scid(&node, 0, &|_| false)
        };
        assert_ne!(of(1), of(2));
    }

    #[test]
    fn the_range_excludes_real_channels_aliases_and_sentinels() {
        for block in [0_u64, 900_000, 8_388_607, 16_000_000, 16_249_999, 0xff_ffff] {
            assert!(!is_virtual_scid(block << 40 | 0x12_3456), "{block}");
        }
        assert!(is_virtual_scid(8_388_608 << 40));
        assert!(is_virtual_scid(15_999_999 << 40 | 0xff_ffff_ffff));
    }
}
