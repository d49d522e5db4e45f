use super::{htlc::HtlcKey, input::StreamId, record::Record};
use mux_proto::{chainrpc::BlockEpoch, lndsim::v1 as ctl, lnrpc, routerrpc};

/// What the world outside has to do, in this order. Records come first in effect: they must be written
/// before anything else of the same step is seen by anybody.
#[derive(Debug)]
pub enum Output {
    /// Append to the journal.
    Persist(Record),
    /// Send to the interceptor. The core waits for [`super::input::Input::StreamSent`] before it goes on
    /// with anything that passes LND's event loop.
    Offer(StreamId, Box<routerrpc::ForwardHtlcInterceptRequest>),
    /// The answer read last was taken; the next may be read.
    AnswerTaken(StreamId),
    /// End a stream with an error; nothing of it is read any more.
    CloseStream(StreamId, StreamError),
    /// Reset the connection that carries a stream, or all of them (`None`).
    ResetConnections {
        /// That stream's connection, or all.
        of: Option<StreamId>,
        /// What is under way may still be written.
        gracefully: bool,
    },
    /// As before, but nothing is reset: no byte passes any more.
    StallConnections(Option<StreamId>),
    /// The node is up (listening) or down.
    Listening(bool),
    /// To every subscriber of HTLC events.
    HtlcEvent(routerrpc::HtlcEvent),
    /// To every subscriber of blocks.
    Block(BlockEpoch),
    /// To every subscriber of channel events.
    ChannelEvent(lnrpc::ChannelEventUpdate),
    /// To every subscriber of the start-up state.
    WalletState(lnrpc::WalletState),
    /// Write a new certificate.
    RotateTlsCert,
    /// Whoever watches the core (outcomes, closings, frozen reads) should look again; in every step.
    Changed,
}

/// gRPC code and text that end an interceptor stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamError {
    /// As a gRPC status.
    pub code: StreamErrorCode,
    /// LND's words.
    pub text: String,
}

/// The codes LND uses here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamErrorCode {
    /// A plain Go error.
    Unknown,
    /// Refused by the RPC layer.
    InvalidArgument,
}

impl StreamError {
    /// A plain Go error.
    pub fn unknown(text: impl Into<String>) -> Self {
        Self { code: StreamErrorCode::Unknown, text: text.into() }
    }

    /// Refused by the RPC layer.
    pub fn invalid(text: impl Into<String>) -> Self {
        Self { code: StreamErrorCode::InvalidArgument, text: text.into() }
    }
}

/// What an input came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// Nothing to say.
    Done,
    /// The HTLC that was added.
    Added(HtlcKey),
    /// The channel that was opened: id and funding output.
    Opened(u64, String),
    /// The chain now.
    Chain(ctl::ChainView),
    /// The channel is closing with this transaction (internal byte order).
    Closing(u64, [u8; 32]),
}

/// What an input led to.
#[derive(Debug)]
pub struct Handled {
    /// For whoever asked.
    pub reply: Result<Reply, Rejected>,
    /// For everybody else.
    pub outputs: Vec<Output>,
}

/// A request that was not carried out. Nothing changed; the caller must ask something else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// Another client has the stream.
    #[error("interceptor already exists")]
    SlotTaken,
    /// No such channel or HTLC.
    #[error("{0}")]
    NotFound(String),
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// Not in this state.
    #[error("{0}")]
    Precondition(String),
    /// No room.
    #[error("{0}")]
    Exhausted(String),
}
