use super::core::Core;
use crate::consensus::Committed;
use crate::machine::{Envelope, LogPosition, Reply, State};
use crate::mutant::{Mutant, planted};
use parking_lot::Mutex;

/// The state as it will be when everything that was proposed in this term is committed: for
/// [`Mutant::AnswerBeforeCommit`].
#[derive(Debug, Default)]
pub(crate) struct Foretold(Mutex<Option<State>>);

impl Foretold {
    /// What a command will be answered that is proposed now, if nothing goes wrong.
    pub(crate) fn foretell(&self, core: &Core, envelope: &Envelope) -> Option<Committed> {
        if !planted(Mutant::AnswerBeforeCommit) {
            return None;
        }
        let (term, last) = core.look(|metrics| (metrics.current_term, metrics.last_log_index));
        let mut known = self.0.lock();
        let current = known.take().filter(|state| state.applied().term == term);
        let applied = || core.cell.read(|state| (Some(state.applied().index) == last).then(|| state.clone()));
        let mut state = current.or_else(applied)?;
        let at = LogPosition { term, index: state.applied().index.saturating_add(1) };
        let applied = state.apply(at, Some(envelope), core.cell.archive().as_ref()).ok()?;
        *known = Some(state);
        Some(Committed { at, reply: applied.reply.unwrap_or(Reply::Done) })
    }
}
