//! Deliberate bugs, by which it is shown that the tests would find such.
//!
//! With the feature `mutants` all of them are built in, and none is in force but the one that the environment variable
//! [`VARIABLE`] names when the process first asks. Without the feature [`planted`] is constantly false and nothing of them
//! is left in the program: only `chaos` turns it on, for its program `mutants`, and nothing in production ever does.
//!
//! What stands at the places where they are planted is the wrong behaviour, and nothing else.

/// Names the bug that is in force.
pub const VARIABLE: &str = "MUX_MUTANT";

macro_rules! mutants {
    ($($mutant:ident $name:literal $what:literal,)*) => {
        /// A deliberate bug.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Mutant {
            $(#[doc = $what] $mutant,)*
        }

        impl Mutant {
            /// All there are.
            pub const ALL: &[Self] = &[$(Self::$mutant,)*];

            /// What [`VARIABLE`] calls it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$mutant => $name,)* }
            }

            /// What is wrong.
            #[must_use]
            pub const fn what(self) -> &'static str {
                match self { $(Self::$mutant => $what,)* }
            }
        }
    };
}

mutants! {
    AckBeforeSync "ack-before-fsync" "Entries and votes are acknowledged when they are written, before they are synced.",
    VoteNotPersisted "vote-not-persisted" "A vote is acknowledged and never written.",
    TruncateNotPersisted "truncate-not-persisted" "Entries that the leader's replace are cut off in memory and stay on disk.",
    CutAtOnce "cut-off-before-snapshot" "What a snapshot's installation cuts off leaves the disk before the snapshot is there.",
    OpenUnsynced "open-without-sync" "What a killed process wrote and did not sync is acknowledged by the next one, which does not sync it either.",
    PurgeTooFar "purge-one-too-far" "A purge deletes one entry more than the snapshot has.",
    SkipEntry "apply-skips-an-entry" "The last of several entries that are applied together is not.",
    SnapshotLacksLast "snapshot-drops-last" "A snapshot names its last entry and holds the state before it.",
    ArchiveNotSynced "archive-not-synced" "A snapshot gets its name before the archive that it names is durable.",
    ForgetDedupe "forget-dedupe" "A repeated request is executed again.",
    DedupeNotInSnapshot "dedupe-not-in-snapshot" "Snapshots lack the requests that were answered.",
    LocalClock "local-clock-in-apply" "Entries are applied at the time of the replica's own clock.",
    StaleRead "stale-read" "A linearizable read is answered from the applied state as it is.",
    AnswerBeforeCommit "answer-before-commit" "The leader answers what the entry will do when it is committed, before it is.",
    AnswerBeforeApply "answer-before-apply" "A proposer is answered before the entry is applied at its replica.",
    WipedReplicaVotes "wiped-replica-votes" "A replica that lost its disk goes on under its old id as if it founded the cluster, and no message is refused for the disk it comes from.",
    LevelTooEarly "level-raised-too-early" "The feature level rises before every member knows it.",
    CancelAfterDecision "cancel-after-decision" "An invoice is cancelled although it was decided to settle its set.",
    DeadLinkSettles "dead-link-completes-set" "A set is settled although the link of one of its HTLCs is down.",
    SettleUndecided "settle-before-decision" "A link settles an HTLC that the log knows before its set is decided.",
    DeadlineAtExpiry "deadline-at-expiry" "Sets are decided, and kept waiting, until their HTLCs expire, as if LND did not fail them before.",
    WaitsPastDeadline "waits-past-deadline" "A set that was not decided before its deadline is not failed then.",
    TimeOfOne "time-of-one-clock" "The leader sets log time by its own wall clock, whatever those of the others show.",
    MppTimeoutEarly "mpp-timeout-early" "A set that is incomplete is failed after half of the time that its payer has.",
    RefusesInTime "refuses-with-blocks-left" "HTLCs with all the blocks that their invoice asks for are refused as if they had too few.",
    UnderpaidSettles "underpaid-settles" "A set is complete when half of what its payer announced is there.",
    FailsWithoutQuorum "fails-without-quorum" "A link without a quorum fails what it cannot propose, and does not hold it.",
    ForwardsWait "forwards-wait-for-log" "HTLCs for others pass only over a stream that the log knows already.",
    PartOfSetSettles "settle-part-of-set" "The decision settles all HTLCs of the set but the first.",
    SettledUnconfirmed "settled-without-lnd" "An invoice is called settled when it is decided, before LND confirmed anything.",
    ReplayUnbarred "replay-without-barrier" "A link answers HTLCs from the state that it has, however far it lags behind.",
}

impl Mutant {
    /// By its name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|mutant| mutant.name() == name)
    }
}

/// Whether this bug is in force.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
#[must_use]
pub const fn planted(_mutant: Mutant) -> bool {
    false
}

/// Whether this bug is in force.
///
/// # Panics
/// [`VARIABLE`] names none.
#[cfg(feature = "mutants")]
#[must_use]
pub fn planted(mutant: Mutant) -> bool {
    static PLANTED: std::sync::OnceLock<Option<Mutant>> = std::sync::OnceLock::new();
    let named = || {
        let name = std::env::var(VARIABLE).ok()?;
        Some(Mutant::named(&name).expect("the variable names a mutant: whoever set it knows them"))
    };
    *PLANTED.get_or_init(named) == Some(mutant)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[cfg(not(feature = "mutants"))]
    #[test]
    fn without_the_feature_none_can_be_planted() {
        // A constant, so that the compiler removes what stands behind it.
        const { assert!(!planted(Mutant::AckBeforeSync) && !planted(Mutant::ReplayUnbarred)) };
        assert!(Mutant::ALL.iter().all(|mutant| !planted(*mutant)));
    }

    #[test]
    fn each_has_a_name_of_its_own() {
        let names: BTreeSet<&str> = Mutant::ALL.iter().map(|mutant| mutant.name()).collect();
        assert_eq!(names.len(), Mutant::ALL.len());
        assert!(Mutant::ALL.iter().all(|mutant| Mutant::named(mutant.name()) == Some(*mutant)));
        assert_eq!(Mutant::named("none"), None);
    }
}
