//! A whole replica (consensus, links, API) and two simulated LNDs in one thread, without sockets and real time.

#![allow(clippy::unwrap_used)] // test code, outside of test functions

mod sim_support;

use mux_chaos::{
    ledger::{Ledger, PaymentEnd, PaymentId},
    lndsim::{Config as LndConfig, Hosted, MemoryJournal},
    payer::{FrontPeer, LndPeer, Patience, Payer, PaymentPlan},
};
use mux_proto::{
    lndsim::v1::HtlcEntry,
    mux::v1::{
        AddInvoiceRequest, AddInvoiceResponse, GetInvoiceRequest, InvoiceState, Settings,
        SettleInvoiceRequest, UpdateSettingsRequest, cluster_service_client::ClusterServiceClient,
        invoice_service_client::InvoiceServiceClient,
    },
};
use mux_raft::{
    archive::MemoryArchive,
    blocking::{Blocking, Work},
    clock::Clock as _,
    consensus::Consensus,
    network::PeerChannel,
    replica::{Replica, Wiring},
};
use muxd::{
    NodeWiring,
    config::Config,
    keys::{ClusterKeys, ClusterSeed},
    link::LinkPhase,
    server::{Node, NodeConfig, Readiness, replica_config},
};
use sim_support::{Alone, MemoryLog, TokioClock, Wires, eventually, simulate, soon};
use std::{fmt::Write as _, path::Path, sync::Arc, time::Duration};
use tempfile::TempDir;

const ALIASES: [&str; 2] = ["alice", "bob"];
const ALICE: usize = 0;

/// How long a sync of the log takes.
const SYNC: Duration = Duration::from_millis(2);

const AMOUNT_MSAT: u64 = 50_000;

/// An LND that can be killed and started again.
struct Lnd {
    config: LndConfig,
    journal: MemoryJournal,
    running: Hosted,
}

impl Lnd {
    fn start(alias: &str, (wires, clock): (&Wires, TokioClock)) -> Self {
        let config = LndConfig { seed: 7, ..LndConfig::new(alias) };
        let journal = MemoryJournal::default();
        let running = Hosted::start(&config, &journal, clock.wall_ms()).unwrap();
        let lnd = Self { config, journal, running };
        lnd.serve(wires);
        lnd
    }

    /// All that is not in the journal is lost.
    fn restart(&mut self, (wires, clock): (&Wires, TokioClock)) {
        self.running.kill();
        self.running = Hosted::start(&self.config, &self.journal, clock.wall_ms()).unwrap();
        self.serve(wires);
    }

    fn serve(&self, wires: &Wires) {
        let alias = &self.config.alias;
        wires.listen(&format!("{alias}:10009"), self.running.routes());
        wires.listen(&format!("{alias}:control"), self.running.control_routes());
        wires.give_macaroon(&format!("{alias}.macaroon"), self.running.macaroon());
    }

    fn htlcs(&self) -> Vec<HtlcEntry> {
        let ledger = self.running.ledger();
        assert!(ledger.complaints.is_empty(), "{:?}", ledger.complaints);
        ledger.htlcs
    }
}

struct World {
    wires: Wires,
    clock: TokioClock,
    lnds: Vec<Lnd>,
    replica: Arc<Replica>,
    node: Node,
    payer: Payer,
    _dir: TempDir,
}

impl World {
    async fn start() -> Self {
        let (wires, clock, dir) = (Wires::default(), TokioClock::new(), TempDir::new().unwrap());
        let lnds: Vec<Lnd> = ALIASES.iter().map(|alias| Lnd::start(alias, (&wires, clock))).collect();
        let keys = Arc::new(ClusterKeys::derive(&ClusterSeed::from_bytes([9; 32])));
        let config = configuration(&lnds, dir.path());
        let takes = |work| if work == Work::LogSync { SYNC } else { Duration::ZERO };
        let blocking = Blocking::inline(takes);
        let wiring = Wiring {
            net: Some(Arc::new(Alone)),
            blocking: blocking.clone(),
            clock: Arc::new(clock),
            engine: Arc::new(MemoryLog::default()),
            archive: Arc::new(Arc::new(MemoryArchive::default())),
            ..Wiring::default()
        };
        let replica = Replica::start_with(replica_config(&config, &keys), wiring).await.unwrap();
        let consensus = Arc::clone(&replica) as Arc<dyn Consensus>;
        let wiring = NodeWiring { lnd: Arc::new(wires.clone()), blocking, clock: Arc::new(clock) };
        let of_node = NodeConfig::of(&config, &keys);
        let node = Node::start(of_node, keys, consensus, Arc::new(Readiness::default()), wiring);
        let node = Box::pin(node).await.unwrap();
        wires.listen("api", node.routes());
        let mut peers: Vec<Arc<dyn FrontPeer>> = Vec::new();
        for alias in ALIASES {
            let controls = wires.channel(&format!("{alias}:control"));
            peers.push(Arc::new(LndPeer::over(controls).await.unwrap()));
        }
        let payer = Payer::new(peers, Arc::new(Ledger::default()), Patience::default(), 1);
        let world = Self { wires, clock, lnds, replica, node, payer, _dir: dir };
        world.both_links_up().await;
        world
    }

    async fn both_links_up(&self) {
        eventually("both links are up, and their channels known", || {
            let links = self.node.links().status();
            let up = links.iter().filter(|link| link.phase == LinkPhase::Up);
            up.filter(|link| link.receivable_msat.is_some()).count() == ALIASES.len()
        })
        .await;
        let healthy = || self.replica.state().read(|state| state.healthy_front_nodes().count());
        eventually("both LNDs are healthy", || healthy() == ALIASES.len()).await;
    }

    fn invoices(&self) -> InvoiceServiceClient<PeerChannel> {
        InvoiceServiceClient::new(self.wires.channel("api"))
    }

    async fn add(&self) -> AddInvoiceResponse {
        let request = AddInvoiceRequest { amount_msat: AMOUNT_MSAT, ..AddInvoiceRequest::default() };
        soon(self.invoices().add_invoice(request)).await.unwrap().into_inner()
    }

    async fn state_of(&self, invoice: &AddInvoiceResponse) -> InvoiceState {
        let request = GetInvoiceRequest { hash: invoice.hash.clone(), consistency: 0 };
        let answer = soon(self.invoices().get_invoice(request)).await.unwrap().into_inner();
        answer.invoice.unwrap().state()
    }

    async fn until(&self, invoice: &AddInvoiceResponse, wanted: InvoiceState) {
        soon(async {
            while self.state_of(invoice).await != wanted {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }

    /// In two parts, one through each LND.
    fn pay(&self, invoice: &AddInvoiceResponse) -> impl Future<Output = PaymentId> + Send + use<> {
        let plan = PaymentPlan::new("two parts", &invoice.payment_request, ALIASES.len());
        let payer = self.payer.clone();
        async move { payer.pay(&plan).await.unwrap() }
    }

    fn end_of(&self, payment: PaymentId) -> Vec<PaymentEnd> {
        self.payer.ledger().payment(payment).ends
    }

    async fn hold(&self) {
        let settings = Settings { auto_settle: Some(false), ..Settings::default() };
        let request = UpdateSettingsRequest { settings: Some(settings) };
        let mut cluster = ClusterServiceClient::new(self.wires.channel("api"));
        soon(cluster.update_settings(request)).await.unwrap();
    }

    async fn stop(self) {
        self.node.stop().await;
        self.replica.shutdown().await;
    }
}

/// Of a cluster of one. No file that it names is there.
fn configuration(lnds: &[Lnd], dir: &Path) -> Config {
    let mut text = format!(
        r#"
        [cluster]
        name = "mux"
        network = "regtest"
        seed_file = "nowhere"
        replica_id = 1
        initial_members = {{ 1 = "replica-1:7401" }}
        [raft]
        listen = "192.0.2.1:1"
        tls_ca = "nowhere"
        tls_cert = "nowhere"
        tls_key = "nowhere"
        data_dir = "{}"
        [api]
        listen = "192.0.2.1:2"
        tls_cert = "nowhere"
        tls_key = "nowhere"
        auth = "none"
        "#,
        dir.display()
    );
    for Lnd { config, running, .. } in lnds {
        let (alias, pubkey) = (&config.alias, running.identity_pubkey());
        write!(
            text,
            r#"
            [[front_nodes]]
            pubkey = "{pubkey}"
            alias = "{alias}"
            macaroon = "{alias}.macaroon"
            endpoints = [{{ address = "{alias}:10009", tls_cert = "nowhere" }}]
            "#
        )
        .unwrap();
    }
    toml::from_str(&text).unwrap()
}

#[test]
fn a_whole_replica_and_its_lnds_take_payments_in_one_thread_without_sockets() {
    simulate(async {
        let mut world = World::start().await;

        let invoice = world.add().await;
        let payment = soon(world.pay(&invoice)).await;
        assert_eq!(world.end_of(payment), [PaymentEnd::Settled]);
        world.until(&invoice, InvoiceState::Settled).await;
        for lnd in &world.lnds {
            let htlcs = lnd.htlcs();
            assert!(htlcs.len() == 1 && htlcs[0].node_paid, "{htlcs:?}");
        }

        // Held at both; one of them forgets everything but its database, and offers its part again.
        world.hold().await;
        let invoice = world.add().await;
        let paying = tokio::spawn(world.pay(&invoice));
        world.until(&invoice, InvoiceState::Accepted).await;
        let (wires, clock) = (world.wires.clone(), world.clock);
        world.lnds[ALICE].restart((&wires, clock));
        let settle = SettleInvoiceRequest { hash: invoice.hash.clone(), ..SettleInvoiceRequest::default() };
        soon(world.invoices().settle_invoice(settle)).await.unwrap();
        let payment = soon(paying).await.unwrap();
        assert_eq!(world.end_of(payment), [PaymentEnd::Settled]);
        world.until(&invoice, InvoiceState::Settled).await;
        let offers: Vec<u32> = world.lnds.iter().map(|lnd| lnd.htlcs()[1].offers).collect();
        assert_eq!(offers, [2, 1], "one was offered again");
        assert!(world.lnds.iter().all(|lnd| lnd.htlcs()[1].node_paid));
        world.stop().await;
    });
}
