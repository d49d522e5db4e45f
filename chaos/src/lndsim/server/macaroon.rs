//! Macaroons, as far as a client can tell: opaque bytes that are right, wrong, or not enough.

use std::path::Path;

use rand::{Rng, SeedableRng as _, rngs::StdRng};
use tonic::{Status, metadata::MetadataMap};

use super::running::StartError;

const ADMIN_FILE: &str = "admin.macaroon";
const LIMITED_FILE: &str = "multiplexer.macaroon";
/// What the limited one does not permit.
const ADMIN_ONLY: &str = "/lnrpc.Lightning/CloseChannel";

/// The macaroons a node accepts.
pub(super) struct Macaroons {
    admin: Vec<u8>,
    limited: Vec<u8>,
}

impl Macaroons {
    /// Those in `dir`, or new ones: `admin.macaroon` for everything, `multiplexer.macaroon` for everything
    /// but closing channels.
    pub(super) fn load_or_create(dir: &Path) -> Result<Self, StartError> {
        let load = |name: &str| {
            let path = dir.join(name);
            if !path.exists() {
                std::fs::write(&path, new(&mut rand::rng())).map_err(StartError::disk)?;
            }
            std::fs::read(&path).map_err(StartError::disk)
        };
        Ok(Self { admin: load(ADMIN_FILE)?, limited: load(LIMITED_FILE)? })
    }

    /// New ones that follow from a seed.
    pub(super) fn of_seed(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        Self { admin: new(&mut random), limited: new(&mut random) }
    }

    /// The one that permits everything.
    pub(super) fn admin(&self) -> &[u8] {
        &self.admin
    }

    /// LND's check (macaroons/service.go). Its errors are plain Go errors: code Unknown.
    #[allow(clippy::result_large_err)] // tonic's own error type
    pub(super) fn check(&self, metadata: &MetadataMap, uri: &str) -> Result<(), Status> {
        let values: Vec<_> = metadata.get_all("macaroon").iter().collect();
        let [value] = values.as_slice() else {
            return Err(Status::unknown(format!("expected 1 macaroon, got {}", values.len())));
        };
        let bytes = hex::decode(value.as_bytes())
            .map_err(|_| Status::unknown("encoding/hex: invalid byte in macaroon"))?;
        if bytes == self.admin {
            return Ok(());
        }
        if bytes != self.limited {
            let text = "verification failed: signature mismatch after caveat verification";
            return Err(Status::unknown(text));
        }
        if uri == ADMIN_ONLY { Err(Status::unknown("permission denied")) } else { Ok(()) }
    }
}

fn new(random: &mut impl Rng) -> Vec<u8> {
    let mut bytes = vec![0x02, 0x01, 0x03, b'l', b'n', b'd', 0x02, 0x20];
    bytes.extend(random.random::<[u8; 32]>());
    bytes.extend([0x00, 0x00, 0x06, 0x20]);
    bytes.extend(random.random::<[u8; 32]>());
    bytes
}

/// Name of the file that permits everything.
pub(super) const fn admin_file() -> &'static str {
    ADMIN_FILE
}
