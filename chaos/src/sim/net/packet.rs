use crate::sim::host::HostId;
use bytes::Bytes;
use http::HeaderMap;
use std::sync::Arc;

/// Names a connection for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub(in crate::sim) u64);

/// Names a call on its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub(super) u32);

impl StreamId {
    /// What belongs to no call.
    pub(super) const NONE: Self = Self(0);
    const COPY: u32 = 1 << 31;

    /// The call that this is, or is a copy of.
    pub(super) fn original(self) -> Self {
        Self(self.0 & !Self::COPY)
    }

    /// The name of a request's second arrival, to which nobody waits for an answer.
    pub(super) fn copy(self) -> Self {
        Self(self.0 | Self::COPY)
    }
}

/// An end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum End {
    /// Which made it.
    Client,
    /// Which took it.
    Server,
}

impl End {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }

    pub(super) fn index(self) -> usize {
        match self {
            Self::Client => 0,
            Self::Server => 1,
        }
    }
}

/// What travels.
#[derive(Clone, Debug)]
pub struct Packet {
    pub(super) connection: ConnectionId,
    /// Which end gets it.
    pub(super) to: End,
    pub(super) stream: StreamId,
    pub(super) content: Content,
}

/// What a packet says.
#[derive(Clone, Debug)]
pub enum Content {
    /// A client asks for a connection to whoever listens at this address.
    Connect(Arc<str>, HostId),
    /// It has one.
    Accepted,
    /// Nobody listens there.
    Refused,
    /// The connection is gone.
    Lost(&'static str),
    /// The head of a request.
    Request(Box<http::request::Parts>),
    /// The head of a response.
    Response(Box<http::response::Parts>),
    /// A part of a body.
    Data(Bytes),
    /// The end of a body, with trailers.
    Trailers(HeaderMap),
    /// The end of a body.
    Finished,
    /// Whoever sent the stream has given it up.
    Reset(tonic::Code),
    /// The receiver of a body has taken this much of it.
    Credit(u32),
}

impl Content {
    /// For the trace.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Connect(..) => "connect",
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::Lost(_) => "lost",
            Self::Request(_) => "request",
            Self::Response(_) => "response",
            Self::Data(_) => "data",
            Self::Trailers(_) => "trailers",
            Self::Finished => "finished",
            Self::Reset(_) => "reset",
            Self::Credit(_) => "credit",
        }
    }

    /// For the hash of the trace.
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Data(bytes) => bytes,
            Self::Request(head) => head.uri.path().as_bytes(),
            Self::Lost(why) => why.as_bytes(),
            Self::Connect(address, _) => address.as_bytes(),
            Self::Trailers(trailers) => trailers.get("grpc-status").map_or(&[], |status| status.as_bytes()),
            _ => &[],
        }
    }
}
