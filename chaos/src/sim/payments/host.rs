use super::Payments;
use super::play::Player;
use super::{books, fresh};
use crate::cluster::ReplicaClient;
use crate::nemesis::clients::watcher::Watcher;
use crate::nemesis::clients::{Clients, application, roster::Roster};
use crate::payer::{FrontPeer, Patience, Payer};
use crate::sim::host::{Host, HostId};
use crate::sim::net::{ChannelSettings, KeepAlive, Network, Port, SimChannel};
use crate::sim::random;
use crate::sim::time::SimTime;
use mux_proto::mux::v1::Settings;
use mux_raft::network::PeerChannel;
use rand::Rng as _;
use rand::rngs::StdRng;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A patient client's connection to the API.
const API: ChannelSettings = ChannelSettings {
    connect_timeout: Duration::from_secs(2),
    client: KeepAlive { interval: Duration::from_secs(10), timeout: Duration::from_secs(5) },
    server: KeepAlive { interval: Duration::from_secs(10), timeout: Duration::from_secs(5) },
};

/// So that a run sees sets that time out.
const MPP_TIMEOUT_MS: u64 = 8_000;
const ACCEPT_TIMEOUT_MS: u64 = 12_000;

/// Before a call that came to nothing is repeated.
const TRY_AGAIN: Duration = Duration::from_millis(200);

/// Payments under way at a time, at most.
const UNDER_WAY_MAX: usize = 12;

/// The host of payers and applications.
pub struct PaymentsHost {
    host: Host,
    payments: Payments,
    replicas: Vec<(u64, String)>,
}

impl fmt::Debug for PaymentsHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PaymentsHost").finish_non_exhaustive()
    }
}

impl PaymentsHost {
    /// Begins to pay through these nodes, and to use the replicas at these addresses.
    #[must_use]
    pub fn start(
        (id, network): (HostId, &Network),
        now: SimTime,
        payments: &Payments,
        peers: Vec<Arc<dyn FrontPeer>>,
        replicas: Vec<(u64, String)>,
    ) -> Self {
        let mut host = Host::new(id, network.clone());
        let main = Main { payments: payments.clone(), peers, replicas: replicas.clone() };
        host.start(now, 0, |port, _| main.run(port));
        Self { host, payments: payments.clone(), replicas }
    }

    /// Lets it run until a moment.
    pub fn step(&mut self, now: SimTime, until: SimTime) {
        self.host.step(now, until);
    }

    /// Asks all replicas for all invoices that were paid; see [`Payments::take_books`].
    pub fn ask_for_books(&self) {
        let (payments, replicas) = (self.payments.clone(), self.replicas.clone());
        let Some(port) = self.host.port().cloned() else { return };
        self.host.spawn(async move {
            let clients = replicas.iter().map(|(id, address)| (*id, client(&port, address)));
            books::take(&payments, clients.collect()).await;
        });
    }
}

impl PaymentsHost {
    /// Nothing is wrong any more: something must be paid over each of these nodes; see [`Payments::paid_afresh`].
    pub fn pay_afresh(&self, peers: Vec<Arc<dyn FrontPeer>>) {
        let Some(port) = self.host.port().cloned() else { return };
        let count = peers.len();
        for (number, peer) in peers.into_iter().enumerate() {
            // Every replica makes an invoice, every node gets one.
            let mut replicas: Vec<_> = self.replicas.iter().skip(number).step_by(count).collect();
            if replicas.is_empty() {
                replicas.extend(self.replicas.get(number % self.replicas.len().max(1)));
            }
            let clients = replicas.into_iter().map(|(_, address)| client(&port, address)).collect();
            let rng = random::stream(self.payments.shared.seed, &format!("fresh {number}"));
            let paid = fresh::pay(self.payments.clone(), clients, peer, rng);
            self.host.spawn(paid);
        }
    }
}

struct Main {
    payments: Payments,
    peers: Vec<Arc<dyn FrontPeer>>,
    replicas: Vec<(u64, String)>,
}

/// A client of the replica whose API is at this address.
fn client(port: &Port, address: &str) -> ReplicaClient {
    ReplicaClient::over(PeerChannel::new(SimChannel::new(port.clone(), address, API)))
}

impl Main {
    async fn run(self, port: Port) {
        let shared = Arc::clone(&self.payments.shared);
        let seed = shared.seed;
        let api = |(id, address): &(u64, String)| (*id, client(&port, address));
        let clients: Vec<(u64, ReplicaClient)> = self.replicas.iter().map(api).collect();
        let roster = Roster::of(clients);
        let mut rng = random::stream(seed, "payments");
        configure(&roster, shared.plan.auto_settle, &mut rng).await;
        let (first, accepted) = Watcher::start("application", roster.clone(), None, rng.random());
        let (second, _) = Watcher::start("subscriber", roster.clone(), None, rng.random());
        shared.watchers.lock().extend([first, second]);
        let clients = Clients {
            roster,
            history: shared.history.clone(),
            known: Arc::clone(&shared.known),
            auto_settle: shared.plan.auto_settle,
            shown: Arc::clone(&shared.problems),
            over: shared.over.subscribe(),
        };
        tokio::spawn(application::run(clients.clone(), accepted, rng.random()));
        let patience = Patience {
            attempts_per_part: 12,
            backoff: Duration::from_millis(200),
            backoff_max: Duration::from_secs(4),
            retry_for: Duration::from_secs(20),
            give_up_after: Duration::from_secs(3_600),
        };
        let payer = Payer::new(self.peers, Arc::clone(&shared.ledger), patience, rng.random());
        let player = Player::new(self.payments, clients, payer);
        pay_for_ever(&player, &mut rng).await;
    }
}

/// The cluster's settings, made at any replica as soon as there is a leader.
async fn configure(roster: &Roster, auto_settle: bool, rng: &mut StdRng) {
    let settings = Settings {
        auto_settle: Some(auto_settle),
        mpp_timeout_ms: Some(MPP_TIMEOUT_MS),
        accept_timeout_ms: Some(ACCEPT_TIMEOUT_MS),
        ..Settings::default()
    };
    while roster.any(rng).update_settings(settings).await.is_err() {
        tokio::time::sleep(TRY_AGAIN).await;
    }
}

async fn pay_for_ever(player: &Player, rng: &mut StdRng) {
    loop {
        let pause = random::interval(rng, player.pause());
        tokio::time::sleep(pause).await;
        if player.is_over() {
            // What is under way has tasks of its own.
            return std::future::pending().await;
        }
        if player.under_way() < UNDER_WAY_MAX {
            player.begin(rng);
        }
    }
}
