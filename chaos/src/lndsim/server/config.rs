use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// How a simulated node is started.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where key, certificate, macaroons and journal are kept; `None`: a temporary directory.
    pub dir: Option<PathBuf>,
    /// Name; with the seed it determines a new node's key.
    pub alias: String,
    /// LND's port, TLS. With port 0 a node that was here before takes its old port, if it is free.
    pub listen: SocketAddr,
    /// The controls, plaintext; loopback only.
    pub control: SocketAddr,
    /// As in `GetInfo`.
    pub network: String,
    /// Of a new node's chain.
    pub height: u32,
    /// Of everything random.
    pub seed: u64,
    /// Channels that a new node is given, all money on the peer's side.
    pub channels: u32,
    /// Size of each, in satoshi.
    pub channel_capacity_sat: u64,
    /// HTLCs each can carry at a time.
    pub max_accepted_htlcs: u32,
    /// `--grpc.server-ping-time`: a connection idle for this long is pinged.
    pub ping_interval: Duration,
    /// `--grpc.server-ping-timeout`: one that does not answer for this long is dead.
    pub ping_timeout: Duration,
    /// Do not start the node's services yet: it stays in WAITING_TO_START until a control changes that.
    pub standby: bool,
    /// Write no journal: for load. A node that is killed comes back without its channels and HTLCs.
    pub ephemeral: bool,
}

impl Config {
    /// A regtest node with one channel, on free ports.
    #[must_use]
    pub fn new(alias: &str) -> Self {
        Self {
            dir: None,
            alias: alias.to_owned(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            control: SocketAddr::from(([127, 0, 0, 1], 0)),
            network: "regtest".to_owned(),
            height: 800,
            seed: 0,
            channels: 1,
            channel_capacity_sat: 1_000_000_000,
            max_accepted_htlcs: 483,
            ping_interval: Duration::from_secs(5),
            ping_timeout: Duration::from_secs(5),
            standby: false,
            ephemeral: false,
        }
    }
}
