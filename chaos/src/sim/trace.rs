//! What happened in a run: a hash over all of it, and the last of it in words, one column a host.

use super::time::SimTime;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::sync::Arc;

/// Where in the trace: 0 is the world itself, then the hosts in order.
pub type Column = usize;

/// Of the world: faults, checks.
pub const WORLD: Column = 0;

const TIME_WIDTH: usize = 9;
const COLUMN_WIDTH: usize = 38;

/// What happened. Clones share it.
#[derive(Clone, Debug)]
pub struct Trace {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    hasher: Sha256,
    events: u64,
    columns: Vec<String>,
    lines: VecDeque<Line>,
    /// Lines kept, at most.
    keep: usize,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace").field("events", &self.events).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Line {
    at: SimTime,
    column: Column,
    text: String,
}

/// Gives what is written to the hash.
struct Hashing<'a>(&'a mut Sha256);

impl fmt::Write for Hashing<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.update(text.as_bytes());
        Ok(())
    }
}

impl Inner {
    fn begin(&mut self, at: SimTime, column: Column) {
        self.events += 1;
        self.hasher.update(at.as_ms().to_be_bytes());
        self.hasher.update([u8::try_from(column).unwrap_or(u8::MAX)]);
    }
}

impl Trace {
    /// Columns of these names after the world's; the last `keep` lines are kept (zero: only the hash).
    #[must_use]
    pub fn new(hosts: impl IntoIterator<Item = String>, keep: usize) -> Self {
        let columns = std::iter::once("world".to_owned()).chain(hosts).collect();
        let inner = Inner { hasher: Sha256::new(), events: 0, columns, lines: VecDeque::new(), keep };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    /// Something worth a line.
    pub fn event(&self, at: SimTime, column: Column, text: fmt::Arguments<'_>) {
        let mut inner = self.inner.lock();
        inner.begin(at, column);
        // The hash takes everything: writing to it cannot fail.
        let _ = Hashing(&mut inner.hasher).write_fmt(text);
        inner.hasher.update([0]);
        if inner.keep > 0 {
            if inner.lines.len() >= inner.keep {
                inner.lines.pop_front();
            }
            inner.lines.push_back(Line { at, column, text: text.to_string() });
        }
    }

    /// Something that only the hash has to know.
    pub fn digest(&self, at: SimTime, column: Column, parts: &[&[u8]]) {
        let mut inner = self.inner.lock();
        inner.begin(at, column);
        for part in parts {
            inner.hasher.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            inner.hasher.update(part);
        }
    }

    /// The hash over everything so far.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        self.inner.lock().hasher.clone().finalize().into()
    }

    /// How much has happened so far.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.inner.lock().events
    }

    /// The lines that were kept, as a table: time, then a column for the world and for each host.
    #[must_use]
    pub fn table(&self) -> String {
        let inner = self.inner.lock();
        let mut table = String::new();
        let mut row = |time: &str, column: Column, text: &str| {
            let _ = write!(table, "{time:>TIME_WIDTH$} ");
            for number in 0..inner.columns.len() {
                if number == column {
                    // A long text runs into the columns after its own, which are empty in this row.
                    let _ = write!(table, "| {text}");
                    break;
                }
                let _ = write!(table, "| {:COLUMN_WIDTH$}", "");
            }
            table.push('\n');
        };
        for (number, name) in inner.columns.iter().enumerate() {
            row(if number == 0 { "time" } else { "" }, number, name);
        }
        for line in &inner.lines {
            row(&line.at.to_string(), line.column, &line.text);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(keep: usize) -> Trace {
        Trace::new(["a".to_owned(), "b".to_owned()], keep)
    }

    #[test]
    fn the_hash_is_of_what_happened_when_and_where_and_not_of_what_is_kept() {
        let run = |keep: usize, at: u64, column: Column, text: &str| {
            let trace = trace(keep);
            trace.event(SimTime::from_ms(at), column, format_args!("{text}"));
            trace.digest(SimTime::from_ms(9), 1, &[b"bytes"]);
            trace.hash()
        };
        let first = run(0, 5, 1, "x");
        assert_eq!(first, run(10, 5, 1, "x"));
        for other in [run(0, 6, 1, "x"), run(0, 5, 2, "x"), run(0, 5, 1, "y")] {
            assert_ne!(first, other);
        }
    }

    #[test]
    fn parts_are_told_apart() {
        let hash = |parts: &[&[u8]]| {
            let trace = trace(0);
            trace.digest(SimTime::ZERO, 0, parts);
            trace.hash()
        };
        assert_ne!(hash(&[b"ab", b"c"]), hash(&[b"a", b"bc"]));
    }

    #[test]
    fn the_table_has_a_column_for_each_host_and_the_last_lines() {
        let trace = trace(2);
        for (number, text) in ["gone", "at b", "at a"].into_iter().enumerate() {
            trace.event(SimTime::from_ms(1500 + number as u64), 2 - number % 2, format_args!("{text}"));
        }
        let table = trace.table();
        assert!(!table.contains("gone"), "{table}");
        let place = |text: &str| {
            let line = table.lines().find(|line| line.ends_with(text)).unwrap();
            line.find(text).unwrap()
        };
        assert_eq!(place("at b"), place("| a") + 2, "the second was told in the first host's column");
        assert!(place("at a") > place("at b"));
        assert!(table.contains("1.501"), "{table}");
    }
}
