use mux_proto::{lndsim::v1 as ctl, lnrpc, routerrpc};

/// Number of an interceptor stream, given by whoever accepts it, never twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// What can happen to the node.
#[derive(Clone, Debug)]
pub enum Input {
    /// A client opened an interceptor stream.
    StreamOpened(StreamId),
    /// The offer handed out last is on its way (the client read enough for it to fit).
    StreamSent(StreamId),
    /// The client's answer.
    StreamAnswer(StreamId, Box<routerrpc::ForwardHtlcInterceptResponse>),
    /// The stream ended: half-closed, cancelled, or its connection is gone.
    StreamClosed(StreamId),
    /// `Lightning.CloseChannel`.
    CloseChannel(lnrpc::CloseChannelRequest),
    /// Time passed; see [`super::Core::next_deadline_ms`].
    Tick,
    /// A control.
    Command(Box<Command>),
}

/// A control, as in `lndsim.v1.Control`.
#[derive(Clone, Debug)]
pub enum Command {
    /// The peer adds an HTLC.
    AddHtlc(ctl::AddHtlcRequest),
    /// Fails behind the client's back.
    FailHtlc(ctl::FailHtlcRequest),
    /// A new channel.
    OpenChannel(ctl::OpenChannelRequest),
    /// The peer leaves.
    PeerDisconnect(ctl::ChannelRef),
    /// The peer returns.
    PeerReconnect(ctl::ChannelRef),
    /// Both.
    PeerFlap(ctl::ChannelRef),
    /// A commitment goes to chain.
    ForceClose(ctl::ForceCloseRequest),
    /// How far answers get.
    SetStageLimit(ctl::SetStageLimitRequest),
    /// The same for the commonest case.
    StopSigning(ctl::StopSigningRequest),
    /// What the next peer does.
    SetDownstream(ctl::SetDownstreamRequest),
    /// New blocks.
    MineBlocks(ctl::MineBlocksRequest),
    /// The tip.
    SetHeight(ctl::SetHeightRequest),
    /// Other blocks.
    Reorg(ctl::ReorgRequest),
    /// What the node sees of them.
    SetChainView(ctl::SetChainViewRequest),
    /// Flags and identity.
    SetFlags(ctl::SetFlagsRequest),
    /// Start-up state.
    SetWalletState(ctl::SetWalletStateRequest),
    /// Stop and start.
    Restart(ctl::RestartRequest),
    /// Connections.
    CutStreams(ctl::CutStreamsRequest),
    /// Back-pressure towards the client.
    FreezeReads(ctl::FreezeReadsRequest),
    /// Lost events.
    DropFinalEvents(ctl::DropFinalEventsRequest),
    /// New certificate.
    RotateTlsCert,
}
