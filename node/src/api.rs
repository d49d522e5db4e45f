//! The client API: lnmux-compatible `lnmux.Service` and the multiplexer's own `mux.v1`, over gRPC with TLS.

mod auth;
mod error;

pub use auth::{AdminToken, METADATA_KEY};
pub use error::ApiError;
