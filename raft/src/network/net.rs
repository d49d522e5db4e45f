use crate::types::ReplicaId;
use std::error::Error;
use std::fmt;
use tonic::Status;
use tonic::body::Body;
use tower::util::BoxCloneSyncService;

/// A connection to another replica (or, outside of this crate, to an LND), for tonic's generated clients. Clones
/// share it.
pub type PeerChannel = BoxCloneSyncService<http::Request<Body>, http::Response<Body>, ChannelError>;

/// A call failed before there was an answer. It wraps what tonic makes a [`Status`] of, which may be a [`Status`]
/// itself. One that says [`tonic::ConnectError`] means that the request certainly never reached the other side; with any
/// other the caller does not know.
#[derive(Debug)]
pub struct ChannelError(Box<dyn Error + Send + Sync>);

impl ChannelError {
    /// For this reason.
    pub fn new(reason: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(reason.into())
    }
}

// Not an error by itself, so that tonic sees the reason and no wrapping. (The bare box will not do: the compiler cannot
// tell that calls on it may move between threads.)
impl From<ChannelError> for Box<dyn Error + Send + Sync> {
    fn from(error: ChannelError) -> Self {
        error.0
    }
}

/// What a connection is for: bulk transfer must not delay heartbeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Everything but snapshots.
    Main,
    /// Snapshots, and records of the archive.
    Snapshot,
}

/// How one replica reaches the others. In production TCP with mutual TLS; a simulation brings its own
/// ([`Wiring::net`](crate::replica::Wiring::net)).
pub trait Net: fmt::Debug + Send + Sync + 'static {
    /// A connection to a replica at this address, which need not be open yet: it is opened, and opened again, as
    /// needed. Kept and used for ever, until the address or [`Net::generation`] changes.
    ///
    /// # Errors
    /// UNAVAILABLE: the address is none.
    fn channel(&self, target: ReplicaId, address: &str, lane: Lane) -> Result<PeerChannel, Status>;

    /// Changes whenever connections have to be made anew.
    fn generation(&self) -> u64 {
        0
    }
}

/// Who called, as an extension of the request ([`http::Request::extensions_mut`]). A replica with a
/// [`Net`] of its own believes it in place of a certificate; a listener with TLS never looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallerId(pub ReplicaId);
