use super::core::Core;
use super::members::leads_with_quorum;
use super::propose::Attempt;
use super::roll::{Answers, FRESH};
use super::roster::{ANSWER_MAX, ANSWER_TIMEOUT, program};
use crate::consensus::ProposeError;
use crate::machine::level::{self, version_of};
use crate::machine::{Command, State};
use crate::mutant::{Mutant, planted};
use crate::types::ReplicaId;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

/// How often it is looked whether somebody has to be asked.
const STEP: Duration = Duration::from_millis(100);
/// Between two tries to write what is to be written soon.
const PAUSE: Duration = Duration::from_millis(20);
/// A leader of a cluster whose level may rise asks this often.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// Everybody else does, to show who runs what.
const SHOW_EVERY: Duration = Duration::from_secs(10);
/// How often it is said what holds the cluster back.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Asks the members what they run, and, as leader, raises the cluster's feature level to what all of them know.
pub(crate) async fn keep_roster(core: Arc<Core>, stop: CancellationToken) {
    let asking = Box::pin(ask_for_ever(&core));
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = asking => {}
    }
}

async fn ask_for_ever(core: &Core) {
    let mut asked: Option<Instant> = None;
    let mut told: Option<Instant> = None;
    // Nobody who answered at once lacks a store.
    let mut patient = false;
    loop {
        sleep(STEP).await;
        let leads = core.leader() == Some(core.id);
        let rises = leads && core.feature_level() < core.roster.feature_level_max();
        let enrols = leads && core.lacks_stores();
        let pause = if rises || enrols { ASK_EVERY } else { SHOW_EVERY };
        if asked.is_some_and(|asked| asked.elapsed() < pause) {
            continue;
        }
        asked = Some(Instant::now());
        // Over a bad network a quorum has just answered now and then only. Waited for first: the answers must not grow old.
        let may = (rises || enrols) && leads_with_quorum(core.status.subscribe(), core.id).await;
        // The level rises only by the answers of all.
        let patience = if may && (rises || patient) { ANSWER_MAX } else { ANSWER_TIMEOUT };
        let answers = core.call_the_roll(patience).await;
        // First, for these answers age. A store that was named once is the member's for ever.
        let raised = may && rises && raise(core, &answers).await;
        patient = may && enrol(core, &answers).await == 0;
        if rises && !raised && told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            told = Some(Instant::now());
            let level = core.feature_level();
            tracing::info!(level, why = %core.held_back_by(level), "the feature level does not rise yet");
        }
    }
}

/// Whether the level rises now. Only when *every* member has just answered: one that was started with an older
/// program again must not be left behind. So it is written soon, or not by these answers.
///
/// Nor while somebody joins, who was asked whether he knows the level that there was.
async fn raise(core: &Core, answers: &Answers) -> bool {
    let deadline = Instant::now() + FRESH;
    let Ok(_nobody_joins) = timeout_at(deadline, core.joining.lock()).await else { return false };
    let all = core.other_members().iter().all(|(id, _)| answers.contains_key(id));
    let others = answers.values().map(|(program, _)| program.feature_level_max);
    let known = others.fold(core.roster.feature_level_max(), u16::min);
    let early = planted(Mutant::LevelTooEarly);
    let (all, known) = if early { (true, core.roster.feature_level_max()) } else { (all, known) };
    let level = core.feature_level();
    if !all || known <= level {
        return false;
    }
    let command = Command::raise_feature_level_to(known);
    loop {
        match core.propose_here(&command, None, deadline).await {
            Attempt::Committed(_) => {
                tracing::info!(from = level, to = known, "the feature level rises: every member knows it");
                return true;
            }
            // Its lease has ended since it was looked at, or leadership is moving.
            Attempt::NotLeader { .. }
                if core.leader() == Some(core.id) && Instant::now() + PAUSE < deadline =>
            {
                sleep(PAUSE).await;
            }
            Attempt::Unknown(why) => {
                tracing::info!(
                    from = level,
                    to = known,
                    why,
                    "the feature level rises, or will be raised again"
                );
                return true;
            }
            attempt => {
                tracing::debug!(?attempt, "raising the feature level");
                return false;
            }
        }
    }
}

/// Binds the members that answered, and this replica, to their stores, once and for ever. How many there were to bind.
async fn enrol(core: &Core, answers: &Answers) -> usize {
    if core.feature_level() < level::STORES {
        return 0;
    }
    let mut lacking = 0;
    let others = answers.iter().filter_map(|(id, (_, store))| store.map(|store| (*id, store)));
    for (replica, store) in others.chain([(core.id, core.peers.stores().own())]) {
        if core.cell.read(|state| state.store_of(replica)).is_some() {
            continue;
        }
        lacking += 1;
        let deadline = Instant::now() + core.timing.propose;
        let attempt = core.propose_here(&Command::EnrolStore { replica, store }, None, deadline).await;
        tracing::info!(replica, %store, ?attempt, "binding a replica to its data directory");
    }
    lacking
}

impl Core {
    /// Whether the log does not know every member's store yet.
    fn lacks_stores(&self) -> bool {
        let ids: Vec<_> = self.other_members().into_iter().map(|(id, _)| id).chain([self.id]).collect();
        self.cell.read(|state| {
            state.feature_level() >= level::STORES && ids.iter().any(|id| state.store_of(*id).is_none())
        })
    }

    pub(super) fn feature_level(&self) -> u16 {
        self.cell.read(State::feature_level)
    }

    /// Why the cluster is not above this level, as far as this replica knows.
    pub(super) fn held_back_by(&self, level: u16) -> String {
        let mut unknown = Vec::new();
        let mut old = Vec::new();
        let ids = self.other_members().into_iter().map(|(id, _)| id).chain([self.id]);
        for id in ids {
            match self.roster.program_of(id) {
                None => unknown.push(format!("replica {id} has not said yet what it runs")),
                Some(program) if program.feature_level_max <= level => {
                    let known = program.feature_level_max;
                    old.push(format!("replica {id} runs {program}, which knows up to level {known}"));
                }
                Some(_) => {}
            }
        }
        old.append(&mut unknown);
        if old.is_empty() {
            "it rises as soon as all members answer this leader at about the same time and nobody is joining"
                .into()
        } else {
            old.join("; ")
        }
    }

    /// Whether a replica that is not a member yet can become one: it must be there and know the cluster's level,
    /// for it would stop at the first entry that it does not know. It has until then to answer.
    ///
    /// # Errors
    /// [`ProposeError::Unavailable`] with what to do.
    pub(super) async fn check_newcomer(
        &self,
        id: ReplicaId,
        address: &str,
        until: Instant,
    ) -> Result<(), ProposeError> {
        let patience = until.saturating_duration_since(Instant::now());
        let standing = self.standing_within(patience, id, address).await.map_err(|status| {
            let reason = status.message();
            ProposeError::Unavailable(format!(
                "replica {id} at {address} does not answer ({reason}): start it before it is added"
            ))
        })?;
        let (program, level) = (program(&standing), self.feature_level());
        if program.feature_level_max >= level {
            return Ok(());
        }
        Err(ProposeError::Unavailable(format!(
            "the cluster is at feature level {level}, which needs muxd {} or later; replica {id} runs {program}: \
             upgrade it before it is added",
            version_of(level)
        )))
    }
}
