use super::config::EndpointConfig;
use super::error::LndError;
use mux_raft::network::PeerChannel;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// How a replica reaches front nodes. In production TCP with TLS, and macaroons in files; a simulation brings its own.
#[async_trait::async_trait]
pub trait LndNet: fmt::Debug + Send + Sync + 'static {
    /// One listener of a front node, for as long as somebody connects to it.
    fn listener(&self, endpoint: &EndpointConfig) -> Arc<dyn LndListener>;

    /// The macaroon that a configuration names by its file. Asked for at every connect.
    ///
    /// # Errors
    /// It cannot be read.
    async fn macaroon(&self, file: &Path) -> io::Result<Vec<u8>>;
}

/// A listener of LND, as a client sees it.
#[async_trait::async_trait]
pub trait LndListener: Send + Sync {
    /// Connects, which says nothing yet of what LND is and does. A connection that breaks may come back by itself.
    ///
    /// # Errors
    /// [`LndError::Unreachable`], or refused because of the certificate.
    async fn connect(&self) -> Result<PeerChannel, LndError>;
}
