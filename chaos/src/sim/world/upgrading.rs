//! A rolling upgrade: replicas that know only the feature level before the last are ended one after the other and started
//! as what they are, while all else goes on.

use super::World;
use crate::sim::coverage::Condition;
use crate::sim::host::Ending;
use mux_raft::machine::command::COMMAND_FORMAT;
use rand::Rng as _;

impl World {
    /// One that has the old version gets the new one.
    pub(super) fn upgrade_one(&mut self) -> bool {
        let old: Vec<usize> = (0..self.hosts.len()).filter(|at| self.is_old(*at)).collect();
        if old.is_empty() {
            return false;
        }
        let at = old[self.faults.rng().random_range(0..old.len())];
        if old.len() < self.hosts.len() && self.leader().is_some() {
            self.coverage.met(Condition::VersionsMixed);
        }
        self.upgrade(at);
        true
    }

    /// All others, too.
    pub(super) fn upgrade_all(&mut self) {
        for at in 0..self.hosts.len() {
            if self.is_old(at) {
                self.upgrade(at);
            }
        }
    }

    fn is_old(&self, at: usize) -> bool {
        self.hosts[at].feature_level_max() < COMMAND_FORMAT
    }

    fn upgrade(&mut self, at: usize) {
        if self.hosts[at].is_up() {
            self.end_process(at, Ending::Killed);
        }
        self.trace.event(self.now, self.hosts[at].column(), format_args!("gets the new version"));
        self.hosts[at].set_feature_level_max(COMMAND_FORMAT);
        self.faults.starts_again(self.now, at);
    }
}
