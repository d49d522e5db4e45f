//! What operators see of a cluster of real processes: logs, traces, pages, and no secret in any of them.

#![allow(clippy::unwrap_used, clippy::panic)] // test code, outside of test functions

mod e2e_support;
#[path = "../../node/tests/otlp_support/mod.rs"]
mod otlp_support;

use e2e_support::{SOON, World};
use mux_chaos::{
    cluster::{fetch, until},
    demo::Job,
    ledger::Expectation,
    payer::{Deviation, PaymentPlan},
};
use mux_proto::mux::v1::{
    AddInvoiceRequest, InvoiceState, Settings, SettleInvoiceRequest,
    invoice_service_client::InvoiceServiceClient,
};
use muxd::telemetry::{CATALOGUE, Kind};
use opentelemetry_proto::tonic::{
    common::v1::{KeyValue, any_value::Value},
    trace::v1::Span,
};
use std::{collections::BTreeSet, io::Write as _};
use tonic::{
    Request,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
/// Of the caller.
const SPAN_ID: &str = "00f067aa0ba902b7";

/// Metrics that a short and happy life does not bring forth. Counters are not asked for: they begin with the first
/// thing that they count.
const SILENT: [&str; 2] = ["mux_archive_", "mux_snapshot_"];

impl World {
    fn log(&self, at: usize) -> String {
        std::fs::read_to_string(self.cluster.replicas[at].process.log()).unwrap()
    }

    fn lines(&self, at: usize, words: &[&str]) -> Vec<String> {
        let log = self.log(at);
        let fits = |line: &&str| words.iter().all(|word| line.contains(word));
        log.lines().filter(fits).map(ToOwned::to_owned).collect()
    }

    /// Names of all metrics that any replica shows.
    async fn shown(&self) -> BTreeSet<String> {
        let mut seen = BTreeSet::new();
        for replica in &self.cluster.replicas {
            let page = String::from_utf8(fetch(replica.metrics, "/metrics").await.unwrap()).unwrap();
            seen.extend(page.lines().filter_map(series));
        }
        seen
    }

    async fn invoices(&self, at: usize) -> InvoiceServiceClient<Channel> {
        let cert = Certificate::from_pem(std::fs::read(&self.cluster.tls_cert).unwrap());
        let tls = ClientTlsConfig::new().ca_certificate(cert).domain_name("localhost");
        let address = format!("https://{}", self.cluster.replicas[at].grpc);
        let endpoint = Endpoint::from_shared(address).unwrap().tls_config(tls).unwrap();
        InvoiceServiceClient::new(endpoint.connect().await.unwrap())
    }

    fn traced<T>(&self, message: T, traceparent: &str) -> Request<T> {
        let mut request = Request::new(message);
        let macaroon = hex::encode(std::fs::read(&self.cluster.macaroon).unwrap());
        request.metadata_mut().insert("macaroon", macaroon.parse().unwrap());
        request.metadata_mut().insert("traceparent", traceparent.parse().unwrap());
        request
    }

    async fn add_traced(&self, at: usize, traceparent: String) {
        let message = AddInvoiceRequest { amount_msat: 1_000, ..Default::default() };
        self.invoices(at).await.add_invoice(self.traced(message, &traceparent)).await.unwrap();
    }

    /// The leader and one that does not lead.
    async fn leader_and_follower(&self) -> (usize, usize) {
        let leader = self.cluster.replicas[0].client.status().await.unwrap().leader;
        let leader = usize::try_from(leader).unwrap() - 1;
        (leader, (0..3).find(|at| *at != leader).unwrap())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_call_is_found_in_the_logs_of_the_replicas_that_served_it_and_a_payment_has_one_line() {
    let mut world = World::start(|_| {}).await;
    let (leader, follower) = world.leader_and_follower().await;

    world.step("the trace id of a call stands in the logs of the replica called and of the leader");
    world.add_traced(follower, format!("00-{TRACE_ID}-{SPAN_ID}-01")).await;
    let told = until("both replicas tell of the call", SOON, || async {
        let own = world.lines(follower, &[TRACE_ID, "call answered"]);
        let forwarded = world.lines(leader, &[TRACE_ID, "committed a proposal of another replica"]);
        (!own.is_empty() && !forwarded.is_empty()).then_some((own, forwarded))
    });
    let (own, forwarded) = told.await.unwrap();
    assert!(own[0].contains("InvoiceService/AddInvoice") && own[0].contains("payment_hash="), "{own:?}");
    assert!(forwarded[0].contains("term=") && forwarded[0].contains("index="), "{forwarded:?}");
    assert!(world.lines(3 - leader - follower, &[TRACE_ID]).is_empty(), "the third has no part in it");

    world.step("a call whose caller does not ask for it is not told at level info");
    let unsampled = TRACE_ID.replace('4', "5");
    world.add_traced(follower, format!("00-{unsampled}-00f067aa0ba902b7-00")).await;
    world.add_traced(follower, format!("00-{}-00f067aa0ba902b7-01", TRACE_ID.replace('4', "6"))).await;
    assert!((0..3).all(|at| world.lines(at, &[&unsampled]).is_empty()));

    world.step("a settled payment has one line in all logs together");
    let (text, hash) = world.invoice(600_000).await;
    world.pay_well(PaymentPlan::new("three parts", text, 3)).await;
    world.wait_state(hash, InvoiceState::Settled).await;
    let hash = hash.to_string();
    let lines: Vec<_> = (0..3).flat_map(|at| world.lines(at, &[&hash])).collect();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    for field in ["payment_hash=", "circuit_key=[", "parts=3", "term=", "index=", "payment settles"] {
        assert!(lines[0].contains(field), "{field}: {}", lines[0]);
    }

    world.step("every metric shown is in the catalogue with its labels, and every one is shown");
    until("every metric is shown", SOON, || async {
        let seen = world.shown().await;
        let mut asked =
            CATALOGUE.iter().filter(|metric| metric.kind != Kind::Counter).map(|metric| metric.name);
        let silent = |name: &str| SILENT.iter().any(|silent| name.starts_with(silent));
        asked.all(|name| seen.contains(name) || silent(name)).then_some(())
    })
    .await
    .unwrap();
    let known = |name: &str| CATALOGUE.iter().any(|metric| metric.name == name);
    let unknown: Vec<_> = world.shown().await.into_iter().filter(|name| !known(name)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    for replica in &world.cluster.replicas {
        until("it is ready", SOON, || async {
            let page = fetch(replica.metrics, "/readyz?verbose").await.ok()?;
            let page = String::from_utf8(page).ok()?;
            (page.contains("[+]quorum ok") && page.ends_with("ready\n")).then_some(())
        })
        .await
        .unwrap();
    }
    world.reckon().await;
}

/// The metric's name in a line of the page, after a look at its labels.
fn series(line: &str) -> Option<String> {
    if line.starts_with('#') || !(line.starts_with("mux_") || line.starts_with("process_")) {
        return None;
    }
    let (series, _) = line.rsplit_once(' ')?;
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    let exact = CATALOGUE.iter().find(|metric| metric.name == name);
    let of_histogram = || {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part))?;
        CATALOGUE.iter().find(|metric| metric.name == base)
    };
    let Some(metric) = exact.or_else(of_histogram) else { return Some(name.to_owned()) };
    let given = labels.split("\",").filter_map(|label| Some(label.split_once('=')?.0));
    for label in given.filter(|label| *label != "le") {
        assert!(metric.labels.contains(&label), "{line}");
    }
    Some(metric.name.to_owned())
}

/// A number among the attributes of a span or of an event.
fn number(attributes: &[KeyValue], name: &str) -> Option<i64> {
    let value = attributes.iter().find(|pair| pair.key == name)?.value.as_ref()?.value.as_ref()?;
    match value {
        Value::IntValue(number) => Some(*number),
        // What may not fit into 63 bits.
        Value::StringValue(text) => text.parse().ok(),
        _ => None,
    }
}

/// Where in the log a span's events of this name say that they are, `(term, index)`.
fn place(span: &Span, event: &str) -> Option<(i64, i64)> {
    let event = span.events.iter().find(|told| told.name == event)?;
    Some((number(&event.attributes, "term")?, number(&event.attributes, "index")?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_traced_wish_to_settle_is_followed_to_its_decision_and_to_the_htlcs() {
    let (collector, mut spans) = otlp_support::collect().await;
    let mut world = World::start(|options| {
        options.settings.push(("telemetry.otlp.endpoint".into(), format!("\"http://{collector}\"")));
        options.settings.push(("telemetry.otlp.sample_ratio".into(), "1.0".into()));
    })
    .await;
    let by_hand = Settings { auto_settle: Some(false), ..Settings::default() };
    world.cluster.replicas[0].client.update_settings(by_hand).await.unwrap();
    let (text, hash) = world.invoice(600_000).await;
    let paying = world.begin(PaymentPlan::new("held", text, 2));
    world.wait_state(hash, InvoiceState::Accepted).await;

    world.step("an application settles, by way of a replica that does not lead");
    let (leader, follower) = world.leader_and_follower().await;
    let wish = SettleInvoiceRequest { hash: hash.0.to_vec().into(), ..Default::default() };
    let wish = world.traced(wish, &format!("00-{TRACE_ID}-{SPAN_ID}-01"));
    world.invoices(follower).await.settle_invoice(wish).await.unwrap();
    paying.await.unwrap();
    world.wait_state(hash, InvoiceState::Settled).await;
    let hash_told = hash.to_string();
    let decision = world.lines(leader, &[&hash_told, "payment settles"]).remove(0);

    world.step(
        "its spans lead from the call to the leader's entry, and to the HTLCs that were answered by it",
    );
    let payment = &hash.0[..16];
    let mut all = Vec::new();
    let told = async {
        let complete = |all: &[Span]| {
            let of_call = |name: &str| {
                all.iter().any(|span| span.name == name && hex::encode(&span.trace_id) == TRACE_ID)
            };
            let htlcs = all.iter().filter(|span| span.name == "htlc" && span.trace_id == payment).count();
            htlcs == 2 && ["api_call", "proposal", "forwarded_proposal"].iter().all(|name| of_call(name))
        };
        while !complete(&all) {
            all.push(spans.recv().await.unwrap());
        }
    };
    tokio::time::timeout(SOON, told).await.unwrap_or_else(|_| panic!("{all:#?}"));
    let named = |name: &str, parent: &str| {
        let of_it = |span: &&Span| hex::encode(&span.trace_id) == TRACE_ID && span.name == name;
        let found = all.iter().filter(of_it).find(|span| hex::encode(&span.parent_span_id) == parent);
        found.unwrap_or_else(|| panic!("no {name} under {parent}: {all:#?}"))
    };
    let call = named("api_call", SPAN_ID);
    assert!(format!("{call:?}").contains("InvoiceService/SettleInvoice"), "{call:#?}");
    let proposal = named("proposal", &hex::encode(&call.span_id));
    let forwarded = named("forwarded_proposal", &hex::encode(&proposal.span_id));
    let source = i64::try_from(world.cluster.replicas[follower].id).unwrap();
    assert_eq!(number(&forwarded.attributes, "replica"), Some(source), "{forwarded:#?}");
    let decided = place(call, "proposal committed and applied").unwrap_or_else(|| panic!("{call:#?}"));
    let (term, index) = decided;
    assert!(decision.contains(&format!("term={term} index={index}")), "{decision} is not at {decided:?}");
    assert!(call.links.iter().any(|link| link.trace_id == payment), "{call:#?}");
    for htlc in all.iter().filter(|span| span.name == "htlc" && span.trace_id == payment) {
        assert_eq!(place(htlc, "HTLC answered"), Some(decided), "{htlc:#?}");
    }
    world.reckon().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_most_talkative_level_no_secret_is_told() {
    // Everything that is compiled in, down to the libraries.
    let filter = "trace,openraft=debug,sled=debug".to_owned();
    let mut world =
        World::start(|options| options.settings.push(("log.filter".into(), format!("{filter:?}")))).await;
    world.step("payments that settle, stored and stateless");
    for stored in [true, false] {
        world.load.run(Job::Pay { stored, open_amount: false, parts: 2 }).await.unwrap();
    }
    world.step("an invoice that is cancelled, and payments that fail");
    let (text, hash) = world.invoice(70_000).await;
    world.cluster.replicas[1].client.cancel(hash, "").await.unwrap();
    world.pay(PaymentPlan::new("cancelled", text, 1).expecting(Expectation::Any)).await;
    world.load.run(Job::Cheat(Deviation::WrongSecret)).await.unwrap();
    world.load.run(Job::Cheat(Deviation::AlreadyPaid)).await.unwrap();

    world.step("every replica wrote for debugging, and nothing of it is a secret");
    for at in 0..3 {
        let (trace, debug) = (world.lines(at, &[" TRACE "]), world.lines(at, &[" DEBUG ", "muxd"]));
        assert!(trace.len() > 100 && debug.len() > 1, "{} {}", trace.len(), debug.len());
    }
    let answered: usize = (0..3).map(|at| world.lines(at, &["HTLC answered", "circuit_key="]).len()).sum();
    assert!(answered >= 4, "{answered}");
    let report = world.cluster.look_for_leaks().await.unwrap();
    println!("{} secrets in {} bytes, {} pages", report.secrets, report.bytes, report.pages);
    if !report.violations.is_empty() {
        world.cluster.keep_files();
        panic!("files in {}: {:#?}", world.cluster.dir().display(), report.violations);
    }
    assert!(report.preimages >= 4 && report.secrets > report.preimages + 15, "{report:?}");
    assert!(report.bytes > 200_000, "{report:?}");

    world.step("a secret in a log is found");
    let (text, _) = world.invoice(50_000).await;
    let log = world.cluster.replicas[2].process.log().to_owned();
    writeln!(std::fs::OpenOptions::new().append(true).open(log).unwrap(), "{text}").unwrap();
    let found = world.cluster.look_for_leaks().await.unwrap().violations;
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].evidence.contains("the text of invoice"), "{found:?}");
}
