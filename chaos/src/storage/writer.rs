//! The child that writes until something happens to it.

use super::ledger::{Line, hash_of, text_of};
use mux_raft::consensus::Consensus as _;
use mux_raft::machine::command::{CancelScope, NewInvoice};
use mux_raft::machine::model::{InvoiceKind, InvoiceTerms};
use mux_raft::machine::{Command, Reply};
use mux_raft::network::{Lane, Net, PeerChannel};
use mux_raft::replica::{Replica, ReplicaConfig, SnapshotConfig, StartError, Timing, TlsPaths, Wiring};
use mux_raft::types::{Msat, PaymentSecret, ReplicaId};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tonic::Status;

/// Proposals at a time.
const PROPOSERS: usize = 12;

/// Far away: nothing expires meanwhile.
const EXPIRES_IN_MS: u64 = 365 * 24 * 3_600_000;

/// How long an only replica may take to lead.
pub(super) const LEADS: Duration = Duration::from_secs(20);

/// Snapshots all the time: most of what may go wrong is here.
pub(super) const SNAPSHOTS: SnapshotConfig =
    SnapshotConfig { logs_since_last: 150, keep_logs: 100, purge_batch: 30 };

/// None at all, so that nothing of the log becomes free, and its file grows.
const NO_SNAPSHOTS: SnapshotConfig =
    SnapshotConfig { logs_since_last: 10_000_000, keep_logs: 10_000_000, purge_batch: 30 };

/// Where the log of the replica with its files below this directory is.
pub(super) fn log_of(dir: &Path) -> PathBuf {
    dir.join("data/log/db")
}

/// A cluster of one reaches nobody.
#[derive(Debug)]
struct Alone;

impl Net for Alone {
    fn channel(&self, target: ReplicaId, _: &str, _: Lane) -> Result<PeerChannel, Status> {
        Err(Status::unavailable(format!("there is no replica {target}")))
    }
}

/// Starts the only replica of a cluster, with all its files below this directory.
pub(super) async fn start(dir: &Path, snapshot: SnapshotConfig) -> Result<Arc<Replica>, StartError> {
    let none = Path::new("");
    let config = ReplicaConfig {
        cluster_id: [0x57; 32],
        id: 1,
        data_dir: dir.join("data"),
        listen: ([127, 0, 0, 1], 0).into(),
        initial_members: BTreeMap::from([(1, "nowhere:1".to_owned())]),
        tls: TlsPaths {
            ca: none.into(),
            cert: none.into(),
            key: none.into(),
            domain: TlsPaths::DEFAULT_DOMAIN.into(),
        },
        timing: Timing::default(),
        snapshot,
        wall_offset_ms: 0,
    };
    Replica::start_with(config, Wiring { net: Some(Arc::new(Alone)), ..Wiring::default() }).await
}

/// Waits until it leads, and returns the term.
pub(super) async fn led(replica: &Replica) -> Option<u64> {
    let mut status = replica.status();
    let leads = status.wait_for(|status| status.leads);
    Some(tokio::time::timeout(LEADS, leads).await.ok()?.ok()?.term)
}

/// A panic at a point would be reported; a thread that never goes on is not.
fn stop_at(point: String, nth: u64) {
    let met = AtomicU64::new(0);
    mux_raft::fault::on_threads_without(Some(Arc::new(move |name| {
        if name == point && met.fetch_add(1, Ordering::SeqCst) + 1 == nth {
            say(format_args!("point {name}"));
            loop {
                std::thread::park();
            }
        }
    })));
}

fn say(what: std::fmt::Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    // The parent is gone: so is this child, soon.
    let _ = writeln!(out, "{what}").and_then(|()| out.flush());
}

/// From now on no file may get longer than the log's is now and so many bytes: a write that goes beyond is short, the next
/// one refused (EFBIG).
fn limit(dir: &Path, more: u64) -> std::io::Result<u64> {
    // Its signal would end the process instead. Once there is a handler, it stays.
    let ignored = SignalKind::from_raw(Signal::XFSZ.as_raw());
    drop(signal(ignored)?);
    let limit = std::fs::metadata(log_of(dir))?.len() + more;
    setrlimit(Resource::Fsize, Rlimit { current: Some(limit), ..getrlimit(Resource::Fsize) })?;
    Ok(limit)
}

pub(super) fn main(dir: &Path, first: u64, point: Option<(String, u64)>, short: Option<u64>) -> ExitCode {
    if let Some((point, nth)) = point {
        stop_at(point, nth);
    }
    let Ok(runtime) = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build()
    else {
        return ExitCode::FAILURE;
    };
    runtime.block_on(async {
        let replica = match start(dir, if short.is_some() { NO_SNAPSHOTS } else { SNAPSHOTS }).await {
            Ok(replica) => replica,
            Err(error) => {
                say(format_args!("refused {error}"));
                return ExitCode::FAILURE;
            }
        };
        let write = async {
            let Some(term) = led(&replica).await else { return };
            say(format_args!("{}", Line::Leads { term }));
            // Until the first leader of all has said what time it is, everything is long past.
            let mut applied = replica.cell().watch();
            while replica.state().read(|state| state.time_ms()) == 0 {
                if applied.changed().await.is_err() {
                    return;
                }
            }
            if let Some(more) = short {
                match limit(dir, more) {
                    Ok(limit) => say(format_args!("limit {limit}")),
                    Err(error) => return say(format_args!("refused {error}")),
                }
            }
            let next = AtomicU64::new(first);
            let proposers = (0..PROPOSERS).map(|_| propose(&replica, &next));
            futures::future::join_all(proposers).await;
        };
        tokio::select! {
            () = write => say(format_args!("stopped without a word")),
            reason = replica.stopped() => say(format_args!("stopped {reason}")),
        }
        ExitCode::FAILURE
    })
}

/// Adds invoices and cancels every other one, which sends it to the archive, until that fails.
async fn propose(replica: &Replica, next: &AtomicU64) {
    loop {
        let number = next.fetch_add(1, Ordering::SeqCst);
        let expires_at_ms = replica.state().read(|state| state.time_ms()) + EXPIRES_IN_MS;
        let invoice = NewInvoice {
            hash: hash_of(number),
            secret: PaymentSecret([9; 32]),
            terms: InvoiceTerms {
                kind: InvoiceKind::Stored,
                amount_msat: Msat(1_000),
                expires_at_ms: expires_at_ms / 1_000 * 1_000,
                min_final_cltv: 80,
                key_epoch: 0,
            },
            payment_request: text_of(number),
            description: String::new(),
            description_hash: None,
        };
        let added = replica.propose(Command::AddInvoice(Box::new(invoice)), None).await;
        match added.map(|committed| committed.reply) {
            Ok(Reply::InvoiceAdded { .. }) => say(format_args!("{}", Line::Added(number))),
            Ok(other) => return say(format_args!("stopped {other:?} for invoice {number}")),
            Err(_) => return std::future::pending().await,
        }
        if number.is_multiple_of(2) {
            let cancel = Command::CancelInvoice { hash: hash_of(number), scope: CancelScope::Invoice };
            match replica.propose(cancel, None).await.map(|committed| committed.reply) {
                Ok(Reply::Done) => say(format_args!("{}", Line::Canceled(number))),
                Ok(other) => return say(format_args!("stopped {other:?} for the cancel of {number}")),
                Err(_) => return std::future::pending().await,
            }
        }
    }
}
