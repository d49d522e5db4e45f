//! The log as it was written, from its first entry on, applied once more by nobody who took part: no snapshot, no archive of
//! a replica and no restart comes in between.

mod numbers;

use super::{Logs, words};
use mux_raft::archive::{Archive as _, MemoryArchive};
use mux_raft::machine::{LogPosition, State};
use mux_raft::store::Inspected;
use numbers::Numbers;

impl Logs {
    /// The state after this entry, by itself and all before it; what it says of its own numbers was checked on the way.
    pub(in crate::sim::world) fn replay(&self, upto: LogPosition) -> Result<State, String> {
        let (mut state, archive, mut numbers) =
            (State::default(), MemoryArchive::default(), Numbers::default());
        for at in self.leading_to(upto)? {
            let wrong = |why: &dyn std::fmt::Display| format!("{}, replayed: {why}", words(at));
            let (bytes, _) = self.entries.get(&(at.index, at.term)).ok_or_else(|| wrong(&"is nowhere"))?;
            let command = Inspected::command(bytes).map_err(|error| wrong(&error))?;
            let applied = state.apply(at, command.as_deref(), &archive).map_err(|error| wrong(&error))?;
            archive.append(applied.archived).map_err(|error| wrong(&error))?;
            for event in &applied.changes {
                numbers.look(&state, &archive, event).map_err(|error| wrong(&error))?;
            }
        }
        Ok(state)
    }

    /// The first entry and all after it up to this one: each names the term of the one before.
    fn leading_to(&self, upto: LogPosition) -> Result<Vec<LogPosition>, String> {
        let (mut line, mut next) = (Vec::new(), Some(upto));
        while let Some(at) = next {
            let before = self.entries.get(&(at.index, at.term)).map(|(_, term_before)| *term_before);
            let before = before.ok_or_else(|| format!("{} was never in any log", words(at)))?;
            line.push(at);
            next = before.map(|term| LogPosition { term, index: at.index.saturating_sub(1) });
        }
        line.reverse();
        match line.first() {
            Some(first) if first.index > 0 => {
                Err(format!("what stood before {} is not known", words(*first)))
            }
            _ => Ok(line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{at, durable_commands};
    use mux_raft::machine::Command;

    #[test]
    fn the_log_is_read_again_from_its_first_entry_along_the_line_that_leads_to_the_last() {
        let ticks = [(1, 0), (1, 1), (1, 2), (1, 3), (2, 3), (2, 4)];
        let time_ms = |(term, index): (u64, u64)| 1_000 * term + index;
        let logs = durable_commands(ticks.map(|entry| (entry, time_ms(entry), Command::Tick)));
        let state = logs.replay(at(2, 4)).unwrap();
        assert_eq!((state.applied(), state.time_ms()), (at(2, 4), 2_004));
        let state = logs.replay(at(1, 3)).unwrap();
        assert_eq!((state.applied(), state.time_ms()), (at(1, 3), 1_003), "one that another has replaced");
        assert_eq!(logs.replay(at(2, 5)), Err("entry 5 of term 2 was never in any log".into()));
    }

    #[test]
    fn a_log_of_which_the_beginning_is_missing_is_not_read() {
        let mut logs = durable_commands([((1, 0), 1, Command::Tick), ((1, 1), 2, Command::Tick)]);
        logs.entries.get_mut(&(1, 1)).unwrap().1 = None;
        assert_eq!(logs.replay(at(1, 1)), Err("what stood before entry 1 of term 1 is not known".into()));
    }
}
