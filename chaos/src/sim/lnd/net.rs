use crate::sim::net::{ChannelSettings, KeepAlive, Port, SimChannel};
use async_trait::async_trait;
use mux_raft::network::PeerChannel;
use muxd::lnd::{EndpointConfig, LndError, LndListener, LndNet};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// As in node/src/lnd/tls_net.rs, and with the flags that README asks of LND.
const SETTINGS: ChannelSettings = ChannelSettings {
    connect_timeout: Duration::from_secs(5),
    client: KeepAlive { interval: Duration::from_secs(10), timeout: Duration::from_secs(5) },
    server: KeepAlive { interval: Duration::from_secs(5), timeout: Duration::from_secs(5) },
};

/// How a replica reaches LND nodes from its host.
#[derive(Clone, Debug)]
pub struct SimLnds {
    port: Port,
    macaroons: Arc<BTreeMap<PathBuf, Vec<u8>>>,
}

impl SimLnds {
    /// From this host, with these macaroons by the name of their files.
    #[must_use]
    pub fn new(port: Port, macaroons: Arc<BTreeMap<PathBuf, Vec<u8>>>) -> Self {
        Self { port, macaroons }
    }
}

#[async_trait]
impl LndNet for SimLnds {
    fn listener(&self, endpoint: &EndpointConfig) -> Arc<dyn LndListener> {
        Arc::new(Listener { port: self.port.clone(), address: endpoint.address.clone() })
    }

    async fn macaroon(&self, file: &Path) -> io::Result<Vec<u8>> {
        self.macaroons.get(file).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

struct Listener {
    port: Port,
    address: String,
}

#[async_trait]
impl LndListener for Listener {
    async fn connect(&self) -> Result<PeerChannel, LndError> {
        Ok(PeerChannel::new(SimChannel::new(self.port.clone(), &self.address, SETTINGS)))
    }
}
