use std::path::Path;

use secp256k1::{PublicKey, SECP256K1, SecretKey};
use sha2::{Digest as _, Sha256};

use super::running::StartError;

const KEY_FILE: &str = "node.key";

/// The public key (hexadecimal) of a new node.
pub(super) fn new_pubkey(alias: &str, seed: u64) -> Result<String, StartError> {
    pubkey(&new_secret(alias, seed))
}

/// Hexadecimal; follows from alias and seed.
fn new_secret(alias: &str, seed: u64) -> String {
    let mut hasher = Sha256::new();
    hasher.update(b"lndsim node key");
    hasher.update(seed.to_be_bytes());
    hasher.update(alias.as_bytes());
    hex::encode(hasher.finalize())
}

fn pubkey(secret: &str) -> Result<String, StartError> {
    let secret: SecretKey = secret.trim().parse().map_err(|_| StartError::BadKey)?;
    Ok(PublicKey::from_secret_key(SECP256K1, &secret).to_string())
}

/// The node's public key (hexadecimal), from the key in `dir` or a new one that follows from alias and seed.
pub(super) fn load_or_create(dir: &Path, alias: &str, seed: u64) -> Result<String, StartError> {
    let path = dir.join(KEY_FILE);
    if !path.exists() {
        std::fs::write(&path, new_secret(alias, seed)).map_err(StartError::disk)?;
    }
    pubkey(&std::fs::read_to_string(&path).map_err(StartError::disk)?)
}
