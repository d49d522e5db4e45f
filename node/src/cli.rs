//! The command line of `muxd`: makes clusters and runs replicas.
//!
//! In the library so that another executable can be a replica too: the demo starts its replicas from its own
//! executable, with nothing but this code.
//!
//! Exit codes: 0 done, 64 the configuration or the command line is wrong, 70 the replica cannot go on.

use crate::config::{Cluster, Config, FEW_OR_EVEN_REMEDY, Problem, few_or_even};
use crate::init::{
    API_PORT, AddReplica, ClusterPlan, METRICS_PORT, ReplicaPlan, add_replica, next_steps,
    next_steps_of_added, write_cluster,
};
use crate::keys::Network;
use crate::server::RunError;
use crate::telemetry;
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use mux_raft::machine::command::COMMAND_FORMAT;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

/// The operator must correct something (`EX_USAGE` of sysexits.h).
const EXIT_USAGE: u8 = 64;

/// The replica cannot go on (`EX_SOFTWARE`).
const EXIT_CANNOT_GO_ON: u8 = 70;

#[derive(Debug, Parser)]
#[command(
    name = "muxd",
    version,
    about = "Replicated Lightning multiplexer: one virtual node on many LND nodes"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes a new cluster: seed, certificates, macaroon and a configuration per replica.
    Init(Box<InitArgs>),
    /// Makes the files of one more replica for a cluster that `init` made; it joins with `muxcli member add`.
    AddReplica(AddReplicaArgs),
    /// Runs a replica.
    Run(ConfigArgs),
    /// Says everything that is wrong with a configuration, without starting anything.
    #[command(alias = "check")]
    CheckConfig(ConfigArgs),
    /// Makes the data directory of a new cluster's first replica from a backup.
    Restore(RestoreArgs),
}

#[derive(Debug, Args)]
struct ConfigArgs {
    /// The replica's configuration.
    #[arg(long, env = "MUXD_CONFIG", value_name = "FILE")]
    config: PathBuf,
    /// Overrides one key; may be repeated.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    overrides: Vec<String>,
    /// Prints the configuration in effect, with where each value comes from, secrets masked; starts nothing.
    #[arg(long)]
    print_config: bool,
}

#[derive(Debug, Args)]
struct RestoreArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Required: what is restored is a new cluster, under a new name. The old one must never run again.
    #[arg(long, required = true)]
    new_cluster: bool,
    /// Cancels every invoice that was open: one that was paid after the backup could be paid again otherwise. Customers
    /// who have not paid yet need new ones.
    #[arg(long)]
    void_open: bool,
    /// The backup, made by `muxcli backup save`.
    #[arg(value_name = "BACKUP")]
    backup: PathBuf,
}

/// Lists go by replica: the first value is replica 1's.
#[derive(Debug, Args)]
struct InitArgs {
    /// Where the cluster's files go. Must not exist, or be empty.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The cluster's name: lower-case letters, digits, '-'.
    #[arg(long, default_value = "mux")]
    cluster_name: String,
    /// mainnet, testnet, testnet4, signet, regtest or simnet.
    #[arg(long, default_value = "regtest")]
    network: Network,
    /// Number of replicas. 3 or 5: an even number survives no more failures, one survives none.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=9))]
    replicas: u16,
    /// host:port at which the other replicas reach a replica. Default: consecutive ports of this machine.
    #[arg(long, value_name = "HOST:PORT")]
    raft_address: Vec<String>,
    /// Raft listeners. Default: all interfaces at the port of --raft-address, if that is given.
    #[arg(long, value_name = "IP:PORT")]
    raft_listen: Vec<SocketAddr>,
    /// API listeners.
    #[arg(long, value_name = "IP:PORT")]
    api_listen: Vec<SocketAddr>,
    /// Metrics listeners.
    #[arg(long, value_name = "IP:PORT")]
    metrics_listen: Vec<SocketAddr>,
    /// Zones.
    #[arg(long, value_name = "ZONE")]
    zone: Vec<String>,
    /// Further host name or address that clients use for the API; may be repeated.
    #[arg(long, value_name = "HOST")]
    host: Vec<String>,
}

/// Without --raft-address: on this machine, at the ports that `init` would have given it.
#[derive(Debug, Args)]
struct AddReplicaArgs {
    /// The cluster's directory, as `init` made it; ca.key is needed.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Its number: never used before in this cluster.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    id: u16,
    /// host:port at which the other replicas reach it.
    #[arg(long, value_name = "HOST:PORT")]
    raft_address: Option<String>,
    /// Its Raft listener.
    #[arg(long, value_name = "IP:PORT")]
    raft_listen: Option<SocketAddr>,
    /// Its API listener.
    #[arg(long, value_name = "IP:PORT")]
    api_listen: Option<SocketAddr>,
    /// Its metrics listener.
    #[arg(long, value_name = "IP:PORT")]
    metrics_listen: Option<SocketAddr>,
    /// Its zone.
    #[arg(long, value_name = "ZONE", default_value = "")]
    zone: String,
    /// Further host name or address that clients use for its API; may be repeated.
    #[arg(long, value_name = "HOST")]
    host: Vec<String>,
    /// The configuration to go by: a running replica's, with its front nodes. Default: the first replica's in DIR.
    #[arg(long, value_name = "FILE")]
    like: Option<PathBuf>,
}

/// What `muxd` understands: for those who ask whether a command exists without running it.
#[must_use]
pub fn definition() -> clap::Command {
    Cli::command()
}

/// Runs `muxd` with these arguments, the program's name first.
#[must_use]
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    main_as(arguments, Disguise::default())
}

/// What a replica is not, for tests that need it; an operator has no such options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disguise {
    /// It says that it knows no feature level above this one: it stands in for an older version.
    pub feature_level_max: u16,
    /// Added to its wall clock, in milliseconds: it stands in for one with a wrong clock.
    pub wall_offset_ms: i64,
}

impl Default for Disguise {
    fn default() -> Self {
        Self { feature_level_max: COMMAND_FORMAT, wall_offset_ms: 0 }
    }
}

/// As [`main`], in a disguise.
#[must_use]
pub fn main_as(arguments: impl IntoIterator<Item = OsString>, disguise: Disguise) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
            // Nothing is left to do if the terminal is gone.
            let _ = error.print();
            return code;
        }
    };
    let outcome = match cli.command {
        Command::Init(args) => init(&args),
        Command::AddReplica(args) => add_one(&args),
        Command::CheckConfig(args) => check(&args),
        Command::Restore(args) => restore(args),
        Command::Run(args) => return run(&args, disguise),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => refuse(&why),
    }
}

fn run(args: &ConfigArgs, disguise: Disguise) -> ExitCode {
    if args.print_config {
        return match check(args) {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => refuse(&why),
        };
    }
    let mut examined = match Config::examine(&args.config, &args.overrides) {
        Ok(examined) => examined,
        Err(error) => return refuse(&error.to_string()),
    };
    examined.examine_machine(true);
    let warnings = std::mem::take(&mut examined.warnings);
    let config = match examined.into_config() {
        Ok(config) => config,
        Err(error) => return refuse(&error.to_string()),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return give_up(&error.to_string()),
    };
    let started = {
        let _runtime = runtime.enter();
        telemetry::init_logs(&config)
    };
    let telemetry = match started {
        Ok(telemetry) => telemetry,
        Err(error) => return refuse(&error),
    };
    telemetry::exit_on_panic();
    for Problem { place, key, wrong, remedy } in &warnings {
        tracing::warn!(place, config_key = key, remedy, "{wrong}");
    }
    let outcome = runtime.block_on(crate::server::run(config, disguise));
    telemetry.end();
    // Whatever still runs must not hold up the end.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(RunError::Config(why)) => refuse(&why),
        Err(RunError::Fatal(why)) => give_up(&why),
    }
}

fn refuse(why: &str) -> ExitCode {
    eprintln!("muxd: {why}");
    ExitCode::from(EXIT_USAGE)
}

fn give_up(why: &str) -> ExitCode {
    tracing::error!("{why}");
    // The log may be filtered, and this is the last chance to say it.
    eprintln!("muxd: {why}");
    ExitCode::from(EXIT_CANNOT_GO_ON)
}

fn check(args: &ConfigArgs) -> Result<(), String> {
    let mut examined = Config::examine(&args.config, &args.overrides).map_err(|error| error.to_string())?;
    examined.examine_machine(false);
    for warning in &examined.warnings {
        eprintln!("warning: {warning}");
    }
    if args.print_config {
        // Also when there are mistakes: it shows where each value came from.
        print!("{}", examined.print());
    }
    let config = examined.into_config().map_err(|error| error.to_string())?;
    if !args.print_config {
        let Cluster { replica_id, name, .. } = &config.cluster;
        println!("{}: replica {replica_id} of {name:?} is configured", args.config.display());
    }
    Ok(())
}

fn restore(args: RestoreArgs) -> Result<(), String> {
    let ConfigArgs { config: path, overrides, .. } = args.config;
    let config = Config::load(&path, &overrides).map_err(|error| error.to_string())?;
    print!("{}", crate::restore::restore(&path, &config, args.backup, args.void_open)?);
    Ok(())
}

fn init(args: &InitArgs) -> Result<(), String> {
    let plan = plan(args)?;
    if let Some(wrong) = few_or_even(plan.replicas.len()) {
        eprintln!("warning: --replicas: {wrong}\n    -> {FEW_OR_EVEN_REMEDY}");
    }
    let written = write_cluster(&plan).map_err(|error| error.to_string())?;
    print!("{}", next_steps(&plan, &written));
    Ok(())
}

fn plan(args: &InitArgs) -> Result<ClusterPlan, String> {
    let mut plan = ClusterPlan::loopback(args.dir.clone(), args.replicas);
    plan.name.clone_from(&args.cluster_name);
    plan.network = args.network;
    plan.hosts.clone_from(&args.host);
    let count = plan.replicas.len();
    for (flag, given) in [
        ("--raft-address", args.raft_address.len()),
        ("--raft-listen", args.raft_listen.len()),
        ("--api-listen", args.api_listen.len()),
        ("--metrics-listen", args.metrics_listen.len()),
        ("--zone", args.zone.len()),
    ] {
        if given != 0 && given != count {
            return Err(format!(
                "{flag} is given {given} times for {count} replicas: give one for each, or none"
            ));
        }
    }
    for (at, replica) in plan.replicas.iter_mut().enumerate() {
        if let Some(address) = args.raft_address.get(at) {
            place(replica, address)?;
        }
        replica.raft_listen = args.raft_listen.get(at).copied().unwrap_or(replica.raft_listen);
        replica.api_listen = args.api_listen.get(at).copied().unwrap_or(replica.api_listen);
        replica.metrics_listen = args.metrics_listen.get(at).copied().unwrap_or(replica.metrics_listen);
        replica.zone = args.zone.get(at).cloned().unwrap_or_default();
    }
    Ok(plan)
}

/// Each on a machine of its own, unless they are all here.
fn place(replica: &mut ReplicaPlan, address: &str) -> Result<(), String> {
    let port = address.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    let port = port.ok_or_else(|| format!("--raft-address {address:?} is no host:port"))?;
    address.clone_into(&mut replica.raft_address);
    replica.raft_listen = SocketAddr::from(([0, 0, 0, 0], port));
    if !address.starts_with("127.") && !address.starts_with("localhost:") {
        replica.api_listen = SocketAddr::from(([0, 0, 0, 0], API_PORT));
        replica.metrics_listen = SocketAddr::from(([0, 0, 0, 0], METRICS_PORT));
    }
    Ok(())
}

fn add_one(args: &AddReplicaArgs) -> Result<(), String> {
    let last = ClusterPlan::loopback(args.dir.clone(), args.id).replicas.pop();
    let mut replica = last.ok_or_else(|| "number replicas from 1".to_owned())?;
    if let Some(address) = &args.raft_address {
        place(&mut replica, address)?;
    }
    replica.raft_listen = args.raft_listen.unwrap_or(replica.raft_listen);
    replica.api_listen = args.api_listen.unwrap_or(replica.api_listen);
    replica.metrics_listen = args.metrics_listen.unwrap_or(replica.metrics_listen);
    replica.zone.clone_from(&args.zone);
    let plan =
        AddReplica { dir: args.dir.clone(), like: args.like.clone(), replica, hosts: args.host.clone() };
    let added = add_replica(&plan).map_err(|error| error.to_string())?;
    print!("{}", next_steps_of_added(&added));
    Ok(())
}
