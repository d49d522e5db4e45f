//! Who may call: whoever sends the cluster's bearer token as metadata `macaroon: <hex>`, as LND's clients do.
//!
//! The token follows from the cluster's seed, so that every replica takes it without having stored it.

use crate::keys::ClusterKeys;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use std::fmt;
use subtle::ConstantTimeEq as _;
use tonic::service::Interceptor;
use tonic::{Request, Status};
use zeroize::Zeroizing;

/// Metadata key, as LND's.
pub const METADATA_KEY: &str = "macaroon";

/// Longest token that is looked at.
const TOKEN_BYTES_MAX: usize = 512;

/// Permits everything. Never printed.
#[derive(Clone)]
pub struct AdminToken(Zeroizing<[u8; 32]>);

impl AdminToken {
    /// The cluster's.
    #[must_use]
    pub fn derive(keys: &ClusterKeys) -> Self {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(keys.macaroon_root()).expect("HMAC takes keys of any length");
        mac.update(b"admin token v1");
        Self(Zeroizing::new(mac.finalize().into_bytes().into()))
    }

    /// What `admin.macaroon` holds. Clients send it in hexadecimal.
    #[must_use]
    pub fn to_file_bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.0.to_vec())
    }

    /// Whether this is what a client should send. Constant time in the token.
    #[must_use]
    pub fn is(&self, hex_text: &str) -> bool {
        if hex_text.len() > TOKEN_BYTES_MAX {
            return false;
        }
        let Ok(sent) = hex::decode(hex_text).map(Zeroizing::new) else { return false };
        self.0.as_slice().ct_eq(&sent).into()
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken(…)")
    }
}

/// Lets a call pass that brings the token. `None`: lets every call pass.
#[derive(Clone, Debug)]
pub struct RequireToken(Option<AdminToken>);

impl RequireToken {
    /// Requires this token; none: nothing.
    #[must_use]
    pub fn new(token: Option<AdminToken>) -> Self {
        Self(token)
    }
}

impl Interceptor for RequireToken {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let Some(token) = &self.0 else { return Ok(request) };
        let Some(sent) = request.metadata().get(METADATA_KEY) else {
            return Err(Status::unauthenticated("send metadata `macaroon`: admin.macaroon in hexadecimal"));
        };
        match sent.to_str() {
            Ok(text) if token.is(text) => Ok(request),
            _ => Err(Status::unauthenticated("this macaroon is not the cluster's")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::ClusterSeed;

    fn token(seed: u8) -> AdminToken {
        AdminToken::derive(&ClusterKeys::derive(&ClusterSeed::from_bytes([seed; 32])))
    }

    #[test]
    fn only_the_clusters_token_is_taken() {
        let text = hex::encode(token(1).to_file_bytes().as_slice());
        assert!(token(1).is(&text));
        assert!(!token(2).is(&text));
        assert!(!token(1).is(""));
        assert!(!token(1).is("not hex"));
        assert!(!token(1).is(&text[..62]));
        assert_eq!(format!("{:?}", token(1)), "AdminToken(…)");
    }
}
