//! The plain HTTP pages, over a real socket.

#![allow(clippy::unwrap_used, reason = "a test's support may panic like a test")]

use mux_raft::consensus::{Consensus as _, RaftStatus};
use mux_raft::local::LocalConsensus;
use mux_raft::machine::Command;
use mux_raft::machine::model::FrontNodePolicy;
use mux_raft::types::NodePubkey;
use muxd::server::{HttpServer, Readiness, router};
use muxd::telemetry::{Sampler, install_metrics};
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

const NOW_MS: u64 = 1_700_000_000_000;

/// Nothing here takes that long unless it hangs.
const DEADLINE: Duration = Duration::from_secs(20);

/// There is one recorder in a process.
static METRICS: LazyLock<metrics_exporter_prometheus::PrometheusHandle> =
    LazyLock::new(|| install_metrics().unwrap());

struct Pages {
    readiness: Arc<Readiness>,
    raft: watch::Sender<RaftStatus>,
    server: HttpServer,
}

struct Page {
    code: u16,
    head: String,
    body: String,
}

impl Pages {
    /// Of a replica whose consensus runs but has seen nobody yet.
    async fn start() -> Self {
        let readiness = Arc::new(Readiness::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = HttpServer::start(listener, router(Arc::clone(&readiness), METRICS.clone())).unwrap();
        let (raft, status) = watch::channel(RaftStatus { id: 1, ..RaftStatus::default() });
        readiness.watch_raft(status);
        Self { readiness, raft, server }
    }

    fn quorum(&self, quorum: bool) {
        self.raft.send_modify(|raft| {
            raft.quorum = quorum;
            raft.leader = quorum.then_some(2);
        });
    }

    async fn get(&self, path: &str) -> Page {
        tokio::time::timeout(DEADLINE, get(self.server.address(), path)).await.unwrap()
    }
}

async fn get(address: SocketAddr, path: &str) -> Page {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: replica\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let code = head.split(' ').nth(1).unwrap().parse().unwrap();
    Page { code, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

#[tokio::test]
async fn a_replica_without_a_quorum_is_alive_and_one_that_stopped_is_not() {
    let pages = Pages::start().await;
    assert_eq!(pages.get("/livez").await.code, 200, "before it has found anybody");
    pages.readiness.set_serving();
    pages.quorum(true);
    pages.quorum(false);
    let page = pages.get("/livez").await;
    assert_eq!((page.code, page.body.as_str()), (200, "ok\n"));
    assert_eq!(pages.get("/readyz").await.code, 503, "but gets no work");
    pages.raft.send_modify(|raft| raft.fatal = Some("the disk is gone".into()));
    let page = pages.get("/livez").await;
    assert_eq!(page.code, 503);
    assert!(page.body.contains("the disk is gone"), "{}", page.body);
}

#[tokio::test]
async fn readyz_names_its_reasons_and_lists_all_checks_when_asked() {
    let pages = Pages::start().await;
    let page = pages.get("/readyz").await;
    assert_eq!(page.code, 503);
    for reason in ["[-]api failed", "[-]leader failed", "[-]quorum failed", "[+]consensus ok"] {
        assert!(page.body.contains(reason), "{reason} in {}", page.body);
    }
    assert!(page.body.ends_with("\nnot ready\n"), "{}", page.body);
    pages.readiness.set_serving();
    pages.quorum(true);
    let page = pages.get("/readyz").await;
    assert_eq!((page.code, page.body.as_str()), (200, "ok\n"));
    let page = pages.get("/readyz?verbose").await;
    assert_eq!(page.code, 200);
    for check in ["not-draining", "api", "consensus", "leader", "quorum", "applied"] {
        assert!(page.body.contains(&format!("[+]{check} ok: ")), "{check} in {}", page.body);
    }
    assert!(page.body.ends_with("\nready\n"), "{}", page.body);
    pages.readiness.drain();
    let page = pages.get("/readyz").await;
    assert_eq!(page.code, 503);
    assert!(page.body.contains("[-]not-draining failed"), "{}", page.body);
    assert_eq!(pages.get("/livez").await.code, 200, "it stops in order");
}

#[tokio::test]
async fn every_metric_shown_says_what_it_means() {
    let pages = Pages::start().await;
    let log = LocalConsensus::new(1, NOW_MS);
    let policy = FrontNodePolicy { scid: 1, fee_base_msat: 0, fee_ppm: 0, cltv_delta: 80 };
    log.commit(Command::PutFrontNode { node: NodePubkey([2; 33]), alias: "alice".into(), policy }, None);
    Sampler::default().sample(|reader| log.state().read(|state| reader(state)), NOW_MS);
    let page = pages.get("/metrics").await;
    assert_eq!(page.code, 200);
    assert!(page.head.contains("content-type: text/plain; version=0.0.4"), "{}", page.head);
    let shown: Vec<&str> = page.body.lines().collect();
    for line in ["mux_htlc_held{node=\"alice\"} 0", "mux_htlc_min_blocks_to_deadline{node=\"alice\"} inf"] {
        assert!(shown.iter().any(|other| other.eq_ignore_ascii_case(line)), "{line} in {}", page.body);
    }
    let types = shown.iter().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let types: Vec<&str> = types.collect();
    assert!(types.contains(&"mux_build_info") && types.contains(&"mux_sets"), "{types:?}");
    for name in types {
        let help = format!("# HELP {name} ");
        assert!(shown.iter().any(|line| line.starts_with(&help)), "{name} is not described: {}", page.body);
    }
}

#[tokio::test]
async fn other_pages_are_not_there() {
    let pages = Pages::start().await;
    assert_eq!(pages.get("/").await.code, 404);
    let address = pages.server.address();
    tokio::time::timeout(DEADLINE, pages.server.stop()).await.unwrap();
    assert!(TcpStream::connect(address).await.is_err(), "stopped");
}
