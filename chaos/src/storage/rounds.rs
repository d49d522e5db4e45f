use super::damage::{copy, inflict};
use super::disk::Disk;
use super::ledger::Acknowledged;
use super::report::Report;
use super::turns::Turns;
use super::writer::log_of;
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

/// Points that one replica alone meets: at every start, or again and again.
pub(crate) const POINTS: [&str; 20] = [
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
    "vote.saved",
];

/// From so many rounds on every point has had its turn; fewer do not count.
pub(crate) const ROUNDS_THAT_COUNT: u64 = 35;

/// Rounds on one file system; then a new one, before it is full. Not a multiple of the turns that kinds take (20): each
/// comes early on one disk and late on another. (The report
/// reads what older runs printed with it.)
pub(crate) const ROUNDS_PER_DISK: usize = 14;

/// A point is met within this time, or it does not count.
const MEETS: Duration = Duration::from_secs(15);

/// After the power is cut the child still gets this long: what it acknowledges now must be there, too.
const AFTERWARDS: Duration = Duration::from_millis(200);

/// How long a child may take to notice that there is no room.
const NOTICES: Duration = Duration::from_secs(30);

/// How much longer its log's file may get at most where a write is to be short: less than what is kept of the log.
const SHORT_BYTES: u64 = 200_000;
/// As often a write is tried to be cut short in one round.
const SHORT_TRIES: usize = 8;

/// Turns of those that are not in every other round; what is left over is damage.
const TURNS: usize = 10;

/// Places that are damaged in a round, each alone, until one does harm: a byte that nobody reads shows nothing.
const DAMAGED_MAX: usize = 4;

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
    /// From some moment on the disk takes nothing any more (EIO), and is replaced by a copy.
    Broken,
    /// A write of its log is cut short, and the rest refused (RLIMIT_FSIZE).
    Short,
    /// A bit flips, a file is cut short, a page is zeroed or two change places, while it is down.
    Damage,
}

impl Kind {
    const ALL: [Self; 8] = [
        Self::PowerAtPoint,
        Self::PowerAtRandom,
        Self::Damage,
        Self::KillAtPoint,
        Self::KillAtRandom,
        Self::Full,
        Self::Short,
        Self::Broken,
    ];

    /// Of the round of this number.
    fn of(round: usize) -> Self {
        // Named points are what matters most: every other round. Four in ten of the others are damage: there are many bytes.
        if round.is_multiple_of(2) {
            return Self::PowerAtPoint;
        }
        let others = &Self::ALL[1..];
        others.get((round / 2) % TURNS).copied().unwrap_or(Self::Damage)
    }

    pub(super) fn text(self) -> &'static str {
        match self {
            Self::PowerAtRandom => "power cut at a random moment",
            Self::PowerAtPoint => "power cut at a named point",
            Self::KillAtRandom => "SIGKILL at a random moment",
            Self::KillAtPoint => "SIGKILL at a named point",
            Self::Full => "no room left",
            Self::Broken => "a disk that takes no more (EIO)",
            Self::Short => "a short write of the log, then refusals",
            Self::Damage => "a bit, a page or the end of a file damaged while it was down",
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
        turns: Turns::new(&POINTS),
    };
    for round in 0..rounds {
        if round > 0 && round.is_multiple_of(ROUNDS_PER_DISK) {
            run.new_disk()?;
        }
        let kind = Kind::of(round);
        let before = run.report.violations.len();
        let what = run.round(kind).with_context(|| format!("round {round}, {}", kind.text()))?;
        *run.report.rounds.entry(kind).or_default() += 1;
        println!("{round:4}  {what}; {} acknowledgements", run.known.count());
        if run.report.violations.len() > before {
            println!("      {}", run.report.violations[before..].join("; "));
            break;
        }
    }
    run.report.acknowledged += run.known.count() as u64;
    run.report.points.clone_from(run.turns.met());
    run.report.missed = run.turns.missed();
    if run.report.rounds.contains_key(&Kind::Short) && run.report.short == 0 {
        run.report.missed.push("a write that was really short");
    }
    // One alone may well have done no harm.
    if rounds as u64 >= ROUNDS_THAT_COUNT && run.report.refused == 0 {
        run.report.missed.push("damage that was refused");
    }
    Ok(run.report)
}

struct Run {
    random: StdRng,
    report: Report,
    disk: Disk,
    known: Acknowledged,
    /// The first number that no child has used.
    next: u64,
    turns: Turns,
}

impl Run {
    /// Nothing is acknowledged on it yet, and numbers begin again.
    fn new_disk(&mut self) -> anyhow::Result<()> {
        self.report.acknowledged += self.known.count() as u64;
        (self.disk, self.known, self.next) = (Disk::new()?, Acknowledged::default(), 0);
        Ok(())
    }

    fn round(&mut self, kind: Kind) -> anyhow::Result<String> {
        match kind {
            Kind::PowerAtPoint | Kind::KillAtPoint => self.at_point(kind),
            Kind::PowerAtRandom | Kind::KillAtRandom => {
                let mut writer = self.writer(&[])?;
                writer.until(&mut self.known, MEETS, |line| line.starts_with("leads"))?;
                let after = Duration::from_millis(self.random.random_range(20..900));
                writer.for_as_long_as(&mut self.known, after)?;
                self.stop(writer, kind == Kind::PowerAtRandom)?;
                self.look()?;
                Ok(format!("{} after {} ms", kind.text(), after.as_millis()))
            }
            Kind::Full => self.full(),
            Kind::Broken => self.broken(),
            Kind::Short => self.short(),
            Kind::Damage => self.damage(),
        }
    }

    fn at_point(&mut self, kind: Kind) -> anyhow::Result<String> {
        let point = self.turns.next();
        let nth = self.random.random_range(1..=often(point));
        let mut writer = self.writer(&["--point", point, "--nth", &nth.to_string()])?;
        let met = writer.until(&mut self.known, MEETS, |line| line.starts_with("point"))?;
        self.stop(writer, kind == Kind::PowerAtPoint)?;
        if met {
            self.turns.was_met(point);
        }
        self.look()?;
        let not = if met { "" } else { ", not met" };
        Ok(format!("{} {point} ({nth}){not}", kind.text()))
    }

    /// A write is cut short. Where the log writes at that moment is chance: it may be refused as a whole instead, which must do
    /// no harm either, and then another is tried.
    fn short(&mut self) -> anyhow::Result<String> {
        let (before, mut told) = (self.report.short, String::new());
        for _ in 0..SHORT_TRIES {
            told = self.short_once()?;
            if self.report.short > before || !self.report.violations.is_empty() {
                break;
            }
        }
        Ok(told)
    }

    /// A write comes back with less than it was given, and what follows is refused: the replica stops, and at its next start
    /// what was written of it must not be taken for whole. In half of the rounds the power goes, too.
    fn short_once(&mut self) -> anyhow::Result<String> {
        // Odd: no block and no segment ends there.
        let more = self.random.random_range(1..SHORT_BYTES) | 1;
        let power = self.random.random_bool(0.5);
        let mut writer = self.writer(&["--short", &more.to_string()])?;
        writer.until(&mut self.known, MEETS, |line| line.starts_with("limit"))?;
        let limit = writer.last.strip_prefix("limit ").and_then(|limit| limit.parse::<u64>().ok());
        let limit = limit.with_context(|| format!("no limit was told but {:?}", writer.last))?;
        let noticed = writer.until(&mut self.known, NOTICES, |line| line.starts_with("stopped"))?;
        let why = writer.last.clone();
        // The rest is refused from there on: a file that ends at the limit was written to in part.
        let bytes = std::fs::metadata(log_of(&self.disk.path()))?.len();
        self.stop(writer, power)?;
        let was_short = bytes == limit;
        self.report.short += u64::from(was_short);
        if !noticed || !why.contains("File too large") || !why.contains("check the disk") {
            self.report.violations.push(format!("a write was cut short, and all it said was {why:?}"));
        }
        self.look()?;
        let (what, then) = (Kind::Short.text(), if power { ", then a power cut" } else { "" });
        let not = if was_short { "" } else { ", NOT SHORT but refused" };
        Ok(format!("{what}, after {more} more bytes{not}{then}"))
    }

    fn full(&mut self) -> anyhow::Result<String> {
        let mut writer = self.writer(&[])?;
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

    /// The data directory moves to a disk that then fails all writes at once, also those that the file system had put off.
    fn broken(&mut self) -> anyhow::Result<String> {
        let mut disk = Disk::that_can_break()?;
        if self.disk.path().join("data").exists() {
            copy(&self.disk.path().join("data"), &disk.path().join("data"))?;
        }
        // What was copied is on the disk before it breaks.
        disk.power_on()?;
        self.disk = disk;
        let mut writer = self.writer(&[])?;
        writer.until(&mut self.known, MEETS, |line| line.starts_with("leads"))?;
        let after = Duration::from_millis(self.random.random_range(20..900));
        writer.for_as_long_as(&mut self.known, after)?;
        self.disk.break_down()?;
        let noticed = writer.until(&mut self.known, NOTICES, |line| line.starts_with("stopped"))?;
        let why = writer.last.clone();
        self.stop(writer, false)?;
        self.disk.replace()?;
        // ext4 turns read-only when its journal cannot be written, which may come first.
        let told = ["Input/output error", "Read-only file system"].iter().any(|fault| why.contains(fault));
        if !noticed || !told || !why.contains("check the disk") {
            self.report.violations.push(format!("the disk took no more, and all it said was {why:?}"));
        }
        self.look()?;
        Ok(format!("{} after {} ms", Kind::Broken.text(), after.as_millis()))
    }

    fn damage(&mut self) -> anyhow::Result<String> {
        let (data, sound) = (self.disk.path().join("data"), self.disk.path().join("sound"));
        if self.known.count() == 0 {
            // Else nothing could be lost.
            self.write_some()?;
        }
        copy(&data, &sound)?;
        let mut told = String::new();
        for _ in 0..DAMAGED_MAX {
            let what = inflict(&data, &mut self.random)?;
            let said = self.read()?;
            // The looker has led, if it was not refused; what it wrote is of no interest.
            copy(&sound, &data)?;
            told = format!("{what}: {}", said.chars().take(150).collect::<String>());
            if said != "good" {
                match said.split_once(' ') {
                    Some(("refused", why)) if !why.trim().is_empty() => self.report.refused += 1,
                    _ => self.report.violations.push(format!("{what}: {said}")),
                }
                break;
            }
            self.report.unharmed += 1;
        }
        std::fs::remove_dir_all(&sound)?;
        // What was copied is on the disk before the next power cut.
        self.disk.power_on()?;
        self.look()?;
        Ok(told)
    }

    /// Until something is acknowledged.
    fn write_some(&mut self) -> anyhow::Result<()> {
        let mut writer = self.writer(&[])?;
        writer.until(&mut self.known, MEETS, |line| line.starts_with("added"))?;
        self.stop(writer, false)?;
        anyhow::ensure!(self.known.count() > 0, "nothing is acknowledged within {MEETS:?}");
        Ok(())
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
        let said = self.read()?;
        self.report.looked(self.known.count() as u64, &said);
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

    fn writer(&self, further: &[&str]) -> anyhow::Result<Writer> {
        let (dir, first) = (self.disk.path(), self.next.to_string());
        let mut arguments = vec![Path::new("write"), &dir, Path::new(&first)];
        arguments.extend(further.iter().map(Path::new));
        Writer::new(child(&arguments)?)
    }
}

/// How often a child surely meets a point, about.
fn often(point: &str) -> u64 {
    match point {
        // A lone replica votes when it starts, and no more.
        "vote.saved" => 1,
        "log.garbage" => 4,
        // Every entry meets the log's and the state's, a snapshot now and then the others.
        _ if point.starts_with("log.") || point.starts_with("apply.") => 80,
        _ => 4,
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn fifteen_rounds_have_one_of_each_kind_and_every_other_one_is_a_power_cut_at_a_point() {
        let kinds: Vec<_> = (0..15).map(Kind::of).collect();
        assert_eq!(kinds.iter().collect::<BTreeSet<_>>(), Kind::ALL.iter().collect());
        assert!(kinds.iter().step_by(2).all(|kind| *kind == Kind::PowerAtPoint));
        let damage = (0..60).map(Kind::of).filter(|kind| *kind == Kind::Damage).count();
        assert_eq!(damage, 12, "of sixty");
        let points =
            (0..60).map(Kind::of).filter(|kind| [Kind::PowerAtPoint, Kind::KillAtPoint].contains(kind));
        assert!(points.count() >= POINTS.len() + 10, "sixty rounds are enough for all points");
    }

    #[test]
    fn in_as_many_rounds_as_count_every_point_has_its_turn() {
        let rounds = usize::try_from(ROUNDS_THAT_COUNT).unwrap();
        let turns = |rounds| {
            let kinds = (0..rounds).map(Kind::of);
            kinds.filter(|kind| [Kind::PowerAtPoint, Kind::KillAtPoint].contains(kind)).count()
        };
        assert_eq!(turns(rounds), POINTS.len());
        assert!(turns(rounds - 1) < POINTS.len(), "no more than needed");
    }
}
