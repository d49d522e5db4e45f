//! A simulated LND as the payer's side sees it: its controls.
//!
//! One task follows the node's outcomes, gap-free by their sequence number, across cut connections, and
//! hands each to whoever waits for that HTLC.

use super::{BlockHeight, FrontPeer, HtlcKey, HtlcOutcome, NewHtlc, PeerError, ends::Ends};
use async_trait::async_trait;
use mux_proto::lndsim::v1::{
    AddHtlcRequest, GetStateRequest, SubscribeOutcomesRequest, control_client::ControlClient,
};
use mux_raft::{
    network::{ChannelError, PeerChannel},
    types::NodePubkey,
};
use std::time::Duration;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Code, Status, transport::Channel};
use tower::ServiceExt as _;

/// Every call to the control port is on loopback and answered at once; this only guards against a hang.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Between attempts to follow the outcomes again.
const FOLLOW_AGAIN: Duration = Duration::from_millis(50);

/// Ledgers of long runs are larger than tonic's default of 4 MiB.
pub const MESSAGE_LEN_MAX: usize = 256 << 20;

/// See the [module](self).
pub struct LndPeer {
    node: NodePubkey,
    control: ControlClient<PeerChannel>,
    ends: Ends,
    _follower: Option<AbortOnDropHandle<()>>,
}

impl LndPeer {
    /// Connects to a control port and begins to follow the node's outcomes.
    ///
    /// # Errors
    /// [`PeerError`], if the node cannot be reached or does not say who it is.
    pub async fn connect(control_address: &str) -> Result<Self, PeerError> {
        Ok(Self::silent(control_address).await?.following())
    }

    /// The same over a connection to the controls that is there already.
    ///
    /// # Errors
    /// [`PeerError`], if the node does not say who it is.
    pub async fn over(controls: PeerChannel) -> Result<Self, PeerError> {
        Ok(Self::asked(control_client(controls)).await?.following())
    }

    /// The same without following the outcomes, for load: nobody can wait for an HTLC's end.
    ///
    /// # Errors
    /// [`PeerError`], if the node cannot be reached or does not say who it is.
    pub async fn silent(control_address: &str) -> Result<Self, PeerError> {
        Self::asked(connect_control(control_address).await?).await
    }

    async fn asked(control: ControlClient<PeerChannel>) -> Result<Self, PeerError> {
        let state = control
            .clone()
            .get_state(GetStateRequest {})
            .await
            .map_err(|status| PeerError::Unavailable(status.message().into()))?
            .into_inner();
        let node = state
            .identity_pubkey
            .parse()
            .map_err(|error| PeerError::Refused(format!("identity of the simulated LND: {error}")))?;
        Ok(Self { node, control, ends: Ends::default(), _follower: None })
    }

    fn following(self) -> Self {
        let follower = tokio::spawn(follow(self.control.clone(), self.ends.clone()));
        Self { _follower: Some(AbortOnDropHandle::new(follower)), ..self }
    }

    /// The node's controls, for everything that is not paying.
    #[must_use]
    pub fn control(&self) -> ControlClient<PeerChannel> {
        self.control.clone()
    }
}

/// A client of a simulated LND's control port.
///
/// # Errors
/// [`PeerError::Unavailable`], if nobody listens.
pub async fn connect_control(address: &str) -> Result<ControlClient<PeerChannel>, PeerError> {
    let channel = Channel::from_shared(format!("http://{address}"))
        .map_err(|error| PeerError::Refused(error.to_string()))?
        .connect_timeout(CALL_TIMEOUT)
        .connect()
        .await
        .map_err(|error| PeerError::Unavailable(error.to_string()))?;
    Ok(control_client(PeerChannel::new(channel.map_err(ChannelError::new))))
}

fn control_client(channel: PeerChannel) -> ControlClient<PeerChannel> {
    ControlClient::new(channel).max_decoding_message_size(MESSAGE_LEN_MAX)
}

#[async_trait]
impl FrontPeer for LndPeer {
    fn node(&self) -> NodePubkey {
        self.node
    }

    async fn height(&self) -> Result<BlockHeight, PeerError> {
        let state = deadline(self.control.clone().get_state(GetStateRequest {})).await?;
        Ok(state.chain.unwrap_or_default().tip_height)
    }

    async fn add_htlc(&self, htlc: NewHtlc) -> Result<HtlcKey, PeerError> {
        let added = deadline(self.control.clone().add_htlc(AddHtlcRequest::from(htlc))).await?;
        Ok(HtlcKey { chan_id: added.chan_id, htlc_id: added.htlc_id })
    }

    async fn outcome(&self, key: HtlcKey) -> HtlcOutcome {
        self.ends.of(key).await
    }
}

async fn deadline<T>(call: impl Future<Output = Result<tonic::Response<T>, Status>>) -> Result<T, PeerError> {
    match tokio::time::timeout(CALL_TIMEOUT, call).await {
        Err(_) => Err(PeerError::Unavailable("no answer from the control port".into())),
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(match status.code() {
            Code::InvalidArgument => PeerError::Refused(status.message().into()),
            _ => PeerError::Unavailable(status.message().into()),
        }),
    }
}

/// Follows the outcomes for ever, from the first one on.
async fn follow(mut control: ControlClient<PeerChannel>, ends: Ends) {
    let mut next = 1;
    loop {
        if let Ok(response) = control.subscribe_outcomes(SubscribeOutcomesRequest { from_seq: next }).await {
            let mut outcomes = response.into_inner();
            while let Ok(Some(outcome)) = outcomes.message().await {
                if outcome.seq < next {
                    continue;
                }
                next = outcome.seq + 1;
                ends.deliver(outcome);
            }
        }
        tokio::time::sleep(FOLLOW_AGAIN).await;
    }
}
