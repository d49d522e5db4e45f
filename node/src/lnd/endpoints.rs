use super::client::{LndClient, Macaroon};
use super::config::FrontNodeConfig;
use super::error::LndError;
use super::net::{LndListener, LndNet};
use futures::future::join_all;
use mux_proto::lnrpc::state_client::StateClient;
use mux_proto::lnrpc::{GetInfoResponse, GetStateRequest, WalletState};
use mux_raft::network::PeerChannel;
use std::sync::Arc;
use std::time::Duration;

/// How long `GetState` may take.
const STATE_DEADLINE: Duration = Duration::from_secs(3);

/// Connects to one front node, again and again: later connections resume the TLS sessions of earlier ones.
pub struct Dialer {
    config: FrontNodeConfig,
    network: String,
    net: Arc<dyn LndNet>,
    /// With their addresses.
    listeners: Vec<(String, Arc<dyn LndListener>)>,
}

impl Dialer {
    /// `network`: LND's name of the chain that the node must be on.
    #[must_use]
    pub fn new(config: FrontNodeConfig, network: &str, net: Arc<dyn LndNet>) -> Self {
        let endpoints = config.endpoints.iter();
        let listeners =
            endpoints.map(|endpoint| (endpoint.address.clone(), net.listener(endpoint))).collect();
        Self { network: network.to_owned(), config, net, listeners }
    }

    /// Connects to the endpoint that is active and lets the node through the gate.
    ///
    /// # Errors
    /// If no endpoint can be used: [`LndError::Refused`] if any gave one (it needs an operator), else the last reason.
    pub async fn connect(&self) -> Result<(LndClient, GetInfoResponse), LndError> {
        let attempts = self.listeners.iter().map(|(address, listener)| self.attach(address, &**listener));
        let mut worst = None;
        for outcome in join_all(attempts).await {
            match outcome {
                Ok(connected) => return Ok(connected),
                Err(error @ LndError::Refused(_)) => worst = Some(error),
                Err(error) => worst = worst.or(Some(error)),
            }
        }
        Err(worst.unwrap_or_else(|| LndError::Unreachable {
            endpoint: self.config.alias.clone(),
            reason: "no endpoint is configured".into(),
        }))
    }

    /// One endpoint: connect, see that it is active, check who it is.
    async fn attach(
        &self,
        address: &str,
        listener: &dyn LndListener,
    ) -> Result<(LndClient, GetInfoResponse), LndError> {
        let channel = listener.connect().await?;
        require_active(channel.clone(), address).await?;
        let FrontNodeConfig { macaroon, node, .. } = &self.config;
        let macaroon = Macaroon::read(&*self.net, macaroon).await?;
        let client = LndClient::new(channel, address, macaroon, *node, &self.network);
        let info = client.checked_info().await?;
        Ok((client, info))
    }
}

async fn require_active(channel: PeerChannel, address: &str) -> Result<(), LndError> {
    const CALL: &str = "GetState";
    let mut client = StateClient::new(channel);
    let call = tokio::time::timeout(STATE_DEADLINE, client.get_state(GetStateRequest {}));
    let answer = call.await.map_err(|_| LndError::Deadline {
        call: CALL,
        deadline_ms: u64::try_from(STATE_DEADLINE.as_millis()).unwrap_or(u64::MAX),
    })?;
    let state = answer.map_err(|status| LndError::from_status(CALL, address, &status))?.into_inner().state();
    match state {
        WalletState::RpcActive | WalletState::ServerActive => Ok(()),
        WalletState::NonExisting
        | WalletState::Locked
        | WalletState::Unlocked
        | WalletState::WaitingToStart => {
            Err(LndError::NotActive { endpoint: address.to_owned(), state: state.as_str_name() })
        }
    }
}
