//! For a cluster that is kept running: what to try, and a payer to try it with.

use super::{DemoError, PayOptions};
use crate::{
    cluster::{Cluster, ClusterError},
    ledger::{Ledger, PaymentEnd},
    payer::{FrontPeer, LndPeer, Patience, Payer, PaymentPlan},
    story::Story,
};
use std::{process::ExitCode, sync::Arc};

/// Prints commands that work as they stand.
pub(super) fn commands(story: &Story, cluster: &Cluster) {
    let Some(replica) = cluster.replicas.first() else { return };
    let all: Vec<_> = cluster.replicas.iter().map(|replica| replica.grpc.to_string()).collect();
    let lnds: Vec<_> = cluster.lnds.iter().map(|lnd| format!("--lnd {}", lnd.control_address)).collect();
    story.print("\nTry:");
    story.print(&format!("  export MUXCLI_RPC={}", all.join(",")));
    story.print(&format!("  export MUXCLI_TLS_CERT={}", cluster.tls_cert.display()));
    story.print(&format!("  export MUXCLI_MACAROON={}", cluster.macaroon.display()));
    story.print("  cargo run --release --bin muxcli -- status");
    story.print("  cargo run --release --bin muxcli -- invoice add 2500sat --description tea");
    story.print(&format!("  cargo run --release --bin demo -- pay {} --parts 2 INVOICE", lnds.join(" ")));
    story.print(&format!("  curl http://{}/metrics", replica.metrics));
    story.print(&format!("  kill -9 {}    # {}", replica.process.pid(), replica.name));
    story.print(&format!("  tail -f {}", replica.process.log().display()));
}

/// `demo pay`.
pub(super) async fn pay(options: PayOptions) -> Result<ExitCode, DemoError> {
    let mut peers: Vec<Arc<dyn FrontPeer>> = Vec::new();
    for address in &options.lnd {
        let peer = LndPeer::connect(&address.to_string()).await.map_err(ClusterError::from)?;
        peers.push(Arc::new(peer));
    }
    let ledger = Arc::new(Ledger::default());
    let payer = Payer::new(peers, ledger.clone(), Patience::default(), rand::random());
    let mut plan = PaymentPlan::new("by hand", options.invoice, options.parts);
    plan.amount_msat = options.amount_msat;
    let id = payer.pay(&plan).await?;
    let record = ledger.payment(id);
    println!("{}", serde_json::to_string_pretty(&record).map_err(std::io::Error::from)?);
    let settled = record.ends.first() == Some(&PaymentEnd::Settled);
    Ok(if settled { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
