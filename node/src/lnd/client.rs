use super::error::{LndError, Refusal};
use super::gate;
use super::net::LndNet;
use mux_proto::chainrpc::{BlockEpoch, chain_notifier_client::ChainNotifierClient};
use mux_proto::lnrpc::lightning_client::LightningClient;
use mux_proto::lnrpc::{
    Channel, ChannelCloseSummary, ChannelEventSubscription, ChannelEventUpdate, ChannelPoint,
    CloseChannelRequest, CloseStatusUpdate, ClosedChannelsRequest, GetInfoRequest, GetInfoResponse,
    ListChannelsRequest, LookupHtlcResolutionRequest, LookupHtlcResolutionResponse,
};
use mux_proto::routerrpc::router_client::RouterClient;
use mux_proto::routerrpc::{
    ForwardHtlcInterceptRequest, ForwardHtlcInterceptResponse, HtlcEvent, SubscribeHtlcEventsRequest,
};
use mux_raft::network::PeerChannel;
use mux_raft::types::NodePubkey;
use std::fmt;
use std::future::Future;
use std::path::Path;
use std::time::Duration;
use tokio_stream::Stream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::{Interceptor, interceptor::InterceptedService};
use tonic::{Request, Response, Status, Streaming};

/// What LND sends on an interceptor stream.
pub type InterceptorStream = Streaming<ForwardHtlcInterceptRequest>;

/// LND's own limit. The lists of channels, open and ever closed, of a busy node are longer than the 4 MiB that
/// gRPC allows by default; without them no end of an HTLC would be found out.
const ANSWER_BYTES_MAX: usize = 200 << 20;

/// How long a call that answers once may take.
const CALL_DEADLINE: Duration = Duration::from_secs(10);

/// How long LND may take to accept a subscription (its headers come with the first message at the latest).
const SUBSCRIBE_DEADLINE: Duration = Duration::from_secs(20);

/// Puts the macaroon on every call.
#[derive(Clone)]
pub(super) struct Macaroon(MetadataValue<Ascii>);

impl Macaroon {
    pub(super) async fn read(net: &dyn LndNet, path: &Path) -> Result<Self, Refusal> {
        let refuse = |reason: String| Refusal::MacaroonFile { path: path.to_owned(), reason };
        let bytes = net.macaroon(path).await.map_err(|error| refuse(error.to_string()))?;
        if bytes.is_empty() {
            return Err(refuse("is empty".into()));
        }
        let mut value: MetadataValue<Ascii> =
            hex::encode(bytes).parse().map_err(|_| refuse("does not fit into a header".into()))?;
        value.set_sensitive(true);
        Ok(Self(value))
    }
}

impl Interceptor for Macaroon {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("macaroon", self.0.clone());
        Ok(request)
    }
}

/// A connection to the active endpoint of a front node. Cheap to clone; all clones share the connection.
#[derive(Clone)]
pub struct LndClient {
    node: NodePubkey,
    network: String,
    endpoint: String,
    lightning: LightningClient<InterceptedService<PeerChannel, Macaroon>>,
    router: RouterClient<InterceptedService<PeerChannel, Macaroon>>,
    chain: ChainNotifierClient<InterceptedService<PeerChannel, Macaroon>>,
}

impl fmt::Debug for LndClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LndClient").field("node", &self.node).field("endpoint", &self.endpoint).finish()
    }
}

impl LndClient {
    /// Around a connection. The node is not checked yet; see [`Self::checked_info`].
    pub(super) fn new(
        channel: PeerChannel,
        endpoint: &str,
        macaroon: Macaroon,
        node: NodePubkey,
        network: &str,
    ) -> Self {
        let service = InterceptedService::new(channel, macaroon);
        Self {
            node,
            network: network.to_owned(),
            endpoint: endpoint.to_owned(),
            lightning: LightningClient::new(service.clone()).max_decoding_message_size(ANSWER_BYTES_MAX),
            router: RouterClient::new(service.clone()),
            chain: ChainNotifierClient::new(service),
        }
    }

    /// `host:port` it is connected to.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// `GetInfo`, and the gate: an answer means that this is the node it should be, as it must be.
    ///
    /// # Errors
    /// [`LndError::Refused`] by the gate, or why there was no answer.
    pub async fn checked_info(&self) -> Result<GetInfoResponse, LndError> {
        let mut client = self.lightning.clone();
        let info = self.once("GetInfo", client.get_info(GetInfoRequest {})).await?;
        gate::check(&info, &self.node, &self.network, &self.endpoint)?;
        Ok(info)
    }

    /// All channels, active or not, with their pending HTLCs.
    ///
    /// # Errors
    /// Why there was no answer.
    pub async fn list_channels(&self) -> Result<Vec<Channel>, LndError> {
        let mut client = self.lightning.clone();
        let call = client.list_channels(ListChannelsRequest::default());
        Ok(self.once("ListChannels", call).await?.channels)
    }

    /// Channels that are closed and fully resolved.
    ///
    /// # Errors
    /// Why there was no answer.
    pub async fn closed_channels(&self) -> Result<Vec<ChannelCloseSummary>, LndError> {
        let mut client = self.lightning.clone();
        let call = client.closed_channels(ClosedChannelsRequest::default());
        Ok(self.once("ClosedChannels", call).await?.channels)
    }

    /// How an HTLC ended; `None`: it is not final, or LND has no record of it.
    ///
    /// # Errors
    /// Why there was no answer.
    pub async fn lookup_htlc(
        &self,
        chan_id: u64,
        htlc_id: u64,
    ) -> Result<Option<LookupHtlcResolutionResponse>, LndError> {
        let mut client = self.lightning.clone();
        let call =
            client.lookup_htlc_resolution(LookupHtlcResolutionRequest { chan_id, htlc_index: htlc_id });
        match self.once("LookupHtlcResolution", call).await {
            Ok(resolution) => Ok(Some(resolution)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Force-closes a channel; returns as soon as LND took it on.
    ///
    /// # Errors
    /// Why LND did not.
    pub async fn force_close(&self, channel: ChannelPoint) -> Result<(), LndError> {
        const CALL: &str = "CloseChannel";
        let mut client = self.lightning.clone();
        let call = client.close_channel(CloseChannelRequest { channel_point: Some(channel), force: true });
        let mut updates: Streaming<CloseStatusUpdate> = self.subscribe(CALL, call).await?;
        self.once(CALL, async { updates.message().await.map(Response::new) }).await.map(|_| ())
    }

    /// Final resolutions and forwarding events. LND confirms with a first `subscribed_event`.
    ///
    /// # Errors
    /// Why LND did not.
    pub async fn htlc_events(&self) -> Result<Streaming<HtlcEvent>, LndError> {
        let mut client = self.router.clone();
        let call = client.subscribe_htlc_events(SubscribeHtlcEventsRequest {});
        self.subscribe("SubscribeHtlcEvents", call).await
    }

    /// The tip at once, then every block.
    ///
    /// # Errors
    /// Why LND did not.
    pub async fn block_epochs(&self) -> Result<Streaming<BlockEpoch>, LndError> {
        let mut client = self.chain.clone();
        let call = client.register_block_epoch_ntfn(BlockEpoch::default());
        self.subscribe("RegisterBlockEpochNtfn", call).await
    }

    /// Changes of channels. Nothing, not even headers, comes before the first change, so that this must
    /// not be awaited with a deadline.
    ///
    /// # Errors
    /// Why LND did not.
    pub async fn channel_events(&self) -> Result<Streaming<ChannelEventUpdate>, LndError> {
        const CALL: &str = "SubscribeChannelEvents";
        let mut client = self.lightning.clone();
        let answer = client.subscribe_channel_events(ChannelEventSubscription {}).await;
        answer.map(Response::into_inner).map_err(|status| self.error(CALL, &status))
    }

    /// Opens the interceptor stream. **Ends only with the first HTLC or a refusal**: LND sends no headers
    /// before it has something to say. Take the stream as held when a call that was started after the
    /// first poll of this future has been answered.
    ///
    /// # Errors
    /// Why LND refused it; see [`LndError::is_slot_taken`].
    pub async fn intercept(
        &self,
        answers: impl Stream<Item = ForwardHtlcInterceptResponse> + Send + 'static,
    ) -> Result<InterceptorStream, LndError> {
        let mut client = self.router.clone();
        let answer = client.htlc_interceptor(answers).await;
        answer.map(Response::into_inner).map_err(|status| self.error("HtlcInterceptor", &status))
    }

    /// Sorts a status from one of the streams.
    #[must_use]
    pub fn error(&self, call: &'static str, status: &Status) -> LndError {
        LndError::from_status(call, &self.endpoint, status)
    }

    async fn once<T>(
        &self,
        call: &'static str,
        answer: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, LndError> {
        self.within(call, CALL_DEADLINE, answer).await
    }

    async fn subscribe<T>(
        &self,
        call: &'static str,
        answer: impl Future<Output = Result<Response<Streaming<T>>, Status>>,
    ) -> Result<Streaming<T>, LndError> {
        self.within(call, SUBSCRIBE_DEADLINE, answer).await
    }

    async fn within<T>(
        &self,
        call: &'static str,
        deadline: Duration,
        answer: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, LndError> {
        let deadline_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
        match tokio::time::timeout(deadline, answer).await {
            Err(_) => Err(LndError::Deadline { call, deadline_ms }),
            Ok(Err(status)) => Err(self.error(call, &status)),
            Ok(Ok(response)) => Ok(response.into_inner()),
        }
    }
}
