//! One simulated LND node: its process, its addresses, its control port.

use super::{ClusterError, ClusterOptions, Host, Process, until};
use crate::{
    ledger::LndView,
    lndsim::server::Ready,
    payer::{FrontPeer as _, LndPeer, PeerError, lnd::connect_control},
};
use mux_proto::lndsim::v1::{
    GetLedgerRequest, GetStateRequest, GetStateResponse, control_client::ControlClient,
};
use mux_raft::{network::PeerChannel, types::NodePubkey};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tonic::Status;

/// How long a simulated LND may take to serve.
const START_DEADLINE: Duration = Duration::from_secs(20);

/// A running simulated LND.
pub struct Lnd {
    /// For people and metric labels.
    pub alias: String,
    /// Identity.
    pub node: NodePubkey,
    /// LND's services, TLS.
    pub grpc: SocketAddr,
    /// Where replicas reach them.
    pub reached: SocketAddr,
    /// The controls, plaintext.
    pub control_address: SocketAddr,
    /// To pin.
    pub tls_cert: PathBuf,
    /// That permits everything.
    pub macaroon: PathBuf,
    /// The payer's side of its channels.
    pub peer: Arc<LndPeer>,
    /// The running process.
    pub process: Process,
    number: u32,
}

impl Lnd {
    pub(super) async fn start(
        options: &ClusterOptions,
        dir: &Path,
        number: u32,
    ) -> Result<Self, ClusterError> {
        let (process, ready) = launch(options, dir, number).await?;
        let control = ready.control.to_string();
        let peer =
            if options.for_load { LndPeer::silent(&control).await } else { LndPeer::connect(&control).await };
        let peer = Arc::new(peer?);
        Ok(Self {
            alias: alias(number),
            node: peer.node(),
            grpc: ready.grpc,
            reached: options.site.reached(Host::Lnd(number), ready.grpc).await?,
            control_address: ready.control,
            tls_cert: ready.tls_cert,
            macaroon: ready.macaroon,
            peer,
            process,
            number,
        })
    }

    pub(super) async fn restart(&mut self, options: &ClusterOptions, dir: &Path) -> Result<(), ClusterError> {
        if self.process.is_running() {
            self.process.kill().await?;
        }
        let (process, _) = launch(options, dir, self.number).await?;
        self.process = process;
        Ok(())
    }

    /// The control port.
    #[must_use]
    pub fn control(&self) -> ControlClient<PeerChannel> {
        self.peer.control()
    }

    /// What it is like now.
    ///
    /// # Errors
    /// [`ClusterError::Lnd`], if it does not answer.
    pub async fn state(&self) -> Result<GetStateResponse, ClusterError> {
        Ok(self.control().get_state(GetStateRequest {}).await.map_err(unavailable)?.into_inner())
    }

    /// Its books.
    ///
    /// # Errors
    /// [`ClusterError::Lnd`], if it does not answer.
    pub async fn books(&self) -> Result<LndView, ClusterError> {
        // A connection of its own: the payer's may be recovering from a restart of the process.
        let mut control = connect_control(&self.control_address.to_string()).await?;
        let ledger = control.get_ledger(GetLedgerRequest {}).await.map_err(unavailable)?.into_inner();
        Ok(LndView {
            alias: self.alias.clone(),
            node: self.node,
            htlcs: ledger.htlcs,
            complaints: ledger.complaints,
        })
    }
}

fn unavailable(status: Status) -> PeerError {
    PeerError::Unavailable(status.to_string())
}

/// Names as in every Lightning tutorial.
fn alias(number: u32) -> String {
    const NAMES: [&str; 5] = ["alice", "bob", "carol", "dave", "erin"];
    let name = usize::try_from(number - 1).ok().and_then(|at| NAMES.get(at));
    name.map_or_else(|| format!("lnd-{number}"), ToString::to_string)
}

async fn launch(options: &ClusterOptions, dir: &Path, number: u32) -> Result<(Process, Ready), ClusterError> {
    let alias = alias(number);
    let name = format!("lnd-{alias}");
    let own = dir.join(&name);
    let ready_file = own.join("ready.json");
    let text = |value: &str| value.to_owned().into();
    let mut arguments = vec![
        text("__lndsim"),
        text("--dir"),
        own.into(),
        text("--alias"),
        text(&alias),
        text("--seed"),
        text(&options.seed.to_string()),
        text("--channels"),
        text(&options.channels.to_string()),
    ];
    if options.for_load {
        arguments.push(text("--ephemeral"));
    }
    let host = Host::Lnd(number);
    let spot = options.site.spot(host).await?;
    // Port 0: those that it had before.
    let listen = SocketAddr::new(spot.ip, 0).to_string();
    arguments.extend([text("--listen"), text(&listen), text("--control"), text(&listen)]);
    let logs = dir.join("logs");
    let mut process = Process::start_in(&spot.enter, &name, &options.executable, &arguments, &logs)?;
    let pid = process.pid();
    options.site.started(host, pid);
    let ready = until(&format!("{alias} serves"), START_DEADLINE, || {
        let ready = std::fs::read(&ready_file)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Ready>(&bytes).ok())
            // An earlier process of this directory left its own file.
            .filter(|ready| ready.pid == pid);
        std::future::ready(ready)
    })
    .await;
    match ready {
        Ok(ready) => Ok((process, ready)),
        Err(error) if process.is_running() => Err(error.into()),
        Err(_) => Err(ClusterError::Ready(process.log().to_owned(), "the simulated LND ended".into())),
    }
}
