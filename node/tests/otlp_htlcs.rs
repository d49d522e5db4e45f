//! The life of HTLCs as spans at a collector: those of one payment share a trace, from the offer to the answer.

#![allow(clippy::unwrap_used, reason = "a test's support may panic like a test")]

mod link_support;
mod otlp_support;

use link_support::payments::{AMOUNT, CHANNEL, HEIGHT, SCID, TIME, TestScreener, hash, request};
use link_support::{FakeLnd, MACAROON, NODE, PATIENCE, until};
use mux_proto::lnrpc::Channel;
use mux_raft::local::LocalConsensus;
use mux_raft::machine::model::FrontNodePolicy;
use muxd::config::Config;
use muxd::init::{ClusterPlan, write_cluster};
use muxd::link::{LinkPhase, Links, LinksConfig};
use muxd::lnd::{EndpointConfig, FrontNodeConfig};
use muxd::telemetry::init_logs;
use opentelemetry_proto::tonic::trace::v1::Span;
use otlp_support::collect;
use std::sync::Arc;

/// Of two parts.
const SPLIT: u8 = 7;
const WHOLE: u8 = 8;

/// A link to a scripted LND.
async fn link(lnd: &FakeLnd, dir: &std::path::Path) -> (Links, link_support::Listener) {
    let listener = lnd.listen(dir, "tls.cert").await;
    std::fs::write(dir.join("macaroon"), MACAROON).unwrap();
    let config = LinksConfig {
        front_nodes: vec![FrontNodeConfig {
            node: NODE,
            alias: "fake".into(),
            endpoints: vec![EndpointConfig {
                address: listener.address.to_string(),
                tls_cert: dir.join("tls.cert").into(),
            }],
            macaroon: dir.join("macaroon"),
            zone: String::new(),
            policy: FrontNodePolicy { scid: SCID, fee_base_msat: 0, fee_ppm: 0, cltv_delta: 80 },
        }],
        network: "regtest".into(),
        ..LinksConfig::default()
    };
    let log = Arc::new(LocalConsensus::new(1, TIME));
    (Links::start(config, log as _, Arc::new(TestScreener::default()) as _), listener)
}

fn told(span: &Span) -> String {
    format!("{:?} {:?}", span.attributes, span.events)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_htlcs_of_a_payment_are_spans_of_its_trace_from_the_offer_to_the_answer() {
    let (address, mut spans) = collect().await;
    let dir = tempfile::tempdir().unwrap();
    let files = write_cluster(&ClusterPlan::loopback(dir.path().join("cluster"), 1)).unwrap();
    let settings = [
        format!("telemetry.otlp.endpoint=http://{address}"),
        "telemetry.otlp.sample_ratio=1.0".to_owned(),
        "log.filter=warn".to_owned(),
    ];
    let telemetry = init_logs(&Config::parse(&files.replicas[0].config, &settings).unwrap()).unwrap();
    let lnd = FakeLnd::new(HEIGHT);
    // Of a payment in parts every channel must be active.
    let active = Channel { active: true, chan_id: CHANNEL, ..Channel::default() };
    lnd.script.lock().channels = vec![active];
    let (links, _listener) = link(&lnd, dir.path()).await;
    until("the link is up", || links.status()[0].phase == LinkPhase::Up).await;

    let part = |index| {
        let mut part = request(SPLIT, index);
        (part.outgoing_amount_msat, part.incoming_amount_msat) = (AMOUNT / 2, AMOUNT / 2);
        part
    };
    lnd.offer(part(0));
    lnd.offer(request(WHOLE, 1));
    until("the whole one is settled", || lnd.actions().len() == 1).await;
    lnd.offer(part(2));
    until("all are settled", || lnd.actions().len() == 3).await;
    links.stop().await;
    tokio::task::spawn_blocking(|| telemetry.end()).await.unwrap();

    let mut all = Vec::new();
    let ended = async {
        while all.iter().filter(|span: &&Span| span.name == "htlc").count() < 3 {
            all.push(spans.recv().await.unwrap());
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.unwrap();
    while let Ok(span) = spans.try_recv() {
        all.push(span);
    }
    for (payment, htlcs) in [(SPLIT, 2), (WHOLE, 1)] {
        let id = &hash(payment).0[..16];
        let of_it = |name: &str| {
            all.iter().filter(|span| span.trace_id == id && span.name == name).collect::<Vec<_>>()
        };
        let (offered, screened) = (of_it("htlc"), of_it("screen"));
        assert_eq!((offered.len(), screened.len()), (htlcs, htlcs), "{all:#?}");
        for htlc in &offered {
            assert_eq!(
                htlc.parent_span_id,
                hash(payment).0[16..24],
                "the payment is what they have in common"
            );
            let told = told(htlc);
            assert!(told.contains("HTLC answered") && told.contains("settle"), "{told}");
            assert!(screened.iter().any(|screen| screen.parent_span_id == htlc.span_id));
            // Not its end: an HTLC may be answered by what is applied before its proposal hears that it is committed.
            let begin = |span: &Span| span.start_time_unix_nano;
            assert!(all.iter().all(|span| span.parent_span_id != htlc.span_id || begin(span) >= begin(htlc)));
        }
        // An entry may carry HTLCs of several payments: then it is in one trace, and linked to the others.
        let carries = |span: &&Span| {
            span.name == "htlcs_proposed"
                && (span.trace_id == id || span.links.iter().any(|link| link.trace_id == id))
        };
        assert!(all.iter().filter(carries).count() >= 1, "{all:#?}");
    }
    let secrets = [SPLIT, WHOLE].map(|payment| hex::encode([payment; 32]));
    let all = format!("{all:?}");
    assert!(!secrets.iter().any(|preimage| all.contains(preimage)), "no preimage is in them");
}
