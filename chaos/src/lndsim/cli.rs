//! The command line of `lndsim`: a simulated LND as a process of its own. Kill it, freeze it, start it again in
//! the same directory.
//!
//! Writes `tls.cert`, `admin.macaroon`, `multiplexer.macaroon` (everything but closing channels) and, when
//! it serves, `ready.json` into its directory, and prints the latter's content as one line.

use super::{Config, Server};
use std::{ffi::OsString, io::Write as _, net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

/// A simulated LND node.
#[derive(Parser)]
struct Arguments {
    /// Everything the node keeps.
    #[arg(long)]
    dir: PathBuf,
    /// Name; with the seed it determines a new node's key.
    #[arg(long, default_value = "lndsim")]
    alias: String,
    /// LND's services, TLS. Port 0: the one used before in this directory, or any.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The controls, plaintext.
    #[arg(long, default_value = "127.0.0.1:0")]
    control: SocketAddr,
    /// mainnet, testnet, signet, regtest or simnet.
    #[arg(long, default_value = "regtest")]
    network: String,
    /// Of a new node's chain.
    #[arg(long, default_value_t = 800)]
    height: u32,
    /// Of everything random.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Channels that a new node is given.
    #[arg(long, default_value_t = 1)]
    channels: u32,
    /// Size of each, all of it on the peer's side.
    #[arg(long, default_value_t = 1_000_000_000)]
    channel_capacity_sat: u64,
    /// HTLCs each can carry at a time.
    #[arg(long, default_value_t = 483)]
    max_accepted_htlcs: u32,
    /// An idle connection is pinged after this long.
    #[arg(long, default_value_t = 5_000)]
    ping_interval_ms: u64,
    /// A connection that does not answer for this long is dead.
    #[arg(long, default_value_t = 5_000)]
    ping_timeout_ms: u64,
    /// Stay in WAITING_TO_START until a control changes that.
    #[arg(long)]
    standby: bool,
    /// Write no journal: for load. Killed, the node forgets its channels and HTLCs.
    #[arg(long)]
    ephemeral: bool,
}

/// Runs `lndsim` with these arguments, the program's name first.
#[must_use]
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = Arguments::parse_from(arguments);
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(serve(arguments)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lndsim: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Serves until told to end.
async fn serve(arguments: Arguments) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let running = Server::start(Config {
        dir: Some(arguments.dir),
        alias: arguments.alias,
        listen: arguments.listen,
        control: arguments.control,
        network: arguments.network,
        height: arguments.height,
        seed: arguments.seed,
        channels: arguments.channels,
        channel_capacity_sat: arguments.channel_capacity_sat,
        max_accepted_htlcs: arguments.max_accepted_htlcs,
        ping_interval: Duration::from_millis(arguments.ping_interval_ms),
        ping_timeout: Duration::from_millis(arguments.ping_timeout_ms),
        standby: arguments.standby,
        ephemeral: arguments.ephemeral,
    })
    .await?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(running.ready())?)?;
    out.flush()?;
    drop(out);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = running.failed() => anyhow::bail!("the journal cannot be written"),
    }
    running.stop().await;
    Ok(())
}
