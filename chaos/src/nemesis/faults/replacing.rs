//! A new replica is added, then an old one removed, as an operator does it.

use super::engine::Engine;
use crate::{cluster::ClusterError, nemesis::clients::roster::Roster};
use rand::{SeedableRng as _, rngs::StdRng};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

/// One call that adds a member, which waits until it votes.
const ADD_MAX: Duration = Duration::from_secs(30);

/// Before a call is repeated: what was in its way may be gone.
const TRY_AGAIN: Duration = Duration::from_millis(300);

/// How long a removed replica may take to learn of it and to end.
const END_MAX: Duration = Duration::from_secs(60);

/// Where it is.
#[derive(Debug)]
enum Step {
    /// The new one copies the log; then it votes.
    Adding(AbortOnDropHandle<()>),
    /// The old one is removed.
    Removing(u64, AbortOnDropHandle<()>),
    /// It must end by itself.
    Ending(u64, Instant),
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Replacing {
    new: u64,
    chance: u64,
    step: Step,
}

impl Replacing {
    /// The new replica runs at this address.
    pub(super) fn begin(new: u64, address: String, chance: u64, roster: &Roster) -> Self {
        let roster = roster.clone();
        let adding = tokio::spawn(async move {
            let mut rng = StdRng::seed_from_u64(chance);
            // Refused while something is in the way; a call whose answer got lost may be repeated.
            while roster.any(&mut rng).add_member(new, &address, ADD_MAX).await.is_err() {
                tokio::time::sleep(TRY_AGAIN).await;
            }
        });
        Self { new, chance, step: Step::Adding(AbortOnDropHandle::new(adding)) }
    }

    /// Who may end.
    pub(super) fn leaves(&self) -> Option<u64> {
        match self.step {
            Step::Adding(_) => None,
            Step::Removing(id, _) | Step::Ending(id, _) => Some(id),
        }
    }
}

impl Engine {
    /// The next step; `false`: it is done.
    pub(super) async fn replace(&mut self, replacing: &mut Replacing) -> Result<bool, ClusterError> {
        match &replacing.step {
            Step::Adding(adding) => {
                if !adding.is_finished() {
                    return Ok(true);
                }
                let others = self.removable(replacing.new);
                if others.is_empty() {
                    return Ok(true);
                }
                let id = others[usize::try_from(replacing.chance).unwrap_or(0) % others.len()];
                self.story.say(format!("replica-{} votes, replica-{id} goes", replacing.new));
                let removing = self.remove(id, replacing.chance);
                replacing.step = Step::Removing(id, removing);
                Ok(true)
            }
            Step::Removing(id, removing) => {
                if removing.is_finished() {
                    replacing.step = Step::Ending(*id, Instant::now());
                }
                Ok(true)
            }
            Step::Ending(id, since) => {
                let (id, since) = (*id, *since);
                let Some(at) = self.place(id) else { return Ok(false) };
                let runs = self.cluster.replicas[at].process.is_running();
                if runs && since.elapsed() < END_MAX {
                    return Ok(true);
                }
                if runs {
                    self.violate("removed_replica_runs_on", format!("replica-{id}, {END_MAX:?} later"));
                }
                self.cluster.forget(at);
                self.net.forget(id);
                self.roster.set(&self.cluster);
                Ok(false)
            }
        }
    }

    /// Who may go for the new one: none that a fault concerns or that the others need, and none for whose version's sake it
    /// has to stay.
    fn removable(&mut self, new: u64) -> Vec<u64> {
        let mut free = self.free();
        free.retain(|id| *id != new && self.may_lose(*id));
        let all = self.cluster.replicas.iter().filter(|replica| free.contains(&replica.id));
        let versions: Vec<_> = all.map(|replica| (replica.id, replica.start_as.is_old())).collect();
        self.upgrade.removable(&versions, self.old())
    }

    fn remove(&self, id: u64, chance: u64) -> AbortOnDropHandle<()> {
        let roster = self.roster.clone();
        AbortOnDropHandle::new(tokio::spawn(async move {
            let mut rng = StdRng::seed_from_u64(chance);
            while roster.any(&mut rng).remove_member(id, false).await.is_err() {
                tokio::time::sleep(TRY_AGAIN).await;
            }
        }))
    }
}
