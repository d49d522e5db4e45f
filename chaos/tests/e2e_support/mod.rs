//! A running cluster with a payer and a ledger, for the end-to-end tests.

#![allow(dead_code, unreachable_pub)] // each test binary uses a part of it
#![allow(clippy::unwrap_used, clippy::panic)] // test code, outside of test functions

pub mod payments;

use mux_chaos::{
    cluster::{Cluster, ClusterOptions, Executable, Said, until},
    demo::Load,
    ledger::{
        Expectation, Ledger, LndView, PaymentEnd, PaymentRecord,
        check::{Violation, check},
    },
    payer::{Patience, PaymentPlan},
};
use mux_proto::{
    lndsim::v1::{HtlcEntry, MineBlocksRequest, SetStageLimitRequest, Stage},
    mux::v1::{Invoice, InvoiceState},
};
use mux_raft::types::PaymentHash;
use std::{sync::Arc, time::Duration};
use tokio::task::JoinHandle;

/// What must happen soon.
pub const SOON: Duration = Duration::from_secs(20);

/// `muxcli`: unavailable, nothing happened.
pub const UNAVAILABLE: Option<i32> = Some(4);

/// What counts as a small lag of a replica, entries.
const LAG_MAX: u64 = 200;

/// The first and the second LND node.
pub const ALICE: usize = 0;
/// See [`ALICE`].
pub const BOB: usize = 1;

/// See the [module](self).
pub struct World {
    pub cluster: Cluster,
    pub load: Load,
    pub ledger: Arc<Ledger>,
    began: std::time::Instant,
}

impl World {
    pub async fn start(change: impl FnOnce(&mut ClusterOptions)) -> Self {
        let began = std::time::Instant::now();
        let mut options = ClusterOptions::new(Executable::at(env!("CARGO_BIN_EXE_demo")));
        change(&mut options);
        let cluster = Cluster::start(options).await.unwrap();
        let ledger = Arc::new(Ledger::default());
        let load = Load::new(&cluster, ledger.clone(), Patience::default(), 1).await.unwrap();
        Self { cluster, load, ledger, began }
    }

    /// From now on applications know the replicas that there are now.
    pub async fn reload(&mut self) {
        self.load = Load::new(&self.cluster, self.ledger.clone(), Patience::default(), 2).await.unwrap();
    }

    /// Tells where the test is, so that a failure has a name.
    pub fn step(&self, rule: &str) {
        println!("{:6.1} s  {rule}", self.began.elapsed().as_secs_f64());
    }

    /// A stored invoice: its text and its hash.
    pub async fn invoice(&self, amount_msat: u64) -> (String, PaymentHash) {
        let invoice = self.load.invoice(amount_msat, true, 0).await.unwrap();
        (invoice.payment_request, PaymentHash::try_from(invoice.hash.as_ref()).unwrap())
    }

    pub async fn pay(&self, plan: PaymentPlan) -> PaymentRecord {
        let id = self.load.payer().pay(&plan).await.unwrap();
        self.ledger.payment(id)
    }

    /// What an operator types at a replica's machine: `muxcli --config <its muxd.toml> <arguments>`. It must be done,
    /// if not at once then when there is a leader; returns the result.
    pub async fn cli(&self, at: usize, arguments: &[&str]) -> String {
        let began = std::time::Instant::now();
        loop {
            let said = self.said(at, arguments).await;
            if said.code == UNAVAILABLE && began.elapsed() < SOON {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
            assert!(said.done(), "{arguments:?}: {said:?}");
            return said.out;
        }
    }

    /// Drains a replica, as soon as the others can do without it.
    pub async fn drain(&self, at: usize) {
        until("it is drained", SOON, || async {
            let said = self.said(at, &["drain"]).await;
            // On a busy machine one that has just answered may not be heard for a moment.
            let not_yet = said.code == UNAVAILABLE || said.err.contains("has no quorum");
            assert!(said.done() || not_yet, "{said:?}");
            said.done().then_some(())
        })
        .await
        .unwrap();
    }

    /// The same, however it ends.
    pub async fn said(&self, at: usize, arguments: &[&str]) -> Said {
        self.cluster.muxcli(at, arguments).await.unwrap()
    }

    /// The result as a program reads it.
    pub async fn json(&self, at: usize, arguments: &[&str]) -> serde_json::Value {
        let out = self.cli(at, &[arguments, &["--json"]].concat()).await;
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
    }

    /// Waits as README tells to: until `muxcli member list` shows so many, all up with small lags.
    pub async fn wait_members(&self, at: usize, count: usize) {
        let mut seen = serde_json::Value::Null;
        let began = std::time::Instant::now();
        while began.elapsed() < SOON {
            let said = self.said(at, &["member", "list", "--json"]).await;
            if said.done() {
                seen = serde_json::from_str(&said.out).unwrap();
                let members = seen["members"].as_array().unwrap();
                let well = |member: &serde_json::Value| {
                    member["reachable"] == true
                        && member["leaving"] == false
                        && member["voter"] == true
                        && member["lag_entries"].as_u64().is_some_and(|lag| lag <= LAG_MAX)
                };
                if members.len() == count && members.iter().all(well) {
                    return;
                }
            }
        }
        panic!("not {count} members that are up: {seen:#}");
    }

    /// The place of a replica that is up.
    pub fn any(&mut self) -> usize {
        self.cluster.replicas.iter_mut().position(mux_chaos::cluster::Replica::is_up).unwrap()
    }

    /// Pays, and it must settle.
    pub async fn pay_well(&self, plan: PaymentPlan) -> PaymentRecord {
        let record = self.pay(plan).await;
        assert_eq!(record.ends, [PaymentEnd::Settled], "{record:?}");
        record
    }

    /// Pays in the background.
    pub fn begin(&self, plan: PaymentPlan) -> JoinHandle<PaymentRecord> {
        let (payer, ledger) = (self.load.payer().clone(), self.ledger.clone());
        tokio::spawn(async move {
            let id = payer.pay(&plan).await.unwrap();
            ledger.payment(id)
        })
    }

    /// Waits until a replica that is up says so.
    pub async fn wait_state(&mut self, hash: PaymentHash, state: InvoiceState) -> Invoice {
        let up = self
            .cluster
            .replicas
            .iter_mut()
            .filter_map(|replica| replica.is_up().then(|| replica.client.clone()));
        let up: Vec<_> = up.collect();
        until(&format!("{hash} is {state:?}"), SOON, || async {
            for client in &up {
                if let Ok(Some(invoice)) = client.invoice(hash).await
                    && invoice.state() == state
                {
                    return Some(invoice);
                }
            }
            None
        })
        .await
        .unwrap()
    }

    /// The HTLCs of a hash in one LND's books.
    pub async fn htlcs(&self, lnd: usize, hash: PaymentHash) -> Vec<HtlcEntry> {
        let LndView { htlcs, .. } = self.cluster.lnds[lnd].books().await.unwrap();
        htlcs.into_iter().filter(|htlc| htlc.payment_hash.as_ref() == hash.0).collect()
    }

    /// Waits until an LND has an HTLC of this hash that fits.
    pub async fn wait_htlc(
        &self,
        lnd: usize,
        hash: PaymentHash,
        fits: impl Fn(&HtlcEntry) -> bool,
    ) -> HtlcEntry {
        until("the HTLC is as it should be", SOON, || async {
            self.htlcs(lnd, hash).await.into_iter().find(|htlc| fits(htlc))
        })
        .await
        .unwrap_or_else(|error| panic!("{error}"))
    }

    /// Answers at this LND get no further than this.
    pub async fn limit(&self, lnd: usize, limit: Stage) {
        let request = SetStageLimitRequest { chan_id: 0, limit: limit.into(), release_after_ms: 0 };
        self.cluster.lnds[lnd].control().set_stage_limit(request).await.unwrap();
    }

    /// Blocks are found: every node sees them.
    pub async fn mine(&self, blocks: u32) {
        for lnd in &self.cluster.lnds {
            lnd.control().mine_blocks(MineBlocksRequest { blocks }).await.unwrap();
        }
    }

    /// Everything comes to rest, and everybody's books agree.
    pub async fn reckon(self) {
        self.reckon_but(|_| false).await;
    }

    /// The same, but for what is excused.
    pub async fn reckon_but(mut self, excused: impl Fn(&Violation) -> bool) {
        let payments = self.ledger.snapshot();
        let books = self.cluster.take_books(&payments, Duration::from_secs(60)).await.unwrap();
        let mut violations = check(&payments, &books);
        violations.retain(|violation| !excused(violation));
        if !violations.is_empty() {
            self.cluster.keep_files();
            panic!("files in {}: {violations:#?}", self.cluster.dir().display());
        }
        for payment in &payments {
            let settled = payment.ends == [PaymentEnd::Settled];
            assert!(payment.order.expect != Expectation::Settle || settled, "{payment:?}");
        }
    }
}
