//! The primitives of BOLT 4: keys derived from shared secrets, the ChaCha20 stream, HMAC-SHA256.

use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit as _, StreamCipher as _};
use hmac::{Hmac, Mac as _};
use secp256k1::ecdh;
use secp256k1::{PublicKey, SecretKey};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// A 32-byte secret, wiped when dropped.
pub(super) type Secret = Zeroizing<[u8; 32]>;

/// What a derived key is for ("Key Generation").
#[derive(Clone, Copy)]
pub(super) enum KeyType {
    /// Stream that hides the hop payloads.
    Rho,
    /// HMAC over the onion.
    Mu,
    /// HMAC over a failure.
    Um,
    /// Stream that hides a failure.
    Ammag,
    /// Stream that fills an onion's unused end; the payer's only.
    Pad,
}

pub(super) fn derive(key_type: KeyType, secret: &[u8; 32]) -> Secret {
    let label: &[u8] = match key_type {
        KeyType::Rho => b"rho",
        KeyType::Mu => b"mu",
        KeyType::Um => b"um",
        KeyType::Ammag => b"ammag",
        KeyType::Pad => b"pad",
    };
    Zeroizing::new(mac(label, &[secret]))
}

/// SHA-256 of the compressed ECDH point.
pub(super) fn shared_secret(public: &PublicKey, secret: &SecretKey) -> Secret {
    Zeroizing::new(ecdh::SharedSecret::new(public, secret).secret_bytes())
}

/// What the next hop's ephemeral key is multiplied by.
pub(super) fn blinding_factor(ephemeral: &PublicKey, shared: &[u8; 32]) -> Secret {
    let digest = Sha256::new().chain_update(ephemeral.serialize()).chain_update(shared).finalize();
    Zeroizing::new(digest.into())
}

/// Exclusive-or with the key's stream (nonce of zeros: every key is used once).
pub(super) fn xor_stream(key: &[u8; 32], data: &mut [u8]) {
    ChaCha20::new(key.into(), &[0; 12].into()).apply_keystream(data);
}

pub(super) fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    hmac(key, parts).finalize().into_bytes().into()
}

/// Whether `expected` is the HMAC of the parts, in constant time.
pub(super) fn mac_matches(key: &[u8], parts: &[&[u8]], expected: &[u8]) -> bool {
    mac(key, parts).as_slice().ct_eq(expected).into()
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    mac
}
