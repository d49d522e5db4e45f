use std::{path::Path, sync::Arc};

use mux_proto::{
    chainrpc::chain_notifier_server::ChainNotifierServer,
    lndsim::v1::{self as ctl, Power, control_server::ControlServer},
    lnrpc::{lightning_server::LightningServer, state_server::StateServer},
    routerrpc::router_server::RouterServer,
};
use tokio_util::task::AbortOnDropHandle;
use tonic::service::Routes;

use super::{
    super::core::{Command, Core, HtlcKey, Input, Rejected, Reply, Settings},
    chain_notifier::ChainNotifierService,
    config::Config,
    control::ControlService,
    faulty::OnConnections,
    identity,
    journal::{Journal, MemoryJournal, Place},
    lightning::LightningService,
    macaroon::Macaroons,
    node::{EVENTS_FEW, EVENTS_MAX, Node},
    router::RouterService,
    running::StartError,
    state::StateService,
    tls::Tls,
};

/// A node without sockets. Dropping it kills it, as [`Self::kill`] does: what is in the journal stays.
pub struct Hosted {
    pub(super) node: Arc<Node>,
    identity_pubkey: String,
    _timers: AbortOnDropHandle<()>,
}

impl Hosted {
    /// Starts a node in the current runtime, whose time it goes by; without threads, files or sockets, and without
    /// randomness of its own: what the configuration says of those is ignored. `unix_ms`: what the wall clock says now.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(config: &Config, journal: &MemoryJournal, unix_ms: u64) -> Result<Self, StartError> {
        let macaroons = Macaroons::of_seed(config.seed);
        let pubkey = identity::new_pubkey(&config.alias, config.seed)?;
        let place = Place::Memory(journal.clone());
        let hosted = Self::open(config, pubkey, (macaroons, None), place, unix_ms.saturating_mul(1_000))?;
        hosted.turn_on(config)?;
        Ok(hosted)
    }

    /// With the key, macaroons and certificate in a directory. Nobody is served before [`Self::turn_on`].
    pub(super) fn in_dir(
        config: &Config,
        dir: &Path,
        tls: Arc<Tls>,
        unix_us: u64,
    ) -> Result<Self, StartError> {
        let pubkey = identity::load_or_create(dir, &config.alias, config.seed)?;
        let macaroons = Macaroons::load_or_create(dir)?;
        Self::open(config, pubkey, (macaroons, Some(tls)), Place::Dir(dir.to_owned()), unix_us)
    }

    /// The node out of its journal, with the channels a new one gets.
    fn open(
        config: &Config,
        identity_pubkey: String,
        (macaroons, tls): (Macaroons, Option<Arc<Tls>>),
        place: Place,
        unix_us: u64,
    ) -> Result<Self, StartError> {
        let settings = Settings::new(&config.alias, &identity_pubkey, &config.network);
        let records = place.read()?;
        let new = records.is_empty();
        // Not the same random numbers after every restart.
        let seed = config.seed.wrapping_add(records.len() as u64);
        let core = Core::start(settings, config.height, records, seed);
        let journal = if config.ephemeral { Journal::None } else { place.create(core.dump())? };
        let on_ports = tls.is_some();
        let events_max = if on_ports { EVENTS_MAX } else { EVENTS_FEW };
        let node = Node::new(core, journal, macaroons, tls, unix_us, events_max);
        let node =
            if on_ports { node } else { node.with_keepalive(config.ping_interval + config.ping_timeout) };
        let node = Arc::new(node);
        for _ in 0..if new { config.channels } else { 0 } {
            let channel = ctl::OpenChannelRequest {
                capacity_sat: i64::try_from(config.channel_capacity_sat).unwrap_or(i64::MAX),
                max_accepted_htlcs: config.max_accepted_htlcs,
                ..ctl::OpenChannelRequest::default()
            };
            node.apply(Input::Command(Box::new(Command::OpenChannel(channel))))?;
        }
        let _timers = AbortOnDropHandle::new(tokio::spawn(Arc::clone(&node).run_timers()));
        Ok(Self { node, identity_pubkey, _timers })
    }

    /// Starts the node's services, unless it is a standby.
    pub(super) fn turn_on(&self, config: &Config) -> Result<(), StartError> {
        let power = if config.standby { Power::WaitingToStart } else { Power::ServerActive };
        self.command(Command::SetWalletState(ctl::SetWalletStateRequest { power: power.into() }))?;
        Ok(())
    }

    /// LND's services. A call that has a [`ConnId`](super::ConnId) among its extensions belongs to that connection: it
    /// ends, or gets no further, with the others of it, when a control resets or stalls the connection. One without is
    /// a connection of its own. While the node is down all calls are UNAVAILABLE. A stalled connection is reset when
    /// LND's keepalive would have found out, or when all its calls are dropped.
    #[must_use]
    pub fn routes(&self) -> Routes {
        let on_connections = OnConnections { node: Arc::clone(&self.node) };
        self.services().into_axum_router().layer(on_connections).into()
    }

    /// The same over connections that the node does not have to watch itself.
    pub(super) fn services(&self) -> Routes {
        Routes::new(LightningServer::new(LightningService { node: Arc::clone(&self.node) }))
            .add_service(RouterServer::new(RouterService { node: Arc::clone(&self.node) }))
            .add_service(ChainNotifierServer::new(ChainNotifierService { node: Arc::clone(&self.node) }))
            .add_service(StateServer::new(StateService { node: Arc::clone(&self.node) }))
    }

    /// The controls (`lndsim.v1.Control`).
    #[must_use]
    pub fn control_routes(&self) -> Routes {
        Routes::new(ControlServer::new(ControlService { node: Arc::clone(&self.node) }))
    }

    /// Hexadecimal.
    #[must_use]
    pub fn identity_pubkey(&self) -> &str {
        &self.identity_pubkey
    }

    /// The macaroon that permits everything.
    #[must_use]
    pub fn macaroon(&self) -> &[u8] {
        self.node.macaroons.admin()
    }

    /// A control, without gRPC.
    ///
    /// # Errors
    /// The request was not carried out.
    pub fn command(&self, command: Command) -> Result<Reply, Rejected> {
        self.node.apply(Input::Command(Box::new(command)))
    }

    /// Who a node with this configuration is, and the macaroon that permits everything, whether it was started or not.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn identity(config: &Config) -> Result<(String, Vec<u8>), StartError> {
        let pubkey = identity::new_pubkey(&config.alias, config.seed)?;
        Ok((pubkey, Macaroons::of_seed(config.seed).admin().to_vec()))
    }

    /// The outcomes after the first `known` ones.
    #[must_use]
    pub fn outcomes_since(&self, known: usize) -> Vec<ctl::Outcome> {
        self.node.read(|core| core.outcomes_since(known).iter().map(ctl::Outcome::from).collect())
    }

    /// An HTLC of its books.
    #[must_use]
    pub fn htlc(&self, chan_id: u64, htlc_id: u64) -> Option<ctl::HtlcEntry> {
        self.node.read(|core| core.htlc(HtlcKey { chan_id, htlc_id }))
    }

    /// `GetState`, without gRPC.
    #[must_use]
    pub fn state(&self) -> ctl::GetStateResponse {
        self.node.read(Core::state)
    }

    /// `GetLedger`, without gRPC.
    #[must_use]
    pub fn ledger(&self) -> ctl::GetLedgerResponse {
        self.node.read(Core::ledger)
    }

    /// Returns when a control or the core made the condition true.
    pub async fn wait_for(&self, mut condition: impl FnMut(&Core) -> bool) {
        let mut changed = self.node.changed.subscribe();
        while !self.node.read(&mut condition) {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// The end of the process, as SIGKILL would bring it.
    pub fn kill(&self) {
        self.node.kill();
    }
}

impl Drop for Hosted {
    fn drop(&mut self) {
        self.kill();
    }
}
