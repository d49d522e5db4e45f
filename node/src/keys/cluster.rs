use super::{ClusterSeed, Network, scid};
use crate::secrets::SecretCodec;
use hkdf::Hkdf;
use hmac::{Hmac, Mac as _};
use mux_raft::types::NodePubkey;
use secp256k1::{Keypair, PublicKey, SECP256K1, SecretKey};
use sha2::{Digest as _, Sha256};
use std::fmt;
use zeroize::{Zeroize as _, Zeroizing};

/// Names a seed without saying anything about it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 8]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Everything that is derived from a cluster's seed. Wiped from memory when dropped; never printed.
#[derive(Clone)]
pub struct ClusterKeys {
    node: SecretKey,
    node_id: PublicKey,
    codec: SecretCodec,
    scid: Zeroizing<[u8; 32]>,
    macaroon_root: Zeroizing<[u8; 32]>,
    fingerprint: Fingerprint,
}

impl ClusterKeys {
    /// Derives the keys. The same seed gives the same keys for ever.
    #[must_use]
    pub fn derive(seed: &ClusterSeed) -> Self {
        // The salt makes this derivation ours even if the seed is used elsewhere too.
        let hkdf = Hkdf::<Sha256>::new(Some(b"replicated lightning multiplexer seed v1"), seed.bytes());
        let node = node_key(&hkdf);
        let mut fingerprint = [0; 8];
        fingerprint.copy_from_slice(&sub_key(&hkdf, b"fingerprint")[..8]);
        Self {
            node,
            node_id: node.public_key(SECP256K1),
            codec: SecretCodec::new(
                sub_key(&hkdf, b"preimage"),
                sub_key(&hkdf, b"payment secret encryption"),
                sub_key(&hkdf, b"payment secret authentication"),
            ),
            scid: sub_key(&hkdf, b"virtual short channel id"),
            macaroon_root: sub_key(&hkdf, b"macaroon root"),
            fingerprint: Fingerprint(fingerprint),
        }
    }

    /// The virtual node's private key: signs invoices, peels onions.
    #[must_use]
    pub fn node_secret(&self) -> &SecretKey {
        &self.node
    }

    /// The virtual node's key pair, for signing.
    #[must_use]
    pub fn node_keypair(&self) -> Keypair {
        Keypair::from_secret_key(SECP256K1, &self.node)
    }

    /// The virtual node's public key.
    #[must_use]
    pub fn node_public(&self) -> &PublicKey {
        &self.node_id
    }

    /// The virtual node's public key as a word of the domain.
    #[must_use]
    pub fn node_pubkey(&self) -> NodePubkey {
        NodePubkey(self.node_id.serialize())
    }

    /// Makes and opens payment secrets, and knows the preimages of own invoices.
    #[must_use]
    pub fn secrets(&self) -> &SecretCodec {
        &self.codec
    }

    /// Root key of the client API's macaroons.
    #[must_use]
    pub fn macaroon_root(&self) -> &[u8; 32] {
        &self.macaroon_root
    }

    /// Names the seed. Replicas compare it before they talk.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The cluster's identity: the seed's fingerprint (8 bytes), then a hash of name and network. A
    /// replica with another seed, name or network belongs to another cluster.
    #[must_use]
    pub fn cluster_id(&self, name: &str, network: Network) -> [u8; 32] {
        let digest = Sha256::new()
            .chain_update(b"cluster id v1")
            .chain_update((name.len() as u64).to_be_bytes())
            .chain_update(name)
            .chain_update(network.name())
            .finalize();
        let mut id = [0; 32];
        let (fingerprint, rest) = id.split_at_mut(8);
        fingerprint.copy_from_slice(&self.fingerprint.0);
        rest.copy_from_slice(&digest[..24]);
        id
    }

    /// The virtual scid of a front node's policy: stable, never 0, its block height in
    /// [`super::SCID_BLOCK_MIN`]..=[`super::SCID_BLOCK_MAX`], and not one that is `taken` (by another
    /// front node, a former policy, or a real alias).
    #[must_use]
    pub fn virtual_scid(&self, node: &NodePubkey, policy_version: u32, taken: &dyn Fn(u64) -> bool) -> u64 {
        scid::derive(&self.scid, node, policy_version, taken)
    }
}

impl Drop for ClusterKeys {
    fn drop(&mut self) {
        self.node.non_secure_erase();
    }
}

impl fmt::Debug for ClusterKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterKeys(node {}, seed {})", self.node_id, self.fingerprint)
    }
}

/// HMAC-SHA256 over the concatenation of the parts. Callers keep the parts unambiguous.
pub(super) fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

fn sub_key(hkdf: &Hkdf<Sha256>, label: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    hkdf.expand(label, key.as_mut_slice()).expect("32 bytes are less than HKDF's limit of 255 hashes");
    key
}

/// Not every 32 bytes are a key (one in 2^127 is not): the next label is tried then.
fn node_key(hkdf: &Hkdf<Sha256>) -> SecretKey {
    let mut attempt: u8 = 0;
    loop {
        let label = [b"node identity ".as_slice(), &[attempt]].concat();
        let mut bytes = sub_key(hkdf, &label);
        let key = SecretKey::from_slice(bytes.as_slice());
        bytes.zeroize();
        if let Ok(key) = key {
            return key;
        }
        attempt = attempt.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(seed: u8) -> ClusterKeys {
        ClusterKeys::derive(&ClusterSeed::from_bytes([seed; 32]))
    }

    #[test]
    fn derivation_never_changes() {
        // Computed by another program from the labels: a different value here orphans every invoice ever
        // issued.
        let keys = keys(1);
        assert_eq!(
            keys.node_pubkey().to_string(),
            "03c1ded9705332211418b83bae07b8c2f70401a73df60e58801570c6b292d31b22"
        );
        assert_eq!(keys.fingerprint().to_string(), "cc9f5251b4ff0e95");
        assert_eq!(
            hex::encode(keys.macaroon_root()),
            "b95983abe95938b75c8a1bd18802f822530ebd911de76e3359c87f1dce7fce0e"
        );
        assert_eq!(keys.virtual_scid(&NodePubkey([2; 33]), 0, &|_| false), 9_644_659_715_784_336_633);
    }

    #[test]
    fn sub_keys_are_distinct() {
        let keys = keys(1);
        let all = [*keys.scid, *keys.macaroon_root, keys.node.secret_bytes(), [1; 32]];
        for (at, one) in all.iter().enumerate() {
            assert!(all[at + 1..].iter().all(|other| other != one));
        }
    }

    #[test]
    fn the_cluster_id_depends_on_seed_name_and_network() {
        let id = keys(1).cluster_id("shop", Network::Mainnet);
        assert_eq!(id[..8], keys(1).fingerprint().0);
        assert_eq!(id, keys(1).cluster_id("shop", Network::Mainnet));
        assert_ne!(id, keys(2).cluster_id("shop", Network::Mainnet));
        assert_ne!(id, keys(1).cluster_id("shop2", Network::Mainnet));
        assert_ne!(id, keys(1).cluster_id("shop", Network::Testnet));
    }

    #[test]
    fn keys_do_not_print() {
        let keys = keys(1);
        let text = format!("{keys:?}");
        assert!(!text.contains(&hex::encode(keys.node.secret_bytes())));
        assert!(!text.contains(&hex::encode(keys.macaroon_root())));
        assert_eq!(text, format!("ClusterKeys(node {}, seed {})", keys.node_id, keys.fingerprint));
    }
}
