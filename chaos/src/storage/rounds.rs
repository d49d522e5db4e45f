use super::damage::{copy, inflict};
use super::disk::Disk;
use super::ledger::Acknowledged;
use super::report::Report;
use crate::provenance::Provenance;
use anyhow::{Context as _, bail};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde::Serialize;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Points that one replica alone meets again and again.
const POINTS: [&str; 19] = [
    "apply.answered",
    "apply.applied",
    "apply.begin",
    "archive.sync",
    "archive.synced",
    "archive.write",
    "archive.written",
    "log.garbage",
    "log.synced",
    "log.told",
    "log.write",
    "log.written",
    "snapshot.begin",
    "snapshot.forgotten",
    "snapshot.half",
    "snapshot.kept",
    "snapshot.rename",
    "snapshot.renamed",
    "snapshot.written",
];

/// Rounds on one file system; then a new one, before it is full.
const ROUNDS_PER_DISK: usize = 12;

/// A point is met within this time, or it does not count.
const MEETS: Duration = Duration::from_secs(15);

/// After the power is cut the child still gets this long: what it acknowledges now must be there, too.
const AFTERWARDS: Duration = Duration::from_millis(200);

/// How long a child may take to notice that there is no room.
const NOTICES: Duration = Duration::from_secs(30);

/// What happens to the replica in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    /// The power goes at a random moment.
    PowerAtRandom,
    /// The power goes at a named point.
    PowerAtPoint,
    /// SIGKILL at a random moment.
    KillAtRandom,
    /// SIGKILL at a named point.
    KillAtPoint,
    /// There is no room left.
    Full,
    /// A byte flips, or a file is cut short, while it is down.
    Damage,
}

impl Kind {
    const ALL: [Self; 6] = [
        Self::PowerAtPoint,
        Self::PowerAtRandom,
        Self::Damage,
        Self::KillAtPoint,
        Self::KillAtRandom,
        Self::Full,
    ];

    pub(super) fn text(self) -> &'static str {
        match self {
            Self::PowerAtRandom => "power cut at a random moment",
            Self::PowerAtPoint => "power cut at a named point",
            Self::KillAtRandom => "SIGKILL at a random moment",
            Self::KillAtPoint => "SIGKILL at a named point",
            Self::Full => "no room left",
            Self::Damage => "bytes flipped or a file cut short while it was down",
        }
    }
}

/// All rounds.
///
/// # Errors
/// The run could not be made. What the replica did wrong is in the report.
pub(super) fn run(rounds: usize, seed: u64) -> anyhow::Result<Report> {
    let mut run = Run {
        random: StdRng::seed_from_u64(seed),
        report: Report { run: Provenance::here(), seed, ..Report::default() },
        disk: Disk::new()?,
        known: Acknowledged::default(),
        next: 0,
        points: 0,
    };
    for round in 0..rounds {
        if round > 0 && round.is_multiple_of(ROUNDS_PER_DISK) {
            run.disk = Disk::new()?;
            (run.known, run.next) = (Acknowledged::default(), 0);
        }
        // Named points are what matters most: every other round.
        let kind = if round.is_multiple_of(2) { Kind::PowerAtPoint } else { Kind::ALL[1 + (round / 2) % 5] };
        let before = run.report.violations.len();
        let what = run.round(kind).with_context(|| format!("round {round}, {}", kind.text()))?;
        *run.report.rounds.entry(kind).or_default() += 1;
        println!("{round:4}  {what}; {} acknowledgements", run.known.count());
        if run.report.violations.len() > before {
            println!("      {}", run.report.violations[before..].join("; "));
            break;
        }
    }
    let enough = run.points >= POINTS.len();
    let met = &run.report.points;
    let missed = POINTS.iter().copied().filter(|point| enough && !met.contains_key(point)).collect();
    run.report.missed = missed;
    Ok(run.report)
}

struct Run {
    random: StdRng,
    report: Report,
    disk: Disk,
    known: Acknowledged,
    /// The first number that no child has used.
    next: u64,
    /// Rounds with points so far: they take turns.
    points: usize,
}

impl Run {
    fn round(&mut self, kind: Kind) -> anyhow::Result<String> {
        match kind {
            Kind::PowerAtPoint | Kind::KillAtPoint => self.at_point(kind),
            Kind::PowerAtRandom | Kind::KillAtRandom => {
                let mut writer = self.writer(None)?;
                writer.until(&mut self.known, MEETS, |line| line.starts_with("leads"))?;
                let after = Duration::from_millis(self.random.random_range(20..900));
                writer.for_as_long_as(&mut self.known, after)?;
                self.stop(writer, kind == Kind::PowerAtRandom)?;
                self.look()?;
                Ok(format!("{} after {} ms", kind.text(), after.as_millis()))
            }
            Kind::Full => self.full(),
            Kind::Damage => self.damage(),
        }
    }

    fn at_point(&mut self, kind: Kind) -> anyhow::Result<String> {
        let point = POINTS[self.points % POINTS.len()];
        // Every entry meets the log's and the state's, a snapshot now and then the others.
        let often = point.starts_with("log.") && point != "log.garbage" || point.starts_with("apply.");
        let nth = self.random.random_range(1..=if often { 80 } else { 4_u64 });
        let mut writer = self.writer(Some((point, nth)))?;
        let met = writer.until(&mut self.known, MEETS, |line| line.starts_with("point"))?;
        self.stop(writer, kind == Kind::PowerAtPoint)?;
        // One that was not met is tried again.
        if met {
            self.points += 1;
            *self.report.points.entry(point).or_default() += 1;
        }
        self.look()?;
        let not = if met { "" } else { ", not met" };
        Ok(format!("{} {point} ({nth}){not}", kind.text()))
    }

    fn full(&mut self) -> anyhow::Result<String> {
        let mut writer = self.writer(None)?;
        writer.until(&mut self.known, MEETS, |line| line.starts_with("leads"))?;
        self.disk.fill()?;
        let noticed = writer.until(&mut self.known, NOTICES, |line| line.starts_with("stopped"))?;
        let why = writer.last.clone();
        self.stop(writer, false)?;
        self.disk.make_room()?;
        if !noticed || !why.contains("No space left") || !why.contains("check the disk") {
            self.report.violations.push(format!("no room left, and all it said was {why:?}"));
        }
        self.look()?;
        Ok(Kind::Full.text().to_owned())
    }

    fn damage(&mut self) -> anyhow::Result<String> {
        let (data, sound) = (self.disk.path().join("data"), self.disk.path().join("sound"));
        if !data.exists() {
            return Ok("nothing to damage yet".to_owned());
        }
        copy(&data, &sound)?;
        let what = inflict(&data, &mut self.random)?;
        let said = self.read()?;
        match said.split_once(' ') {
            None if said == "good" => self.report.unharmed += 1,
            Some(("refused", why)) if !why.trim().is_empty() => self.report.refused += 1,
            _ => self.report.violations.push(format!("{what}: {said}")),
        }
        // The looker has led, if it was not refused; what it wrote is of no interest.
        copy(&sound, &data)?;
        std::fs::remove_dir_all(&sound)?;
        // What was copied is on the disk before the next power cut.
        self.disk.power_on()?;
        self.look()?;
        Ok(format!("{what}: {}", said.chars().take(150).collect::<String>()))
    }

    fn stop(&mut self, mut writer: Writer, power: bool) -> anyhow::Result<()> {
        if power {
            self.disk.cut_power()?;
            writer.for_as_long_as(&mut self.known, AFTERWARDS)?;
        }
        writer.end(&mut self.known)?;
        if power {
            self.disk.power_on()?;
        }
        self.next = self.known.added.last().map_or(self.next, |last| self.next.max(last + 1));
        // Those under way may have been written, too.
        self.next += 1_000;
        Ok(())
    }

    /// Everything must be there.
    fn look(&mut self) -> anyhow::Result<()> {
        match self.read()?.as_str() {
            "good" => self.report.found += self.known.count() as u64,
            other => self.report.violations.push(other.to_owned()),
        }
        Ok(())
    }

    fn read(&self) -> anyhow::Result<String> {
        let mut reader = child(&[Path::new("read"), &self.disk.path()])?;
        let mut stdin = reader.stdin.take().context("it has no input")?;
        let lines: String = self.known.lines().map(|line| format!("{line}\n")).collect();
        // It may be refused before it reads.
        let _ = stdin.write_all(lines.as_bytes());
        drop(stdin);
        let output = reader.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        let said =
            said.lines().find(|line| ["good", "bad ", "refused "].iter().any(|word| line.starts_with(word)));
        Ok(said.map_or_else(|| format!("it said nothing and ended with {}", output.status), str::to_owned))
    }

    fn writer(&self, point: Option<(&str, u64)>) -> anyhow::Result<Writer> {
        let (dir, first) = (self.disk.path(), self.next.to_string());
        let mut arguments = vec![Path::new("write"), &dir, Path::new(&first)];
        let nth = point.map_or_else(String::new, |(_, nth)| nth.to_string());
        if let Some((point, _)) = point {
            arguments.extend(["--point", point, "--nth", &nth].map(Path::new));
        }
        Writer::new(child(&arguments)?)
    }
}

fn child(arguments: &[&Path]) -> anyhow::Result<Child> {
    let program = std::env::current_exe()?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    command.spawn().context("starting a child")
}

/// A child that writes, and what it says.
struct Writer {
    child: Child,
    lines: Receiver<String>,
    last: String,
}

impl Writer {
    fn new(mut child: Child) -> anyhow::Result<Self> {
        let stdout: ChildStdout = child.stdout.take().context("it has no output")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, lines, last: String::new() })
    }

    /// Takes what it says until a line is the one that is waited for. Whether it came in time.
    fn until(
        &mut self,
        known: &mut Acknowledged,
        within: Duration,
        is_it: impl Fn(&str) -> bool,
    ) -> anyhow::Result<bool> {
        let deadline = Instant::now() + within;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    if self.take(known, line)? && is_it(&self.last) {
                        return Ok(true);
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Ok(false),
            }
        }
    }

    fn for_as_long_as(&mut self, known: &mut Acknowledged, time: Duration) -> anyhow::Result<()> {
        self.until(known, time, |_| false).map(|_| ())
    }

    fn take(&mut self, known: &mut Acknowledged, line: String) -> anyhow::Result<bool> {
        if line.starts_with("refused") {
            bail!("the writer: {line}");
        }
        if let Ok(line) = line.parse() {
            known.take(line);
        }
        self.last = line;
        Ok(true)
    }

    /// Kills it, and takes what it had said.
    fn end(mut self, known: &mut Acknowledged) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        while let Ok(line) = self.lines.recv() {
            self.take(known, line)?;
        }
        Ok(())
    }
}
