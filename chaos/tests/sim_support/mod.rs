//! What a replica and simulated LNDs need to live in one thread: a network without sockets, a disk in memory, a clock
//! that follows tokio's.

#![allow(dead_code, unreachable_pub, missing_docs)] // each test binary uses a part of it
#![allow(clippy::unwrap_used)] // test code, outside of test functions

use async_trait::async_trait;
use mux_chaos::lndsim::ConnId;
use mux_raft::{
    clock::Clock,
    network::{ChannelError, Lane, Net, PeerChannel},
    store::{Change, Engine, EngineError, Identity, Loaded, Mark, OpenEngine, Record},
    types::ReplicaId,
};
use muxd::lnd::{EndpointConfig, LndError, LndListener, LndNet};
use parking_lot::Mutex;
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::time::{Instant, sleep, timeout};
use tonic::{ConnectError, Status, body::Body, service::Routes};
use tower::Service as _;

/// Simulated time in which anything happens that happens at all.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// One way, of the first message of a call.
const LATENCY: Duration = Duration::from_millis(1);

/// Runs this on one thread, without sockets, in time that passes only when nothing else can happen. Fails if the
/// runtime had to start a thread.
pub fn simulate<T>(body: impl Future<Output = T>) -> T {
    let threads = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&threads);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .on_thread_start(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        })
        .build()
        .unwrap();
    let result = runtime.block_on(body);
    assert_eq!(threads.load(Ordering::Relaxed), 0, "threads were started");
    result
}

/// Waits until a condition holds.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "never: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Fails the test rather than to wait for ever.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("it takes too long")
}

/// Who listens at which address. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Wires {
    listening: Arc<Mutex<BTreeMap<String, Routes>>>,
    /// By the name of their files.
    macaroons: Arc<Mutex<BTreeMap<PathBuf, Vec<u8>>>>,
    connections: Arc<AtomicU64>,
}

impl Wires {
    pub fn listen(&self, address: &str, routes: Routes) {
        self.listening.lock().insert(address.to_owned(), routes);
    }

    pub fn give_macaroon(&self, file: &str, macaroon: &[u8]) {
        self.macaroons.lock().insert(file.into(), macaroon.to_vec());
    }

    /// A connection of its own.
    pub fn channel(&self, address: &str) -> PeerChannel {
        let connection = ConnId(self.connections.fetch_add(1, Ordering::Relaxed));
        let (listening, address) = (Arc::clone(&self.listening), address.to_owned());
        PeerChannel::new(tower::service_fn(move |mut request: http::Request<Body>| {
            request.extensions_mut().insert(connection);
            let (listening, address) = (Arc::clone(&listening), address.clone());
            async move {
                sleep(LATENCY).await;
                let routes = listening.lock().get(&address).cloned();
                let refused = || ChannelError::new(ConnectError("nobody listens".into()));
                routes.ok_or_else(refused)?.call(request).await.map_err(ChannelError::new)
            }
        }))
    }
}

/// To LNDs.
#[async_trait]
impl LndNet for Wires {
    fn listener(&self, endpoint: &EndpointConfig) -> Arc<dyn LndListener> {
        Arc::new(Wire { address: endpoint.address.clone(), wires: self.clone() })
    }

    async fn macaroon(&self, file: &Path) -> io::Result<Vec<u8>> {
        self.macaroons.lock().get(file).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

struct Wire {
    address: String,
    wires: Wires,
}

#[async_trait]
impl LndListener for Wire {
    async fn connect(&self) -> Result<PeerChannel, LndError> {
        Ok(self.wires.channel(&self.address))
    }
}

/// To other replicas, of which there are none.
#[derive(Debug)]
pub struct Alone;

impl Net for Alone {
    fn channel(&self, target: ReplicaId, _: &str, _: Lane) -> Result<PeerChannel, Status> {
        Err(Status::unavailable(format!("there is no replica {target}")))
    }
}

/// Follows tokio's time.
#[derive(Clone, Copy)]
pub struct TokioClock(Instant);

impl TokioClock {
    pub fn new() -> Self {
        Self(Instant::now())
    }
}

impl Clock for TokioClock {
    fn wall_ms(&self) -> u64 {
        1_700_000_000_000 + u64::try_from(self.0.elapsed().as_millis()).unwrap()
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

/// A log's disk. Clones share it.
#[derive(Clone, Default)]
pub struct MemoryLog(Arc<Mutex<Content>>);

#[derive(Default)]
struct Content {
    records: BTreeMap<u64, Record>,
    marks: BTreeMap<Mark, Vec<u8>>,
}

impl OpenEngine for MemoryLog {
    fn open(&self, _: &Path, _: Identity) -> Result<(Box<dyn Engine>, Loaded), EngineError> {
        let content = self.0.lock();
        let records = content.records.values().cloned().collect();
        let marks = content.marks.iter().map(|(mark, bytes)| (*mark, bytes.clone())).collect();
        Ok((Box::new(self.clone()), Loaded { store_id: [1; 16], records, marks }))
    }
}

impl Engine for MemoryLog {
    fn write(&mut self, changes: &[Change]) -> Result<(), EngineError> {
        let mut content = self.0.lock();
        for change in changes.iter().cloned() {
            match change {
                Change::Put(record) => drop(content.records.insert(record.index, record)),
                Change::Delete { index, .. } => drop(content.records.remove(&index)),
                Change::Mark(mark, bytes) => drop(content.marks.insert(mark, bytes)),
            }
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), EngineError> {
        Ok(())
    }
}
