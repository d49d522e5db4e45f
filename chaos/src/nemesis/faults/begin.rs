//! How each fault begins.

use super::{
    Kind,
    alone::Whom,
    deck::Planned,
    engine::{Active, CycleAt, Engine, Happened, LOOK_EVERY, Stage},
    lnd,
    replacing::Replacing,
};
use crate::{
    cluster::{ClusterError, Host},
    ledger::unix_ms,
    nemesis::net::{Way, Wire, both},
};
use std::time::Duration;
use tokio::time::Instant;

/// Delays, one way, milliseconds: up to near an election timeout there and back.
const DELAY_MS: std::ops::Range<u64> = 10..140;

/// How wrong clocks are, milliseconds: within and far beyond what the log's clock follows by itself.
const SKEWS_MS: [i64; 6] = [-600_000, -40_000, -5_000, 5_000, 40_000, 600_000];

/// What has begun, for people; whom it hit, and what is to be undone.
pub(super) type Begun = Option<(String, Whom, Stage)>;

impl Engine {
    /// Begins a fault; `false`: it is not possible at the moment.
    pub(super) async fn begin(&mut self, planned: Planned) -> Result<bool, ClusterError> {
        let standing = self.standing().await;
        let began_ms = unix_ms();
        let lasts = planned.lasts;
        let Some((what, whom, stage)) = self.try_begin(planned).await? else {
            return Ok(false);
        };
        self.story.say(format!("{}: {what}", planned.kind.name()));
        let lies_behind = matches!(stage, Stage::Dead(ref ids) if ids.is_empty());
        let ended_ms = if lies_behind { unix_ms() } else { 0 };
        let concerns = standing.concerned(whom);
        let Planned { number, kind, .. } = planned;
        self.happened.push(Happened { number, kind, what, began_ms, ended_ms, concerns });
        if !lies_behind {
            let wait = if lasts.is_zero() { LOOK_EVERY } else { lasts };
            self.active.push(Active { planned, due: Instant::now() + wait, stage });
        }
        Ok(true)
    }

    async fn try_begin(&mut self, planned: Planned) -> Result<Begun, ClusterError> {
        match planned.kind {
            Kind::Kill | Kind::Pause => self.stop_one(planned).await,
            Kind::Rolling => Ok(self.roll(planned.kind)),
            Kind::OtherVersion => Ok(self.change_version(planned).await),
            Kind::Partition | Kind::OneWay | Kind::MinorityLeader => self.part(planned).await,
            Kind::LndCut | Kind::Delay | Kind::HalfOpen | Kind::Reset => self.disturb(planned).await,
            Kind::FullDisk => self.fill(),
            Kind::SlowDisk => self.slow(planned).await,
            Kind::SkewedClock => self.skew(planned).await,
            Kind::Outage => self.kill_all().await,
            Kind::Replace => self.begin_replacing(planned).await,
            Kind::LndRestart
            | Kind::LndKill
            | Kind::StreamCut
            | Kind::ReplayStorm
            | Kind::LostSettle
            | Kind::ForceClose
            | Kind::Block => self.hit_lnd(planned).await,
        }
    }

    async fn stop_one(&mut self, planned: Planned) -> Result<Begun, ClusterError> {
        let Some((id, name)) = self.chosen(planned.chance, true).await else { return Ok(None) };
        let Some(at) = self.place(id) else { return Ok(None) };
        let process = &mut self.cluster.replicas[at].process;
        if planned.kind == Kind::Kill {
            process.kill().await?;
            let stage = Stage::Dead(vec![id]);
            return Ok(Some((format!("{name}, for {:?}", planned.lasts), Whom::Replica(id), stage)));
        }
        process.pause()?;
        Ok(Some((format!("{name}, for {:?}", planned.lasts), Whom::Replica(id), Stage::Paused(id))))
    }

    /// Whom, and for people with what it does at the moment.
    async fn chosen(&mut self, chance: u64, costs: bool) -> Option<(u64, String)> {
        self.chosen_but(chance, costs, &[]).await
    }

    /// See [`Engine::choose_but`].
    async fn chosen_but(&mut self, chance: u64, costs: bool, but: &[u64]) -> Option<(u64, String)> {
        let id = self.choose_but(chance, costs, but).await?;
        let at = self.place(id)?;
        let leads = self.cluster.leader().await == Some(at);
        let name = &self.cluster.replicas[at].name;
        Some((id, if leads { format!("{name} (leads)") } else { name.clone() }))
    }

    pub(super) fn is_going_on(&self, kinds: &[Kind]) -> bool {
        self.active.iter().any(|active| kinds.contains(&active.planned.kind))
    }

    fn roll(&mut self, kind: Kind) -> Begun {
        if self.is_going_on(&[kind, Kind::Replace, Kind::OtherVersion]) {
            return None;
        }
        let all = self.cluster.replicas.iter().map(|replica| replica.id).collect();
        let stage = Stage::Cycle { left: all, at: CycleAt::Between };
        Some(("all replicas, one after the other".into(), Whom::All, stage))
    }

    async fn part(&mut self, planned: Planned) -> Result<Begun, ClusterError> {
        let chance = if planned.kind == Kind::MinorityLeader { 0 } else { planned.chance };
        let Some((id, name)) = self.chosen(chance, true).await else { return Ok(None) };
        let leads = name.ends_with("(leads)");
        if planned.kind == Kind::MinorityLeader && !leads {
            return Ok(None);
        }
        let own = Host::Replica(id);
        let mut others = self.others(id);
        if planned.kind == Kind::Partition {
            others.extend(self.lnds());
        }
        let (ways, how): (Vec<Way>, _) = match (planned.kind, planned.chance % 2) {
            (Kind::OneWay, 0) => (others.iter().map(|other| (own, *other)).collect(), "is not heard"),
            (Kind::OneWay, _) => (others.iter().map(|other| (*other, own)).collect(), "does not hear"),
            _ => (others.iter().flat_map(|other| both(own, *other)).collect(), "is cut off"),
        };
        self.net.impose(planned.number, ways, Wire::Severed)?;
        let what = format!("{name} {how}, for {:?}", planned.lasts);
        Ok(Some((what, Whom::Replica(id), Stage::Ways(Some(id)))))
    }

    fn others(&self, id: u64) -> Vec<Host> {
        let others = self.cluster.replicas.iter().map(|replica| replica.id).filter(|other| *other != id);
        others.map(Host::Replica).collect()
    }

    fn lnds(&self) -> Vec<Host> {
        (1..).take(self.cluster.lnds.len()).map(Host::Lnd).collect()
    }

    /// Ways that are bad, of somebody who still counts or is out of touch.
    async fn disturb(&mut self, planned: Planned) -> Result<Begun, ClusterError> {
        let chance = planned.chance;
        let costs = !matches!(planned.kind, Kind::LndCut | Kind::Delay);
        let Some((id, name)) = self.chosen(chance, costs).await else { return Ok(None) };
        let own = Host::Replica(id);
        let lnds = self.lnds();
        let lnd_at = usize::try_from(chance / 8).unwrap_or(0) % lnds.len();
        let lnd = lnds[lnd_at];
        let everybody: Vec<_> = self.others(id).into_iter().chain(lnds).collect();
        let all = || everybody.iter().flat_map(|other| both(own, *other)).collect::<Vec<_>>();
        let mut whom = Whom::Replica(id);
        let (ways, wire, out, how) = match planned.kind {
            Kind::LndCut => {
                whom = Whom::Link { replica: id, lnd: lnd_at };
                (both(own, lnd).to_vec(), Wire::Severed, None, format!("and {lnd} are parted"))
            }
            Kind::Delay => {
                let delay_ms = DELAY_MS.start + chance % (DELAY_MS.end - DELAY_MS.start);
                let delay = Duration::from_millis(delay_ms);
                (all(), Wire::Delayed(delay), None, format!("is {delay:?} away"))
            }
            Kind::HalfOpen => {
                let other = everybody[usize::try_from(chance / 8).unwrap_or(0) % everybody.len()];
                let way = if chance.is_multiple_of(2) { (own, other) } else { (other, own) };
                let out = matches!(other, Host::Replica(_)).then_some(id);
                if let Some(lnd) = self.lnds().iter().position(|lnd| *lnd == other) {
                    whom = Whom::Link { replica: id, lnd };
                }
                (vec![way], Wire::Stalled, out, format!("and {other}: nothing from {} to {}", way.0, way.1))
            }
            _ => (all(), Wire::Cut, Some(id), "gets no connection".to_owned()),
        };
        self.net.impose(planned.number, ways, wire)?;
        Ok(Some((format!("{name} {how}, for {:?}", planned.lasts), whom, Stage::Ways(out))))
    }

    fn fill(&mut self) -> Result<Begun, ClusterError> {
        let free = self.free();
        let id = self.net.small_disks().into_iter().find(|id| free.contains(id) && self.may_lose(*id));
        let Some((id, at)) = id.and_then(|id| Some((id, self.place(id)?))) else { return Ok(None) };
        let log_from = std::fs::metadata(self.cluster.replicas[at].process.log())?.len();
        self.net.fill(id, true)?;
        let stage = Stage::Full { id, mended: false, log_from };
        Ok(Some((format!("replica-{id}"), Whom::Replica(id), stage)))
    }

    async fn slow(&mut self, planned: Planned) -> Result<Begun, ClusterError> {
        let in_memory = self.net.small_disks();
        let chosen = self.chosen_but(planned.chance, false, &in_memory).await;
        let Some((id, name)) = chosen else { return Ok(None) };
        let (Some(slow), Some(at)) = (&self.toolbox.slow, self.place(id)) else { return Ok(None) };
        slow.impose(planned.number, self.cluster.replicas[at].process.pid())?;
        Ok(Some((format!("{name}, for {:?}", planned.lasts), Whom::Replica(id), Stage::Slow)))
    }

    async fn skew(&mut self, planned: Planned) -> Result<Begun, ClusterError> {
        // Another binary knows nothing of it.
        let others = self.cluster.replicas.iter().filter(|replica| replica.start_as.binary.is_some());
        let others: Vec<u64> = others.map(|replica| replica.id).collect();
        let Some((id, name)) = self.chosen_but(planned.chance, true, &others).await else { return Ok(None) };
        let at = usize::try_from(planned.chance / 3).unwrap_or(0) % SKEWS_MS.len();
        self.restart_with_offset(id, SKEWS_MS[at]).await?;
        Ok(Some((format!("{name}, by {} ms", SKEWS_MS[at]), Whom::Replica(id), Stage::Skewed(id))))
    }

    async fn kill_all(&mut self) -> Result<Begun, ClusterError> {
        if self.is_going_on(&[Kind::Replace]) {
            return Ok(None);
        }
        let free = self.free();
        // The others are out of action as it is; without a majority of these it would be no outage.
        if free.len() * 2 <= self.cluster.replicas.len() {
            return Ok(None);
        }
        for id in &free {
            if let Some(at) = self.place(*id) {
                self.cluster.replicas[at].process.kill().await?;
            }
        }
        Ok(Some((format!("replicas {free:?}"), Whom::All, Stage::Dead(free))))
    }

    async fn begin_replacing(&mut self, planned: Planned) -> Result<Begun, ClusterError> {
        if self.is_going_on(&[Kind::Rolling, Kind::Replace, Kind::OtherVersion]) {
            return Ok(None);
        }
        let id = self.next_id;
        self.next_id += 1;
        let (_, address) = Box::pin(self.cluster.start_another(id, &[])).await?;
        // Applications may ask it from its first moment on: it knows nothing yet, and must say so.
        self.roster.set(&self.cluster);
        let replacing = Replacing::begin(id, address, planned.chance, &self.roster);
        Ok(Some((format!("replica-{id} comes"), Whom::All, Stage::Replacing(replacing))))
    }

    async fn hit_lnd(&mut self, planned: Planned) -> Result<Begun, ClusterError> {
        let at = usize::try_from(planned.chance).unwrap_or(usize::MAX) % self.cluster.lnds.len();
        let alias = self.cluster.lnds[at].alias.clone();
        let over = Stage::Dead(Vec::new());
        if planned.kind == Kind::LndKill {
            self.cluster.restart_lnd(at).await?;
            return Ok(Some((alias, Whom::Lnd(at), over)));
        }
        let lnd = &self.cluster.lnds[at];
        let done = match planned.kind {
            Kind::LndRestart => lnd::restart(lnd, planned.chance).await,
            Kind::StreamCut => lnd::cut_streams(lnd, planned.chance).await,
            Kind::ReplayStorm => lnd::storm(lnd).await,
            Kind::LostSettle => lnd::hold_answers(lnd, planned.chance).await,
            Kind::ForceClose => lnd::force_close(lnd, planned.chance).await,
            _ => lnd::mine(&self.cluster.lnds, 1).await,
        };
        let stage = if planned.kind == Kind::LostSettle { Stage::Limited(at) } else { over };
        Ok(done.map(|what| (format!("{alias}{what}"), Whom::Lnd(at), stage)))
    }
}
