//! One run from its first process to its verdict.

use super::{
    Arguments, DOES_NOT_COUNT, Doctor, NemesisError, VIOLATED,
    clients::roster::Roster,
    faults::{Deck, Engine, Kind, SlowDisk, Toolbox, Upgrade},
    net::Net,
    report::{self, Report, Skipped},
    round::{self, RoundPlan, World},
    verdict::{self, Verdict},
};
use crate::{
    cluster::{Cluster, ClusterOptions, Executable, StartAs},
    ledger::Ledger,
    provenance::Provenance,
    story::Story,
};
use mux_raft::machine::level::FIRST;
use std::{process::ExitCode, sync::Arc, time::Duration};

/// How long an incomplete set may wait here, milliseconds: shorter than by default, so that it happens.
const MPP_TIMEOUT_MS: u64 = 20_000;

/// Runs, and tells.
pub(super) async fn run(
    arguments: Arguments,
    net: Net,
    run: u32,
    loopback: Option<String>,
) -> Result<ExitCode, NemesisError> {
    // Before anything else: what is checked out at the end may be another commit.
    drop(Provenance::here());
    let story = Story::begin("Nemesis: three replicas and two simulated LND nodes as processes, tormented.");
    let seed = arguments.seed.unwrap_or_default();
    story.print(&format!("Seed {seed}. {}", report::repeat(&arguments, loopback.is_none())));
    let (mut kinds, mut skipped) = kinds(&arguments, &net)?;
    match &loopback {
        None => story.print("Every process has a network namespace of its own; the replicas' are zones."),
        Some(why) => {
            story.print(&format!(
                "ATTENTION: NO ZONES ({why}). All processes are on loopback, with relays between them: partitions are \
                 made there, not by lost packets, and some kinds of faults are left out."
            ));
        }
    }
    let site = Arc::new(net);
    let mut options = ClusterOptions::new(Executable::this()?);
    options.site = site.clone();
    options.seed = seed;
    options.dir.clone_from(&arguments.dir);
    if kinds.contains(&Kind::OtherVersion) {
        options.start_as = older(&arguments);
    }
    let cluster = Box::pin(Cluster::start(options)).await?;
    let slow = slow_disk(run, &cluster, &mut kinds, &mut skipped);
    let toolbox = Toolbox { previous: arguments.previous.clone(), slow };
    for left_out in &skipped {
        story.print(&format!("ATTENTION: NO {}: {}.", left_out.kind.name().to_uppercase(), left_out.why));
    }
    let roster = Roster::default();
    roster.set(&cluster);
    let mut engine = Engine::new(cluster, site, roster.clone(), toolbox, story.clone());
    let world = World { roster, ledger: Arc::new(Ledger::default()), story: story.clone(), seed };
    let told = rounds(&mut engine, &world, kinds.clone(), &arguments).await;
    let verdict = match told {
        Ok(verdict) => verdict,
        Err(error) => {
            keep(&mut engine);
            return Err(error);
        }
    };
    let report = Report::new(&arguments, loopback, &kinds, skipped, verdict, engine.cluster.dir());
    if !report.verdict.violations.is_empty() {
        keep(&mut engine);
        report.write_evidence(engine.cluster.dir())?;
    }
    report.tell(&story);
    if arguments.json {
        story.print(&serde_json::to_string(&report).map_err(std::io::Error::from)?);
    }
    Ok(match (report.verdict.violations.is_empty(), report.counts) {
        (false, _) => ExitCode::from(VIOLATED),
        (true, false) => ExitCode::from(DOES_NOT_COUNT),
        (true, true) => ExitCode::SUCCESS,
    })
}

/// What makes disks slow, where that is asked for and can be done.
fn slow_disk(
    run: u32,
    cluster: &Cluster,
    kinds: &mut Vec<Kind>,
    skipped: &mut Vec<Skipped>,
) -> Option<SlowDisk> {
    if !kinds.contains(&Kind::SlowDisk) {
        return None;
    }
    match SlowDisk::open(run, cluster.dir()) {
        Ok(slow) => Some(slow),
        Err(error) => {
            let why = format!("no throttle of block IO that may be used: {error}");
            skipped.push(Skipped { kind: Kind::SlowDisk, why });
            kinds.retain(|kind| *kind != Kind::SlowDisk);
            None
        }
    }
}

fn keep(engine: &mut Engine) {
    engine.keep_files();
    eprintln!("nemesis: data and logs are kept in {}", engine.cluster.dir().display());
}

/// What all replicas are at first, if versions are to change.
fn older(arguments: &Arguments) -> StartAs {
    match &arguments.previous {
        Some(binary) => StartAs { binary: Some(binary.clone()), ..StartAs::default() },
        None => StartAs { feature_level_max: Some(FIRST), ..StartAs::default() },
    }
}

/// What is asked for, as far as it can be done without looking at the disk; and what cannot.
fn kinds(arguments: &Arguments, net: &Net) -> Result<(Vec<Kind>, Vec<Skipped>), NemesisError> {
    let mut wanted = Vec::new();
    for name in &arguments.kinds {
        let known = Kind::ALL.map(Kind::name).join(", ");
        let kind = Kind::named(name);
        wanted.push(kind.ok_or_else(|| NemesisError::Usage(format!("no kind {name:?}; there are {known}")))?);
    }
    if wanted.is_empty() {
        wanted = Kind::ALL.to_vec();
    }
    let mut skipped = Vec::new();
    wanted.retain(|kind| {
        let possible = net.has_zones() || !kind.needs_zones();
        if !possible {
            skipped.push(Skipped { kind: *kind, why: "it needs zones with mounts of their own".into() });
        }
        possible
    });
    Ok((wanted, skipped))
}

/// Whether the cluster settles by itself in the round of this number, and whether faults come one at a time: only then the
/// time without payments says something about a fault, and it is measured only where no application is in between.
fn turn(number: u64) -> (bool, bool) {
    (number % 3 != 1, number % 3 == 2)
}

async fn rounds(
    engine: &mut Engine,
    world: &World,
    kinds: Vec<Kind>,
    arguments: &Arguments,
) -> Result<Verdict, NemesisError> {
    let first = engine.cluster.replicas[0].client.clone();
    first.set_mpp_timeout(MPP_TIMEOUT_MS).await.map_err(crate::cluster::ClusterError::from)?;
    let mut deck = Deck::new(kinds, world.seed);
    let whole = Duration::try_from_secs_f64(arguments.minutes * 60.0)
        .map_err(|error| NemesisError::Usage(format!("--minutes: {error}")))?;
    let mut left = whole;
    let longest = Duration::from_secs(arguments.round.max(1));
    let mut verdict = Verdict::default();
    let mut watched = Vec::new();
    let mut number = 0;
    while !left.is_zero() {
        let duration = left.min(longest);
        left -= duration;
        let doctor = if left.is_zero() { arguments.doctor.clone() } else { Vec::new() };
        let (auto_settle, alone) = turn(number);
        engine.upgrade = Upgrade::at(verdict.tormented, whole);
        let plan = RoundPlan { number, auto_settle, alone, duration, doctor };
        let told = Box::pin(round::run(engine, &mut deck, world, &plan, &mut watched)).await?;
        verdict.tormented += plan.duration;
        verdict.add(told);
        number += 1;
        if !verdict.violations.is_empty() {
            // What comes after it would only bury it.
            break;
        }
    }
    let falsify = arguments.doctor.contains(&Doctor::Ledger);
    verdict::reckon(engine, world, &mut verdict, falsify).await?;
    Ok(verdict)
}
