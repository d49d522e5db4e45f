//! Begins faults, looks after them, ends them.

use super::{
    Kind,
    deck::Planned,
    disk::SlowDisk,
    replacing::Replacing,
    versions::{SideBySide, Upgrade},
};
use crate::{
    cluster::{Cluster, ClusterError},
    ledger::{check::Violation, unix_ms},
    nemesis::{clients::roster::Roster, net::Net},
    story::Story,
};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;

/// Between two looks at what goes on.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long a replica may take to end in order: `shutdown.grace_secs`, and what a busy machine takes longer.
const GRACE_MAX: Duration = Duration::from_secs(30);

/// A full disk may be noticed this long after there is room again.
const FULL_NOTICED: Duration = Duration::from_secs(2);

/// How long everything that goes on may take to end, members that come and go included.
const FINISH_MAX: Duration = Duration::from_secs(120);

/// Lines of a log that are shown of a replica that ended by itself.
const LAST_LINES: usize = 4;

/// A fault that has begun.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Happened {
    /// Its number in the run.
    pub(crate) number: u64,
    /// What.
    pub(crate) kind: Kind,
    /// Whom it hit, and how.
    pub(crate) what: String,
    /// Unix milliseconds.
    pub(crate) began_ms: u64,
    /// 0: not yet.
    pub(crate) ended_ms: u64,
    /// The LND nodes, by their places, whose payers it concerns; none if other faults went on when it began.
    pub(crate) concerns: BTreeSet<usize>,
}

/// What the faults are made with.
#[derive(Debug, Default)]
pub(crate) struct Toolbox {
    /// An older `muxd`; without it the stand-in for one.
    pub(crate) previous: Option<PathBuf>,
    /// Makes disks slow, where that is possible.
    pub(crate) slow: Option<SlowDisk>,
}

/// What has to be undone, or is still to be done.
#[derive(Debug)]
pub(super) enum Stage {
    /// Replicas that are dead, to be started.
    Dead(Vec<u64>),
    /// To be continued.
    Paused(u64),
    /// Ways that are not open; and who is out of touch with the others by it.
    Ways(Option<u64>),
    /// No room; or there is again, and it may not have noticed yet. What it has said since starts at this byte of its log.
    Full { id: u64, mended: bool, log_from: u64 },
    /// A disk that is slow.
    Slow,
    /// Its clock is wrong.
    Skewed(u64),
    /// An LND node by its place, whose answers go only so far; it restarts at the end.
    Limited(usize),
    /// Replicas that end in order and start again, one after the other.
    Cycle { left: VecDeque<u64>, at: CycleAt },
    /// One comes, one goes.
    Replacing(Replacing),
}

/// Where a cycle is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CycleAt {
    /// Before the next one.
    Between,
    /// It was asked to end, then.
    Ending(u64, Instant),
    /// It starts.
    Starting(u64),
}

/// A fault that goes on.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) planned: Planned,
    /// When it is looked at next.
    pub(super) due: Instant,
    pub(super) stage: Stage,
}

/// See the [module](self).
pub(crate) struct Engine {
    pub(super) net: Arc<Net>,
    pub(super) roster: Roster,
    pub(super) toolbox: Toolbox,
    pub(super) story: Story,
    pub(super) active: Vec<Active>,
    /// Number of the next new replica.
    pub(super) next_id: u64,
    /// Whether old replicas stay.
    pub(crate) upgrade: Upgrade,
    /// See [`Engine::mixed_versions`].
    pub(super) side_by_side: SideBySide,
    /// Faults whose turn has come, and that were not possible yet.
    waiting: VecDeque<Planned>,
    /// All faults so far.
    pub(crate) happened: Vec<Happened>,
    /// Faults that were left out: one of their kind still waited to be possible, or they were not when they should have come
    /// alone.
    pub(crate) skipped: BTreeMap<Kind, u64>,
    /// What no fault explains.
    pub(crate) violations: Vec<Violation>,
    /// Everything that runs. The last to go: its directory is what the others have mounts in.
    pub(crate) cluster: Cluster,
}

impl Engine {
    /// For a cluster in which all is well.
    pub(crate) fn new(
        cluster: Cluster,
        net: Arc<Net>,
        roster: Roster,
        toolbox: Toolbox,
        story: Story,
    ) -> Self {
        let next_id = cluster.replicas.iter().map(|replica| replica.id).max().unwrap_or(0) + 1;
        Self {
            net,
            roster,
            toolbox,
            story,
            active: Vec::new(),
            next_id,
            upgrade: Upgrade::default(),
            side_by_side: SideBySide::default(),
            waiting: VecDeque::new(),
            happened: Vec::new(),
            skipped: BTreeMap::new(),
            violations: Vec::new(),
            cluster,
        }
    }

    /// Somebody has to look at what there is: it outlives the run.
    pub(crate) fn keep_files(&mut self) {
        self.cluster.keep_files();
        if let Err(error) = self.net.keep_small() {
            eprintln!("nemesis: a data directory in memory cannot be kept: {error}");
        }
    }

    /// Torments the cluster for a while. What goes on at the end goes on.
    ///
    /// # Errors
    /// [`ClusterError`]: this machine does not do what is needed for it.
    pub(crate) async fn torment(
        &mut self,
        deck: &mut super::Deck,
        duration: Duration,
    ) -> Result<(), ClusterError> {
        let end = Instant::now() + duration;
        let mut next = deck.deal();
        let mut at = Instant::now() + next.map_or(duration, |planned| planned.after);
        while Instant::now() < end {
            self.look_at_versions();
            if let Some(planned) = next.filter(|_| Instant::now() >= at) {
                self.take_turn(planned).await?;
                next = deck.deal();
                at = Instant::now() + next.map_or(duration, |planned| planned.after);
            }
            self.look_after().await?;
            self.try_waiting().await?;
            tokio::time::sleep(LOOK_EVERY).await;
        }
        self.rest_from_versions();
        Ok(())
    }

    /// Begins it, or lets it wait until it is possible: a majority must work, it needs a leader, …
    async fn take_turn(&mut self, planned: Planned) -> Result<(), ClusterError> {
        if self.waiting.iter().any(|waiting| waiting.kind == planned.kind) {
            *self.skipped.entry(planned.kind).or_default() += 1;
        } else if !self.begin(planned).await? {
            self.waiting.push_back(planned);
        }
        Ok(())
    }

    /// The one that waits longest; if it has to wait on, the others first.
    async fn try_waiting(&mut self) -> Result<(), ClusterError> {
        if let Some(planned) = self.waiting.pop_front()
            && !self.begin(planned).await?
        {
            self.waiting.push_back(planned);
        }
        Ok(())
    }

    /// Ends all faults.
    ///
    /// # Errors
    /// As [`Engine::torment`].
    pub(crate) async fn finish(&mut self) -> Result<(), ClusterError> {
        let now = Instant::now();
        for active in &mut self.active {
            active.due = now;
        }
        while !self.active.is_empty() {
            if now.elapsed() > FINISH_MAX {
                let what: Vec<_> = self.active.iter().map(|active| format!("{:?}", active.stage)).collect();
                self.violate("fault_does_not_end", what.join("; "));
                self.active.clear();
            }
            self.look_after().await?;
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    pub(super) fn violate(&mut self, rule: &'static str, evidence: String) {
        self.story.say(format!("VIOLATION {rule}: {evidence}"));
        self.violations.push(Violation { rule, evidence });
    }

    /// Ends what is due, and looks for replicas that ended by themselves.
    pub(super) async fn look_after(&mut self) -> Result<(), ClusterError> {
        let now = Instant::now();
        let due = self.active.iter().filter(|active| active.due <= now);
        for number in due.map(|active| active.planned.number).collect::<Vec<_>>() {
            let Some(at) = self.active.iter().position(|active| active.planned.number == number) else {
                continue;
            };
            // The others stay in the list: it says whom must be spared.
            let mut active = self.active.remove(at);
            if self.advance(&mut active).await? {
                self.active.push(active);
            } else if let Some(happened) = self.happened.iter_mut().find(|one| one.number == number) {
                happened.ended_ms = unix_ms();
            }
        }
        self.notice_ends()
    }

    /// `false`: the fault is over.
    async fn advance(&mut self, active: &mut Active) -> Result<bool, ClusterError> {
        let number = active.planned.number;
        match &mut active.stage {
            Stage::Dead(ids) => {
                for id in std::mem::take(ids) {
                    self.start(id)?;
                }
                Ok(false)
            }
            Stage::Paused(id) => {
                if let Some(at) = self.place(*id) {
                    self.cluster.replicas[at].process.resume()?;
                }
                Ok(false)
            }
            Stage::Ways(_) => self.net.lift(number).map(|()| false).map_err(ClusterError::from),
            Stage::Full { id, mended, log_from } => {
                let (id, log_from) = (*id, *log_from);
                self.net.fill(id, false)?;
                let Some(at) = self.place(id) else { return Ok(false) };
                let runs = self.cluster.replicas[at].process.is_running();
                if runs && !std::mem::replace(mended, true) {
                    active.due = Instant::now() + FULL_NOTICED;
                    return Ok(true);
                }
                if !runs {
                    self.blame_the_disk(at, log_from);
                    self.start(id)?;
                }
                Ok(false)
            }
            Stage::Slow => {
                if let Some(slow) = &self.toolbox.slow {
                    slow.lift(number)?;
                }
                Ok(false)
            }
            Stage::Skewed(id) => {
                let id = *id;
                self.restart_with_offset(id, 0).await?;
                Ok(false)
            }
            Stage::Limited(at) => {
                super::lnd::lose_answers(&self.cluster.lnds[*at]).await;
                Ok(false)
            }
            Stage::Cycle { left, at } => {
                active.due = Instant::now() + LOOK_EVERY;
                self.cycle(left, at).await
            }
            Stage::Replacing(replacing) => {
                active.due = Instant::now() + LOOK_EVERY;
                self.replace(replacing).await
            }
        }
    }

    /// One step of a rolling restart.
    async fn cycle(&mut self, left: &mut VecDeque<u64>, at: &mut CycleAt) -> Result<bool, ClusterError> {
        match *at {
            CycleAt::Between => {
                let Some(id) = left.front().copied() else { return Ok(false) };
                let Some(place) = self.place(id) else {
                    left.pop_front();
                    return Ok(true);
                };
                if self.cluster.replicas[place].is_up() && self.may_end(id) {
                    left.pop_front();
                    self.cluster.replicas[place].process.ask_to_end()?;
                    *at = CycleAt::Ending(id, Instant::now());
                }
            }
            CycleAt::Ending(id, since) => {
                let Some(place) = self.place(id) else { return Ok(true) };
                let replica = &mut self.cluster.replicas[place];
                if !replica.process.is_running() {
                    self.start(id)?;
                    *at = CycleAt::Starting(id);
                } else if since.elapsed() > GRACE_MAX {
                    let name = replica.name.clone();
                    replica.process.kill().await?;
                    self.violate("does_not_end", format!("{name} runs {GRACE_MAX:?} after SIGTERM"));
                }
            }
            CycleAt::Starting(id) => {
                let client = self.place(id).map(|place| self.cluster.replicas[place].client.clone());
                let knows = match client {
                    Some(client) => client.status().await.is_ok_and(|status| status.leader != 0),
                    None => true,
                };
                if knows {
                    *at = CycleAt::Between;
                }
            }
        }
        Ok(true)
    }

    /// Its place in the cluster now.
    pub(super) fn place(&self, id: u64) -> Option<usize> {
        self.cluster.replicas.iter().position(|replica| replica.id == id)
    }

    /// Starts a replica again, unless it was removed meanwhile.
    pub(super) fn start(&mut self, id: u64) -> Result<(), ClusterError> {
        match self.place(id) {
            Some(at) => self.cluster.restart_replica(at),
            None => Ok(()),
        }
    }

    pub(super) async fn restart_with_offset(
        &mut self,
        id: u64,
        wall_offset_ms: i64,
    ) -> Result<(), ClusterError> {
        let Some(at) = self.place(id) else { return Ok(()) };
        if self.cluster.replicas[at].process.is_running() {
            self.cluster.replicas[at].process.kill().await?;
        }
        self.cluster.replicas[at].start_as.wall_offset_ms = wall_offset_ms;
        self.cluster.restart_replica(at)
    }

    /// A full disk excuses a replica that ended only if that is what it ended for.
    fn blame_the_disk(&mut self, at: usize, log_from: u64) {
        let replica = &self.cluster.replicas[at];
        let said = super::disk::said_since(replica.process.log(), log_from);
        if !super::disk::is_to_blame(&said) {
            let evidence = format!("{}, its disk full: …\n{}", replica.name, last_lines(&said));
            self.violate("ended_for_another_reason_than_its_disk", evidence);
        }
    }

    /// A replica that ends although nobody made it.
    fn notice_ends(&mut self) -> Result<(), ClusterError> {
        let excused = self.excused();
        let mut ended = Vec::new();
        for replica in &mut self.cluster.replicas {
            if !excused.contains(&replica.id) && !replica.process.is_running() {
                let log = std::fs::read_to_string(replica.process.log()).unwrap_or_default();
                ended.push((replica.id, format!("{}: …\n{}", replica.name, last_lines(&log))));
            }
        }
        for (id, evidence) in ended {
            self.violate("replica_ended_by_itself", evidence);
            self.start(id)?;
        }
        Ok(())
    }

    /// Replicas that need not run at the moment.
    fn excused(&self) -> BTreeSet<u64> {
        let mut excused = BTreeSet::new();
        for active in &self.active {
            match &active.stage {
                Stage::Dead(ids) => excused.extend(ids.iter().copied()),
                Stage::Full { id, .. } => excused.extend([*id]),
                Stage::Cycle { at: CycleAt::Ending(id, _), .. } => excused.extend([*id]),
                Stage::Replacing(replacing) => excused.extend(replacing.leaves()),
                _ => {}
            }
        }
        excused
    }
}

/// The end of a log.
fn last_lines(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}
