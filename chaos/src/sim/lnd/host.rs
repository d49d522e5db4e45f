use super::peer::{Desk, SimPeer};
use crate::lndsim::core::Command;
use crate::lndsim::{Config, ConnId, Hosted, MemoryJournal};
use crate::payer::FrontPeer;
use crate::sim::host::{Ending, Host, HostClock, HostId};
use crate::sim::net::{ConnectionId, Network, Port};
use crate::sim::time::SimTime;
use crate::sim::trace::Column;
use mux_proto::lndsim::v1::{OpenChannelRequest, SetHeightRequest};
use mux_raft::clock::Clock as _;
use mux_raft::types::NodePubkey;
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The channel of each node by which forwards leave, with the node's money on it.
pub const FORWARD_CHANNEL: u64 = (700 << 40) | (9 << 16);

/// Satoshi on it.
const FORWARD_SAT: i64 = 100_000_000;

/// The chain's tip, which every node sees that runs. Clones share it.
#[derive(Clone, Debug)]
pub struct Chain(Arc<AtomicU32>);

impl Chain {
    /// The chain at this height.
    #[must_use]
    pub fn at(height: u32) -> Self {
        Self(Arc::new(AtomicU32::new(height)))
    }

    /// The tip's height.
    #[must_use]
    pub fn height(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// Blocks are found.
    pub fn grow(&self, blocks: u32) {
        self.0.fetch_add(blocks, Ordering::Relaxed);
    }

    /// The last blocks are not part of it any more.
    pub fn shrink(&self, blocks: u32) {
        self.0.fetch_sub(blocks, Ordering::Relaxed);
    }
}

/// A node that runs.
pub type Running = Arc<Hosted>;

/// A node's host, with the database that outlives its processes.
pub struct LndHost {
    host: Host,
    config: Config,
    journal: MemoryJournal,
    node: NodePubkey,
    macaroon: Vec<u8>,
    /// A second process waits at a second address; they change places at every start.
    standby: bool,
    starts: usize,
    chain: Chain,
    desk: Desk,
    running: Arc<Mutex<Option<Running>>>,
}

impl fmt::Debug for LndHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LndHost").field("alias", &self.config.alias).finish_non_exhaustive()
    }
}

impl LndHost {
    /// A node that is down and was never up.
    ///
    /// # Panics
    /// The name and the seed give no key, which they do for practically every seed.
    #[must_use]
    pub fn new(host: HostId, config: Config, standby: bool, chain: Chain, network: &Network) -> Self {
        let (pubkey, macaroon) = Hosted::identity(&config).expect("a hash is a secret key");
        let node = pubkey.parse().expect("a public key in hexadecimal");
        let this = Self {
            host: Host::new(host, network.clone()),
            journal: MemoryJournal::default(),
            node,
            macaroon,
            standby,
            starts: 0,
            chain,
            desk: Desk::default(),
            running: Arc::default(),
            config,
        };
        this.addresses().iter().for_each(|address| network.name(address, host));
        this
    }

    /// Its gRPC listeners: one, or that of its standby as well.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        (0..=usize::from(self.standby)).map(|at| format!("{}-{at}:10009", self.config.alias)).collect()
    }

    /// Its name.
    #[must_use]
    pub fn alias(&self) -> &str {
        &self.config.alias
    }

    /// Its identity.
    #[must_use]
    pub fn node(&self) -> NodePubkey {
        self.node
    }

    /// The macaroon that permits everything.
    #[must_use]
    pub fn macaroon(&self) -> &[u8] {
        &self.macaroon
    }

    /// Where it runs.
    #[must_use]
    pub fn host_id(&self) -> HostId {
        self.host.id()
    }

    /// Its column in the trace.
    #[must_use]
    pub fn column(&self) -> Column {
        self.host.id().0
    }

    /// For payers.
    #[must_use]
    pub fn peer(&self) -> Arc<dyn FrontPeer> {
        Arc::new(SimPeer::new(self.node, self.desk.clone()))
    }

    /// Whether there is a process.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.host.is_up()
    }

    /// Whether it stands still.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.host.is_paused()
    }

    /// It stands still, or goes on.
    pub fn pause(&mut self, paused: bool) {
        if paused { self.host.pause() } else { self.host.resume() }
    }

    /// The node, if it runs.
    #[must_use]
    pub fn running(&self) -> Option<Running> {
        self.running.lock().clone()
    }

    /// Starts a process with what the database holds.
    pub fn start(&mut self, now: SimTime) {
        let mut addresses = self.addresses();
        let active = self.starts % addresses.len();
        self.starts += 1;
        let start = Start {
            address: addresses.swap_remove(active),
            standby: addresses.pop(),
            config: self.config.clone(),
            journal: self.journal.clone(),
            chain: self.chain.clone(),
            desk: self.desk.clone(),
            running: Arc::clone(&self.running),
        };
        self.host.start(now, 0, |port, clock| start.run(port, clock));
    }

    /// Ends the process.
    pub fn end(&mut self, how: Ending) {
        // First what can still write: nothing is written after the end.
        let running = self.running.lock().take();
        self.desk.close();
        if let Some(running) = &running {
            running.kill();
        }
        self.host.crash(how);
    }

    /// Lets it run until a moment.
    pub fn step(&mut self, now: SimTime, until: SimTime) {
        self.host.step(now, until);
    }

    /// Does something to the node, in the next step, if it runs then.
    pub fn command(&self, command: Command) {
        if let Some(node) = self.running() {
            // What cannot be done at the moment is not done.
            self.host.spawn(async move { drop(node.command(command)) });
        }
    }
}

/// What a process does.
struct Start {
    address: String,
    /// Where the other one waits.
    standby: Option<String>,
    config: Config,
    journal: MemoryJournal,
    chain: Chain,
    desk: Desk,
    running: Arc<Mutex<Option<Running>>>,
}

impl Start {
    async fn run(self, port: Port, clock: HostClock) {
        let node = Hosted::start(&self.config, &self.journal, clock.wall_ms());
        // In memory nothing fails, and a panic is a violation.
        let node = Arc::new(node.expect("a node without files starts"));
        if node.state().channels.iter().all(|channel| channel.chan_id != FORWARD_CHANNEL) {
            let forward = OpenChannelRequest {
                chan_id: FORWARD_CHANNEL,
                capacity_sat: FORWARD_SAT,
                local_sat: FORWARD_SAT,
                ..OpenChannelRequest::default()
            };
            drop(node.command(Command::OpenChannel(forward)));
        }
        let height = self.chain.height();
        // Which may have lost blocks meanwhile.
        if height != node.state().chain.unwrap_or_default().tip_height {
            drop(node.command(Command::SetHeight(SetHeightRequest { height })));
        }
        port.listen(
            &self.address,
            node.routes(),
            Arc::new(|_, extensions| {
                if let Some(ConnectionId(id)) = extensions.get().copied() {
                    extensions.insert(ConnId(id));
                }
            }),
        );
        // Waits for the first to end, and says so.
        let waiting = Config { standby: true, ..self.config.clone() };
        let waiting = self.standby.map(|address| {
            let other = Hosted::start(&waiting, &MemoryJournal::default(), clock.wall_ms());
            let other = other.expect("a node without files starts");
            port.listen(&address, other.routes(), Arc::new(|_, _| ()));
            other
        });
        *self.running.lock() = Some(Arc::clone(&node));
        self.desk.open();
        self.desk.serve(&node).await;
        drop(waiting);
    }
}
