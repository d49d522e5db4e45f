//! Feature levels: how versions that know different commands and rules share one log.
//!
//! The log says which level the cluster is at. A command belongs to the level that introduced it and is only
//! proposed once the cluster is there; a rule that changes what an entry does asks for the level first. The
//! leader raises the level when every member knows it, and it never goes back: whoever does not know it stops.
//!
//! | level | since | what |
//! |---|---|---|
//! | 1 | 0.1.0 | the beginning |
//! | 2 | 0.2.0 | the archive of finished invoices and events, and everything that [`super::Command::level`] says |
//! | 3 | 0.3.0 | removing a front node fails the undecided sets with a part there; [`super::model::EventKind::Voided`] |

use super::apply::Step;
use super::command::{COMMAND_FORMAT, Command};
use super::reply::{Rejection, Reply};
use super::state::State;

/// The level of a cluster that never raised it.
pub const FIRST: u16 = 1;

/// From this level on finished invoices and old events move to the archive.
pub const ARCHIVE: u16 = 2;

/// From this level on the log knows which data directory is which replica's.
pub const STORES: u16 = 2;

/// From this level on a set is not left waiting for a front node that was removed.
pub const REMOVAL_FAILS_SETS: u16 = 3;

/// From this level on events may say that a restoration cancelled an invoice.
pub const VOIDED: u16 = 3;

/// The first version that knows a level, for the message of one that does not.
#[must_use]
pub fn version_of(level: u16) -> &'static str {
    match level {
        0 | FIRST => "0.1.0",
        2 => "0.2.0",
        3 => "0.3.0",
        _ => "a later version",
    }
}

impl Command {
    /// The feature level that introduced this command.
    #[must_use]
    pub fn level(&self) -> u16 {
        match self {
            Self::Tick
            | Self::Configure(_)
            | Self::PutFrontNode { .. }
            | Self::AssignLink { .. }
            | Self::LinkUp { .. }
            | Self::LinkReport { .. }
            | Self::LinkDown { .. }
            | Self::OfferHtlcs { .. }
            | Self::HtlcFinals { .. }
            | Self::ResolveHtlc { .. }
            | Self::AddInvoice(_)
            | Self::SettleInvoice { .. }
            | Self::CancelInvoice { .. } => FIRST,
            Self::RaiseFeatureLevel { .. }
            | Self::SetRetention { .. }
            | Self::AcceptRestoration
            | Self::EnrolStore { .. }
            | Self::NoteLogs { .. }
            | Self::PutFrontNodeAccess { .. }
            | Self::SetFrontNodeDisabled { .. }
            | Self::RemoveFrontNode { .. }
            | Self::RetireReplica { .. } => 2,
        }
    }

    /// The level that the cluster must be at for this command to be proposed. Raising it is what comes before.
    #[must_use]
    pub fn needs_level(&self) -> u16 {
        match self {
            Self::RaiseFeatureLevel { .. } => FIRST,
            other => other.level(),
        }
    }

    /// Raises the cluster to the highest level that this version knows.
    #[must_use]
    pub fn raise_feature_level() -> Self {
        Self::raise_feature_level_to(COMMAND_FORMAT)
    }

    /// Raises the cluster to a level, which every member must know.
    #[must_use]
    pub fn raise_feature_level_to(level: u16) -> Self {
        Self::RaiseFeatureLevel { level, version: version_of(level).into() }
    }
}

impl State {
    pub(super) fn raise_feature_level(&mut self, step: &mut Step, level: u16) -> Reply {
        let now = self.feature_level();
        if level < now {
            return Reply::Rejected(Rejection::Invalid(format!("the cluster is at feature level {now}")));
        }
        self.more.level = level;
        if now < REMOVAL_FAILS_SETS && level >= REMOVAL_FAILS_SETS {
            // What removals at former levels left behind.
            self.fail_sets_at_removed(step);
        }
        Reply::Done
    }
}
