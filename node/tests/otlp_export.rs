//! Spans reach a collector, in the trace of the caller; and a collector that is gone costs nothing else.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "api_calls/server.rs"]
mod server;

mod otlp_support;

use mux_proto::mux::v1::AddInvoiceRequest;
use muxd::config::Config;
use muxd::telemetry::init_logs;
use otlp_support::collect;
use server::{DEADLINE, Server, Setup};
use tonic::Request;

const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_a_span_in_its_callers_trace() {
    let (address, mut spans) = collect().await;
    let server = Server::start(Setup::default()).await;
    let settings = [
        format!("telemetry.otlp.endpoint=http://{address}"),
        "telemetry.otlp.sample_ratio=0.0".to_owned(),
        "log.filter=warn".to_owned(),
    ];
    let config = Config::parse(&server.files.replicas[0].config, &settings).unwrap();
    let telemetry = init_logs(&config).unwrap();

    let mut invoices = server.invoices().await;
    server.add(2_000).await;
    let mut request = Request::new(AddInvoiceRequest { amount_msat: 1_000, ..Default::default() });
    let header = format!("00-{TRACE_ID}-{CALLER}-01");
    request.metadata_mut().insert("traceparent", header.parse().unwrap());
    let added = invoices.add_invoice(request).await.unwrap().into_inner();
    tokio::task::spawn_blocking(|| telemetry.end()).await.unwrap();

    let span = tokio::time::timeout(DEADLINE, spans.recv()).await.unwrap().unwrap();
    assert_eq!((span.name.as_str(), hex::encode(&span.trace_id).as_str()), ("api_call", TRACE_ID));
    assert_eq!(hex::encode(&span.parent_span_id), CALLER);
    let told = format!("{span:?}");
    assert!(told.contains("InvoiceService/AddInvoice"), "{told}");
    assert!(told.contains(&hex::encode(&added.hash)), "{told}");
    assert!(!told.contains(&added.payment_request), "{told}");
    let links: Vec<_> = span.links.iter().map(|link| &link.trace_id[..]).collect();
    assert_eq!(links, [&added.hash[..16]], "it shows the way to the payment's HTLCs");
    assert!(spans.try_recv().is_err(), "with a share of 0 only what callers ask for is sent");
}
