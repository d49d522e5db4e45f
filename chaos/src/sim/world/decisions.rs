//! A decision as the state tells it that took it, and what it must not leave undecided.

use mux_raft::machine::State;
use mux_raft::machine::model::{Event, EventKind, Htlc, LND_INTERCEPT_DELTA, Verdict};
use mux_raft::types::{LogIndex, Msat};

/// The entry that decided what an event tells of, unless the set is final, and archived, by now.
pub(super) fn entry_of(state: &State, event: &Event) -> Option<LogIndex> {
    parts(state, event)?.first().map(|part| part.decided_at_index).filter(|index| *index > 0)
}

/// What must not be of the set whose decision this event tells of.
pub(super) fn look_at(state: &State, event: &Event) -> Vec<String> {
    [amount(state, event), verdicts(state, event), deadline(state, event)].into_iter().flatten().collect()
}

/// The decided set's parts that the state knows.
fn parts<'a>(state: &'a State, event: &Event) -> Option<Vec<&'a Htlc>> {
    let EventKind::Settling { .. } = &event.kind else { return None };
    let set = state.invoice(&event.hash)?.set.as_ref()?;
    Some(set.parts.iter().filter_map(|key| state.htlc(key)).collect())
}

/// A set is decided that is worth less than was asked for, or more than twice that (BOLT 4, "Requirements" of the final
/// node), or less than its payer announced.
fn amount(state: &State, event: &Event) -> Option<String> {
    let EventKind::Settling { amount_msat, .. } = &event.kind else { return None };
    let invoice = state.invoice(&event.hash)?;
    let (asked, announced) =
        (invoice.terms.amount_msat, invoice.set.as_ref().map(|set| set.total_msat).unwrap_or_default());
    (!fits(*amount_msat, asked, announced)).then(|| {
        format!("{amount_msat} settle {}, for which {asked} were asked, {announced} announced", event.hash)
    })
}

/// Whether this much settles an invoice that asks for so much (0: for any amount), of which the payer announced so much.
fn fits(amount: Msat, asked: Msat, announced: Msat) -> bool {
    let enough = amount.0 > 0 && amount >= asked.max(announced);
    enough && (asked.0 == 0 || amount.0 <= asked.0.saturating_mul(2))
}

/// One set has one verdict.
fn verdicts(state: &State, event: &Event) -> Option<String> {
    let differs = |part: &&Htlc| part.verdict != Some(Verdict::Settle);
    let other = parts(state, event)?.into_iter().find(differs)?;
    Some(format!("{} of the decided set of {} has the verdict {:?}", other.key, event.hash, other.verdict))
}

/// A part is so near to its expiry that LND fails it by itself (`invoices`, the interceptor's auto-fail), by the height that
/// the state knew. Later entries may have brought another height.
fn deadline(state: &State, event: &Event) -> Option<String> {
    if entry_of(state, event)? != state.applied().index {
        return None;
    }
    parts(state, event)?.into_iter().find_map(|part| {
        let height = state.front_node(&part.key.node)?.tip?.height;
        let fails_at = part.incoming_expiry.saturating_sub(LND_INTERCEPT_DELTA);
        let late = height >= fails_at;
        late.then(|| {
            format!("{} was decided at height {height}: LND fails {} at {fails_at}", event.hash, part.key)
        })
    })
}

/// A set that waits although LND fails a part of it by itself at the height that the state knows: it was to be failed before
/// (README, What is promised).
pub(super) fn overdue(state: &State) -> Option<String> {
    state.undecided_sets().find_map(|invoice| {
        let parts = invoice.set.iter().flat_map(|set| &set.parts).filter_map(|key| state.htlc(key));
        parts.filter(|part| part.verdict.is_none()).find_map(|part| {
            let height = state.front_node(&part.key.node)?.tip?.height;
            let fails_at = part.incoming_expiry.saturating_sub(LND_INTERCEPT_DELTA);
            let late = height >= fails_at;
            late.then(|| {
                let hash = invoice.hash;
                format!("the set of {hash} waits at height {height}: LND fails {} at {fails_at}", part.key)
            })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_little_or_too_much_does_not_fit() {
        for (amount, asked, announced, right) in [
            (100, 100, 100, true),
            (99, 100, 100, false),
            (200, 100, 200, true),
            (201, 100, 201, false),
            (150, 100, 160, false),
            (100, 0, 100, true),
            (99, 0, 100, false),
            (1, 0, 0, true),
            (0, 0, 0, false),
        ] {
            assert_eq!(
                fits(Msat(amount), Msat(asked), Msat(announced)),
                right,
                "{amount} {asked} {announced}"
            );
        }
    }
}
