//! Whether this replica should be given work. Unlike liveness it depends on the cluster.

use mux_raft::consensus::RaftStatus;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::watch;

/// Entries that a ready replica may be behind what it knows to be committed.
const APPLY_LAG_MAX: u64 = 1_000;

/// One reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Its name.
    pub name: &'static str,
    /// Passed.
    pub ok: bool,
    /// What was seen.
    pub seen: String,
}

/// Collects the reasons.
#[derive(Debug, Default)]
pub struct Readiness {
    raft: std::sync::OnceLock<watch::Receiver<RaftStatus>>,
    serving: AtomicBool,
    draining: AtomicBool,
    in_doubt: AtomicU64,
}

impl Readiness {
    /// Consensus has started.
    pub fn watch_raft(&self, raft: watch::Receiver<RaftStatus>) {
        // Set once at start; a second call would be a second consensus.
        let _ = self.raft.set(raft);
    }

    /// The API takes calls.
    pub fn set_serving(&self) {
        self.serving.store(true, Ordering::Relaxed);
    }

    /// HTLCs that LND has yet to speak of after a restoration.
    pub fn set_in_doubt(&self, htlcs: u64) {
        self.in_doubt.store(htlcs, Ordering::Relaxed);
    }

    /// The replica is about to stop.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Why this replica stopped for good, if it did: not even alive.
    #[must_use]
    pub fn fatal(&self) -> Option<String> {
        self.raft.get().and_then(|raft| raft.borrow().fatal.clone())
    }

    /// All passed.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.checks().iter().all(|check| check.ok)
    }

    /// Every reason, passed or not.
    #[must_use]
    pub fn checks(&self) -> Vec<Check> {
        let draining = self.draining.load(Ordering::Relaxed);
        let serving = self.serving.load(Ordering::Relaxed);
        let mut checks = vec![
            check("not-draining", !draining, if draining { "about to stop" } else { "no" }.into()),
            check("api", serving, if serving { "listens" } else { "not started yet" }.into()),
        ];
        let Some(raft) = self.raft.get().map(|raft| raft.borrow().clone()) else {
            checks.push(check("consensus", false, "not started yet".into()));
            return checks;
        };
        let fatal = raft.fatal.clone();
        checks.push(check("consensus", fatal.is_none(), fatal.unwrap_or_else(|| "runs".into())));
        let removed = raft.removed.clone();
        checks.push(check("member", removed.is_none(), removed.unwrap_or_else(|| "not removed".into())));
        let leader = match (raft.leader, raft.quorum) {
            (None, _) => "none known".into(),
            (Some(id), true) => format!("replica {id}"),
            (Some(id), false) if id == raft.id => format!("this replica, {id}, but no majority answers it"),
            (Some(id), false) => format!("it was replica {id}, which is not heard any more"),
        };
        checks.push(check("leader", raft.leader.is_some() && raft.quorum, leader));
        let quorum = if raft.quorum { "in contact" } else { "out of contact" };
        checks.push(check("quorum", raft.quorum, quorum.into()));
        if !raft.refusals.is_empty() {
            // With a leader it is the others' business; without one it may be why.
            let words = raft.refusals.iter().map(|(id, why)| format!("replica {id} refuses: {why}"));
            checks.push(check("peers", raft.leader.is_some(), words.collect::<Vec<_>>().join("; ")));
        }
        let in_doubt = self.in_doubt.load(Ordering::Relaxed);
        if in_doubt > 0 {
            let seen = format!("{in_doubt} HTLCs in doubt after a restoration; see muxcli status");
            checks.push(check("reconciled", false, seen));
        }
        let lag = raft.committed.saturating_sub(raft.applied);
        checks.push(check("applied", lag <= APPLY_LAG_MAX, format!("{lag} entries behind")));
        checks
    }

    /// For people, in the form of other systems' probes.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for Check { name, ok, seen } in self.checks() {
            let sign = if ok { '+' } else { '-' };
            // Writing to a string cannot fail.
            let _ = writeln!(text, "[{sign}]{name} {}: {seen}", if ok { "ok" } else { "failed" });
        }
        let verdict = if self.is_ready() { "ready" } else { "not ready" };
        text.push_str(verdict);
        text.push('\n');
        text
    }
}

fn check(name: &'static str, ok: bool, seen: String) -> Check {
    Check { name, ok, seen }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(readiness: &Readiness) -> Vec<&'static str> {
        readiness.checks().into_iter().filter(|check| !check.ok).map(|check| check.name).collect()
    }

    #[test]
    fn every_reason_counts() {
        let readiness = Readiness::default();
        assert_eq!(failed(&readiness), ["api", "consensus"]);
        let (sender, receiver) = watch::channel(RaftStatus::default());
        readiness.watch_raft(receiver);
        readiness.set_serving();
        assert_eq!(failed(&readiness), ["leader", "quorum"]);
        sender.send_modify(|raft| {
            raft.refusals.insert(2, "this is replica 2 of cluster ab".into());
        });
        assert_eq!(failed(&readiness), ["leader", "quorum", "peers"]);
        let told = "[-]peers failed: replica 2 refuses: this is replica 2 of cluster ab\n";
        assert!(readiness.text().contains(told), "{}", readiness.text());
        sender.send_modify(|raft| {
            raft.leader = Some(2);
            raft.quorum = true;
        });
        assert!(readiness.is_ready());
        assert!(readiness.text().ends_with("\nready\n"));
        sender.send_modify(|raft| raft.quorum = false);
        assert_eq!(failed(&readiness), ["leader", "quorum"], "it is dead, or this is the minority");
        assert!(readiness.text().contains("[-]leader failed: it was replica 2"), "{}", readiness.text());
        sender.send_modify(|raft| raft.quorum = true);
        sender.send_modify(|raft| raft.committed = APPLY_LAG_MAX + 1);
        assert_eq!(failed(&readiness), ["applied"]);
        sender.send_modify(|raft| {
            raft.committed = 0;
            raft.fatal = Some("disk".into());
        });
        assert_eq!(failed(&readiness), ["consensus"]);
        assert_eq!(readiness.fatal(), Some("disk".into()));
        sender.send_modify(|raft| raft.fatal = None);
        readiness.set_in_doubt(2);
        assert_eq!(failed(&readiness), ["reconciled"]);
        readiness.set_in_doubt(0);
        sender.send_modify(|raft| {
            raft.fatal = None;
            raft.removed = Some("replica 3 was removed".into());
        });
        assert_eq!(failed(&readiness), ["member"]);
        sender.send_modify(|raft| raft.removed = None);
        readiness.drain();
        assert_eq!(failed(&readiness), ["not-draining"]);
        assert!(readiness.text().contains("[-]not-draining failed"), "{}", readiness.text());
    }
}
