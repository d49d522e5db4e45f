//! The nemesis: a cluster of real processes is tormented while clients use it and write down what they see; then all
//! of it is compared with what was promised.
//!
//! * `enclosure` puts the run into namespaces of its own; `net` is what lies between the processes: zones, relays;
//! * `faults` breaks and mends; `clients` use the cluster;
//! * `run` goes through the rounds, `recovery` is the end of each, `verdict` what came out, `waits` for how long nobody
//!   could pay, and why, `report` how it is told.

mod args;
pub(crate) mod clients;
mod enclosure;
mod faults;
mod net;
mod previous;
mod recovery;
mod report;
mod round;
mod run;
mod verdict;
mod waits;

pub use args::{Arguments, Doctor, Network};
pub(crate) use waits::{POPULATION, SEVERAL};

use crate::{cluster::ClusterError, demo};
use clap::Parser as _;
use net::Net;
use std::{ffi::OsString, io::Read as _, process::ExitCode};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

/// Exit code: something that was promised was not kept.
const VIOLATED: u8 = 1;

/// Exit code: some kind of fault never happened. Not 2, which is that of a command line that is wrong.
const DOES_NOT_COUNT: u8 = 5;

/// Exit code: it could not be run.
const NOT_RUN: u8 = 4;

/// Exit codes of a run that was interrupted, as shells have them.
const INTERRUPTED: u8 = 130;
const TERMINATED: u8 = 143;

/// Why a run came to no verdict.
#[derive(Debug, thiserror::Error)]
pub enum NemesisError {
    /// The cluster.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The machine.
    #[error(transparent)]
    Machine(#[from] std::io::Error),
    /// The load.
    #[error(transparent)]
    Load(#[from] demo::DemoError),
    /// The command line.
    #[error("{0}")]
    Usage(String),
}

/// Runs whatever the command line asks for; the first argument is the program's name.
#[must_use]
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    // The cluster's processes have command lines of their own, which must not be taken for this one's.
    let is_child = arguments.get(1).and_then(|first| first.to_str()).is_some_and(|arg| arg.starts_with("__"));
    if is_child {
        return demo::main(demo::Arguments::parse_from(arguments));
    }
    let parsed = Arguments::parse_from(&arguments);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    let further = arguments.get(1..).unwrap_or_default();
    runtime.block_on(Box::pin(go(parsed, further))).unwrap_or_else(|error| failed(&error))
}

fn failed(error: &NemesisError) -> ExitCode {
    eprintln!("nemesis: {error}");
    ExitCode::from(NOT_RUN)
}

async fn go(mut arguments: Arguments, further: &[OsString]) -> Result<ExitCode, NemesisError> {
    if let Some(run) = arguments.inside {
        let net = Net::zones(run)?;
        if arguments.probe {
            net.try_out().await?;
            return Ok(ExitCode::SUCCESS);
        }
        return interruptible(arguments, net, run, None).await;
    }
    let mut further = further.to_vec();
    if arguments.build_previous {
        let (path, commit) = previous::build()?;
        println!("The previous muxd is of commit {commit}.");
        further.retain(|argument| argument != "--build-previous");
        further.extend(["--previous".into(), path.clone().into()]);
        further.extend(["--previous-commit".into(), commit.clone().into()]);
        arguments.previous = Some(path);
        arguments.previous_commit = Some(commit);
    }
    if arguments.seed.is_none() {
        let seed = rand::random::<u64>();
        arguments.seed = Some(seed);
        further.extend(["--seed".into(), seed.to_string().into()]);
    }
    let run = std::process::id();
    let refusal = match arguments.network {
        Network::Loopback => "asked for".to_owned(),
        Network::Zones | Network::Auto => match enclosure::probe(run).await {
            Ok(()) => return Ok(enclosure::run(run, &further).await?),
            Err(why) if arguments.network == Network::Zones => {
                return Err(NemesisError::Usage(format!("zones cannot be made here: {why}")));
            }
            Err(why) => why,
        },
    };
    interruptible(arguments, Net::loopback(), run, Some(refusal)).await
}

/// Dropping the run's future ends every process and removes the directory.
async fn interruptible(
    arguments: Arguments,
    net: Net,
    run: u32,
    loopback: Option<String>,
) -> Result<ExitCode, NemesisError> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let left = if arguments.inside.is_some() { Some(parent_is_gone()?) } else { None };
    let left = async move {
        match left {
            // An error is the end of the watching thread: the same.
            Some(left) => drop(left.await),
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        code = Box::pin(run::run(arguments, net, run, loopback)) => code,
        _ = interrupt.recv() => Ok(ExitCode::from(INTERRUPTED)),
        _ = terminate.recv() => Ok(ExitCode::from(TERMINATED)),
        () = left => Ok(ExitCode::from(TERMINATED)),
    }
}

/// Tells when the standard input, which the parent holds, is closed.
fn parent_is_gone() -> std::io::Result<oneshot::Receiver<()>> {
    let (sender, receiver) = oneshot::channel();
    std::thread::Builder::new().name("parent".into()).spawn(move || {
        let mut byte = [0];
        while let Ok(1..) = std::io::stdin().lock().read(&mut byte) {}
        // Nobody waits any more if the run is over.
        let _ = sender.send(());
    })?;
    Ok(receiver)
}
