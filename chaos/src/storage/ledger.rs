use anyhow::bail;
use mux_raft::types::PaymentHash;
use std::collections::BTreeSet;
use std::fmt;

/// What the replica has acknowledged so far, as its children tell it, a line each.
#[derive(Clone, Debug, Default)]
pub(super) struct Acknowledged {
    /// Invoices that were added.
    pub(super) added: BTreeSet<u64>,
    /// Of these, those that were canceled.
    pub(super) canceled: BTreeSet<u64>,
    /// The highest term that it has led in.
    pub(super) term: u64,
}

/// One thing that was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    Added(u64),
    Canceled(u64),
    Leads { term: u64 },
}

impl Acknowledged {
    pub(super) fn take(&mut self, line: Line) {
        match line {
            Line::Added(number) => drop(self.added.insert(number)),
            Line::Canceled(number) => drop(self.canceled.insert(number)),
            Line::Leads { term } => self.term = self.term.max(term),
        }
    }

    pub(super) fn lines(&self) -> impl Iterator<Item = Line> {
        let added = self.added.iter().map(|number| Line::Added(*number));
        let canceled = self.canceled.iter().map(|number| Line::Canceled(*number));
        added.chain(canceled).chain([Line::Leads { term: self.term }])
    }

    pub(super) fn count(&self) -> usize {
        self.added.len() + self.canceled.len()
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Added(number) => write!(f, "added {number}"),
            Self::Canceled(number) => write!(f, "canceled {number}"),
            Self::Leads { term } => write!(f, "leads {term}"),
        }
    }
}

impl std::str::FromStr for Line {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        Ok(match text.split_once(' ') {
            Some(("added", number)) => Self::Added(number.parse()?),
            Some(("canceled", number)) => Self::Canceled(number.parse()?),
            Some(("leads", term)) => Self::Leads { term: term.parse()? },
            _ => bail!("{text:?} is no line of this protocol"),
        })
    }
}

/// Of an invoice's number.
pub(super) fn hash_of(number: u64) -> PaymentHash {
    let mut bytes = [0xa4; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    PaymentHash(bytes)
}

/// An invoice's text: of different lengths, and different everywhere, so that a page of another one is noticed.
pub(super) fn text_of(number: u64) -> String {
    let length = 100 + usize::try_from(number % 23).unwrap_or(0) * 120;
    (0_u64..).map(|at| char::from(b'a' + ((number * 31 + at * 7) % 26) as u8)).take(length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_read_again() {
        let mut known = Acknowledged::default();
        for line in [Line::Added(3), Line::Canceled(3), Line::Leads { term: 7 }, Line::Leads { term: 6 }] {
            known.take(line.to_string().parse().unwrap());
        }
        let told: Vec<_> = known.lines().collect();
        assert_eq!(told, [Line::Added(3), Line::Canceled(3), Line::Leads { term: 7 }]);
        assert!("added".parse::<Line>().is_err() && "lost 3".parse::<Line>().is_err());
    }

    #[test]
    fn texts_differ() {
        assert_ne!(text_of(1), text_of(2));
        assert_ne!(text_of(1), text_of(24), "of the same length");
    }
}
