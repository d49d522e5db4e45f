use super::core::Core;
use crate::clock::{Agreement, Judgement};
use crate::machine::{Command, State, level};
use crate::types::ReplicaId;
use futures::future::join_all;
use mux_proto::mux::raft::v1 as pb;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// How often a leader looks whether there is something to do.
const STEP: Duration = Duration::from_millis(100);
/// Log time moves at least this often.
const TICK_EVERY: Duration = Duration::from_secs(1);
/// What the replicas have is noted in the log this often.
const NOTE_EVERY: Duration = Duration::from_secs(5);
/// Wall clocks are compared this often.
const CLOCKS_EVERY: Duration = Duration::from_secs(1);
const CLOCK_TIMEOUT: Duration = Duration::from_millis(500);
/// A clock that stays wrong is told of again after this long.
const REMIND_EVERY: Duration = Duration::from_secs(600);
/// A leader whose clock is outvoted this many times in a row hands over.
const OUTVOTED_MAX: u32 = 3;

/// What the leader does unasked: compares wall clocks, lets log time pass, notes what the replicas have. Runs on
/// every replica, idle unless it leads.
pub(crate) async fn lead(core: Arc<Core>, stop: CancellationToken) {
    let clocks = Box::pin(compare_clocks(&core));
    let ticks = Box::pin(tick(&core));
    let notes = Box::pin(note_logs(&core));
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = clocks => {}
        () = ticks => {}
        () = notes => {}
    }
}

/// The term in which this replica leads.
fn leads(core: &Core) -> Option<u64> {
    core.look(|metrics| (metrics.current_leader == Some(core.id)).then_some(metrics.current_term))
}

async fn tick(core: &Core) {
    loop {
        tokio::time::sleep(STEP).await;
        let Some(term) = leads(core) else { continue };
        if core.time.idle_for(term, TICK_EVERY) {
            let deadline = Instant::now() + core.timing.propose;
            let attempt = core.propose_here(&Command::Tick, None, deadline).await;
            tracing::trace!(?attempt, "tick");
        }
    }
}

/// Puts into the log what the replicas have confirmed: should the whole cluster be restarted, and one come back
/// with an older disk, the others know.
async fn note_logs(core: &Core) {
    loop {
        tokio::time::sleep(NOTE_EVERY).await;
        if leads(core).is_none() || core.cell.read(State::feature_level) < level::STORES {
            continue;
        }
        let ends = core.unnoted_ends();
        if !ends.is_empty() {
            let deadline = Instant::now() + core.timing.propose;
            let attempt = core.propose_here(&Command::NoteLogs { ends }, None, deadline).await;
            tracing::trace!(?attempt, "noting what replicas have");
        }
    }
}

async fn compare_clocks(core: &Core) {
    let mut compared: Option<(u64, Instant)> = None;
    let mut told = Told::default();
    loop {
        tokio::time::sleep(STEP).await;
        let Some(term) = leads(core) else {
            if compared.take().is_some() {
                // Somebody else judges now.
                for (id, _) in core.other_voters() {
                    show_difference(id, false);
                }
                metrics::gauge!("mux_raft_clock_outvoted").set(0.0);
            }
            continue;
        };
        let due = compared.is_none_or(|(of, when)| of != term || when.elapsed() >= CLOCKS_EVERY);
        if due {
            compared = Some((term, Instant::now()));
            compare_once(core, term, &mut told).await;
        }
    }
}

/// Which clocks the operator was last told of.
#[derive(Default)]
struct Told {
    differ: Vec<ReplicaId>,
    at: Option<Instant>,
}

impl Told {
    /// Whether there is a change, or it is time to remind of what has not changed.
    fn is_news(&mut self, judgement: &Judgement) -> bool {
        let remind = self.at.is_none_or(|at| at.elapsed() >= REMIND_EVERY);
        let differ = judgement.differ.to_vec();
        let news = differ != self.differ || (!differ.is_empty() && remind);
        if news {
            *self = Self { differ, at: Some(Instant::now()) };
        }
        news
    }
}

async fn compare_once(core: &Core, term: u64, told: &mut Told) {
    let voters = core.other_voters();
    let answers = voters.iter().map(|(id, address)| async move { (*id, clock_of(core, *id, address).await) });
    let walls: BTreeMap<ReplicaId, Option<u64>> = join_all(answers).await.into_iter().collect();
    let (judgement, outvoted) = core.time.judge(term, core.cell.read(State::time_ms), &walls);
    for id in walls.keys() {
        show_difference(*id, judgement.differ.contains(id));
    }
    metrics::gauge!("mux_raft_clock_outvoted").set(f64::from(outvoted));
    if let Some(stepped_ms) = judgement.stepped_ms {
        tracing::warn!(stepped_ms, "log time stepped forward: a majority of wall clocks agree");
    }
    let news = told.is_news(&judgement);
    match judgement.agreement {
        Agreement::Majority | Agreement::Unknown if !news => {}
        Agreement::Majority | Agreement::Unknown if judgement.differ.is_empty() => {
            tracing::info!("the replicas' wall clocks agree again");
        }
        Agreement::Majority => {
            tracing::error!(
                replicas = ?judgement.differ,
                "wall clocks are wrong on these replicas: log time does not follow them; set them right (NTP)"
            );
        }
        Agreement::Unknown => {
            tracing::error!(
                replicas = ?judgement.differ,
                "wall clocks differ and no majority agrees: log time goes on by this leader's monotonic clock; set \
                 them right (NTP)"
            );
        }
        Agreement::Outvoted => {
            tracing::error!(
                outvoted,
                "this leader's wall clock is wrong: a majority of replicas agree without it, and one of them is to lead; \
                 set it right (NTP)"
            );
            if outvoted >= OUTVOTED_MAX
                && let Err(error) = core.hand_over_here(None).await
            {
                tracing::error!(%error, "cannot hand leadership over");
            }
        }
    }
}

fn show_difference(id: ReplicaId, differs: bool) {
    let value = if differs { 1.0 } else { 0.0 };
    metrics::gauge!("mux_raft_clock_differs", "peer" => id.to_string()).set(value);
}

/// A peer's wall clock at this moment, half of the round trip added.
async fn clock_of(core: &Core, id: ReplicaId, address: &str) -> Option<u64> {
    let mut client = core.gateway_at(id, address).ok()?;
    let message = pb::ClockRequest { header: Some(core.peers.header(id)) };
    let asked = Instant::now();
    let answer = timeout(CLOCK_TIMEOUT, client.clock(message)).await.ok()?.ok()?.into_inner();
    let round_trip = asked.elapsed();
    let peer = id.to_string();
    metrics::histogram!("mux_raft_peer_round_trip_seconds", "peer" => peer).record(round_trip.as_secs_f64());
    let half = round_trip / 2;
    Some(answer.wall_ms.saturating_add(u64::try_from(half.as_millis()).unwrap_or(0)))
}
