//! What must have happened for runs to count: a simulation that never met the hard moments proves nothing.

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

macro_rules! conditions {
    ($($condition:ident $need:ident $text:literal,)*) => {
        /// A moment worth meeting.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Condition {
            $(#[doc = $text] $condition,)*
        }

        impl Condition {
            /// All there are.
            pub const ALL: &[Self] = &[$(Self::$condition,)*];

            /// In words.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Self::$condition => $text,)* }
            }

            /// Whether runs in which it never happened count.
            #[must_use]
            pub const fn need(self) -> Need {
                match self { $(Self::$condition => Need::$need,)* }
            }
        }
    };
}

/// Whether something must have happened for runs to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// It must.
    Required,
    /// It is rare: it must in many runs.
    InMany,
}

// To be continued by whoever adds hosts and faults: a name, whether runs without it count, and what it says.
conditions! {
    Killed Required "a replica was killed and came back",
    LeaderKilled Required "the leader was killed",
    PowerCut Required "a replica lost its power and came back",
    UnsyncedLost Required "a power cut took something that was written and not synced",
    BatchTorn InMany "a power cut left a part of a batch",
    Partitioned Required "the cluster was cut in two",
    OneWay Required "messages passed in one direction only",
    LeaderCutOff Required "the leader was on the smaller side, and the others elected another",
    Paused Required "a replica stood still for longer than an election",
    LeaderPaused Required "the leader stood still for longer than an election",
    ConnectionsBroken Required "connections broke between replicas that ran on",
    Duplicated Required "a request arrived twice",
    AnswerLost Required "an answer was lost, with its connection, after the request was heard",
    Overtaken Required "a request arrived after one that the same caller sent later, over another connection",
    SlowLink Required "messages between two replicas were slow",
    ClockJumped Required "a replica's wall clock jumped",
    DiskFailed Required "a replica's disk failed and its replica stopped",
    DiskFull Required "a replica's disk was full and its replica stopped",
    DiskSlow Required "a disk took longer than an election",
    SnapshotInstalled Required "a replica caught up by snapshot",
    TermsPassed Required "several elections were won in one run",
    UnknownOutcome Required "a proposal ended with its outcome unknown",
    DiedWithProposals Required "the leader died with proposals under way",
    CommittedByFollower Required "a proposal made at a follower was committed",
    ReadByFollower Required "a linearizable read was answered by a follower",
    CrashedAtPoint Required "a replica died at a named point of its code",
    DiedInInstall Required "a replica died while it took a snapshot",
    WipedRefused Required "a replica that lost its disk was refused under its old id",
    Replaced Required "a replica joined, was promoted, and took the place of one that was removed",
    RemovedAlive Required "a replica was removed while it ran, under load",
    Regrown Required "one that had been removed joined again under another id, and voted",
    TailReplaced Required "a replica died when a tail that only it had was being replaced",
    OwnerLags Required "the owner of a link lagged behind when its stream broke",
    WaitedForLink Required "a complete set waited for a link that was down",
    VersionsMixed Required "replicas of two versions ran under load",
    LevelRose Required "the feature level rose after an upgrade under load",
    AllDown InMany "no replica was running",
    DiedDecided Required "the leader died between a decision and its first answer",
    LinkMoved Required "a link moved with HTLCs in flight",
    LinkDegraded InMany "a link was degraded",
    LndDiedHolding Required "an LND node died while it held HTLCs",
    LndFailedOver Required "an LND node died while it held HTLCs, and its standby became the leader",
    LndRestartedHolding Required "an LND node was restarted while it held HTLCs",
    LndStoodStill Required "an LND node stood still while it held HTLCs",
    CutHolding Required "connections to an LND node were reset or stalled while it held HTLCs",
    StormHolding Required "the peers of an LND node flapped while it held HTLCs",
    ClosedWithHtlcs Required "a channel with HTLCs was closed by force",
    Rescued Required "the cluster closed a channel whose peer took preimages and signed nothing",
    FinalUnheard Required "an HTLC ended, nobody was told, and the cluster found out",
    Reorganised Required "the chain lost blocks while HTLCs were held",
    OwnerCutOff Required "a replica was cut off from the LND node whose link it had, and from nothing else",
    SetOverNodes Required "a set over several LND nodes was decided",
    SetTimedOut Required "an incomplete set was failed",
    AcceptedCanceled Required "an accepted set was cancelled",
    AcceptedTimedOut InMany "an accepted set found nobody to decide",
    DeadlineMet Required "a set was failed because blocks ran short",
    UndecidedOnChain InMany "an undecided set was failed because a part went on chain",
    DecidedOnChain Required "a decided HTLC went on chain and was settled there",
    Partial InMany "LND lost a part of a decided set",
    SettledAgain Required "a SETTLE was sent again",
    SettleRescued Required "LND had taken a SETTLE and lost it, and was given it again",
    FailRescued Required "LND had taken a FAIL and lost it, and was given it again",
    Replayed Required "an HTLC was offered again and answered",
    CompletedByReplay Required "a set was completed by an HTLC that was offered again",
    FailedAndClaimed InMany "an LND node claimed on chain what the cluster had failed",
    FailedByLnd InMany "LND failed a held HTLC by itself",
    FailedEarly InMany "LND failed a held HTLC a block before it had to",
    Overpaid Required "more than asked for was taken",
    AnyAmountPaid Required "an invoice was paid that named no amount",
    StatelessPaid Required "an invoice was paid that nobody had stored",
    TwoPhasePaid Required "an application settled what had been accepted",
    CanceledInFlight Required "an invoice was cancelled while it was paid, and all was failed",
    PaidAgain Required "who paid a paid invoice again got it back",
    ProbeFailed Required "who did not do what the invoice says got it back",
    ExpiredFailed Required "who paid too late got it back",
    Forwarded Required "an HTLC for somebody else passed",
    ForwardedWithoutLeader Required "an HTLC for somebody else passed while nobody led",
}

/// How often each condition was met. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    counts: Arc<Mutex<Counts>>,
}

/// By condition; those that never were are missing.
pub type Counts = BTreeMap<Condition, u64>;

impl Coverage {
    /// It happened.
    pub fn met(&self, condition: Condition) {
        self.met_times(condition, 1);
    }

    /// It happened this often.
    pub fn met_times(&self, condition: Condition, times: u64) {
        if times > 0 {
            *self.counts.lock().entry(condition).or_default() += times;
        }
    }

    /// So far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts.lock().clone()
    }

    /// Adds those of another run.
    pub fn add(&self, counts: &Counts) {
        for (condition, times) in counts {
            self.met_times(*condition, *times);
        }
    }

    /// What must have happened, as this says, and never did.
    #[must_use]
    pub fn missing(&self, need: Need) -> Vec<Condition> {
        let counts = self.counts.lock();
        let never = |condition: &&Condition| condition.need() == need && !counts.contains_key(condition);
        Condition::ALL.iter().filter(never).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_count_when_everything_required_has_happened() {
        let (all, part) = (Coverage::default(), Coverage::default());
        for condition in Condition::ALL.iter().filter(|condition| condition.need() == Need::Required) {
            if *condition == Condition::Paused { part.met(*condition) } else { all.met(*condition) }
        }
        assert_eq!(all.missing(Need::Required), [Condition::Paused]);
        all.add(&part.counts());
        assert_eq!(all.missing(Need::Required), []);
        let rare = all.missing(Need::InMany);
        assert!(rare.contains(&Condition::BatchTorn), "never met: {rare:?}");
    }
}
