//! Hosts with the toy service, driven as the world drives them.

use crate::toy::{self, Seen, Toy};
use mux_chaos::sim::host::{Ending, Host, HostClock, HostId};
use mux_chaos::sim::net::{ChannelSettings, Conditions, Network, Port, SimChannel};
use mux_chaos::sim::time::{SimTime, TICK};
use mux_chaos::sim::trace::Trace;
use mux_proto::mux::raft::v1::raft_transport_client::RaftTransportClient;
use parking_lot::Mutex;
use std::future::Future;
use std::sync::Arc;

pub(crate) const CLIENT: HostId = HostId(1);
pub(crate) const SERVER: HostId = HostId(2);
pub(crate) const ADDRESS: &str = "server:1";

pub(crate) type Client = RaftTransportClient<SimChannel>;

/// A client's host and a server's.
pub(crate) struct Bench {
    pub(crate) network: Network,
    pub(crate) trace: Trace,
    pub(crate) client: Host,
    pub(crate) server: Host,
    pub(crate) now: SimTime,
    pub(crate) seen: Seen,
    told: Arc<Mutex<Vec<String>>>,
}

/// Every message takes this long.
pub(crate) fn fixed(delay_ms: u64) -> Conditions {
    Conditions { delay_ms: delay_ms..=delay_ms, ..Conditions::default() }
}

impl Bench {
    pub(crate) fn new(seed: u64, conditions: Conditions) -> Self {
        let trace = Trace::new(["client".to_owned(), "server".to_owned()], 0);
        let network = Network::new(seed, conditions, trace.clone());
        network.name(ADDRESS, SERVER);
        let (client, server) = (Host::new(CLIENT, network.clone()), Host::new(SERVER, network.clone()));
        let mut bench = Self {
            network,
            trace,
            client,
            server,
            now: SimTime::ZERO,
            seen: Seen::default(),
            told: Arc::default(),
        };
        bench.client.start(bench.now, 0, |_, _| async {});
        bench.start_server();
        bench
    }

    pub(crate) fn start_server(&mut self) {
        let seen = self.seen.clone();
        self.server.start(self.now, 0, |port, clock| async move {
            port.listen(ADDRESS, toy::routes(Toy { seen, clock }), Arc::new(|_, _| {}));
        });
    }

    /// Runs something at the client. What it says is kept, with the time in milliseconds.
    pub(crate) fn at_client<F: Future<Output = String> + Send>(
        &self,
        task: impl FnOnce(Client) -> F + Send + 'static,
    ) {
        let port = self.client.port().unwrap();
        self.at_client_by(SimChannel::new(port.clone(), ADDRESS, ChannelSettings::REPLICAS), task);
    }

    /// The same by a channel that is shared.
    pub(crate) fn at_client_by<F: Future<Output = String> + Send>(
        &self,
        channel: SimChannel,
        task: impl FnOnce(Client) -> F + Send + 'static,
    ) {
        let (told, clock) = (Arc::clone(&self.told), self.client.clock().unwrap().clone());
        self.client.spawn(async move {
            let text = task(Client::new(channel)).await;
            told.lock().push(format!("{}: {text}", clock.now().as_ms()));
        });
    }

    pub(crate) fn channel(&self) -> SimChannel {
        SimChannel::new(self.client.port().unwrap().clone(), ADDRESS, ChannelSettings::REPLICAS)
    }

    pub(crate) fn run_until(&mut self, ms: u64) {
        while self.now < SimTime::from_ms(ms) {
            let until = self.now + TICK;
            self.network.tick(self.now, until);
            self.client.step(self.now, until);
            self.server.step(self.now, until);
            self.now = until;
        }
    }

    /// What was said at the client, with the time.
    pub(crate) fn told(&self) -> Vec<String> {
        self.told.lock().clone()
    }

    /// The time of the only thing that was said, and what it was.
    pub(crate) fn only(&self) -> (u64, String) {
        let told = self.told();
        assert_eq!(told.len(), 1, "{told:?}");
        let (at, text) = told[0].split_once(": ").unwrap();
        (at.parse().unwrap(), text.to_owned())
    }

    pub(crate) fn end_server(&mut self, how: Ending) {
        self.server.crash(how);
    }
}

/// A single host without a network to speak of.
pub(crate) fn lone_host<F: Future<Output = ()> + Send + 'static>(
    main: impl FnOnce(Port, HostClock) -> F,
) -> Host {
    let trace = Trace::new(["host".to_owned()], 0);
    let mut host = Host::new(CLIENT, Network::new(1, Conditions::default(), trace));
    host.start(SimTime::ZERO, 0, main);
    host
}
