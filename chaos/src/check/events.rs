//! What subscribers saw of the events: without a gap, without a double, and the same for everybody.

use std::collections::BTreeMap;

/// An event as a subscriber saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its number.
    pub sequence: u64,
    /// What it said, in any form that is the same for the same event.
    pub what: String,
}

/// What is wrong with what subscribers saw.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventFault {
    /// A subscriber got events out of order, or twice, or with one missing.
    #[error("{subscriber}: event {got} came after {before}")]
    Order {
        /// Who.
        subscriber: String,
        /// The number of the event before.
        before: u64,
        /// The number that came.
        got: u64,
    },
    /// A subscriber began with another event than the first there is.
    #[error("{subscriber}: began with event {got}")]
    Began {
        /// Who.
        subscriber: String,
        /// The number of the event with which it began.
        got: u64,
    },
    /// A subscriber has not seen the last event there is.
    #[error("{subscriber}: saw event {last} last, of {newest}")]
    Ended {
        /// Who.
        subscriber: String,
        /// The number of its last event; 0: it saw none.
        last: u64,
        /// The number of the last event that there is.
        newest: u64,
    },
    /// Two subscribers saw different events under one number.
    #[error("event {sequence} is {one:?} to one and {other:?} to another")]
    Differs {
        /// Its number.
        sequence: u64,
        /// What one saw.
        one: String,
        /// What the other saw.
        other: String,
    },
}

/// Each subscriber's events, over all its streams: who resumes must ask for what follows the last one it saw.
///
/// # Errors
/// The first fault.
pub fn check<'a>(subscribers: impl IntoIterator<Item = (&'a str, &'a [Seen])>) -> Result<(), EventFault> {
    let mut known: BTreeMap<u64, &str> = BTreeMap::new();
    for (subscriber, events) in subscribers {
        for pair in events.windows(2) {
            if pair[1].sequence != pair[0].sequence + 1 {
                return Err(EventFault::Order {
                    subscriber: subscriber.to_owned(),
                    before: pair[0].sequence,
                    got: pair[1].sequence,
                });
            }
        }
        for event in events {
            let first = *known.entry(event.sequence).or_insert(&event.what);
            if first != event.what {
                return Err(EventFault::Differs {
                    sequence: event.sequence,
                    one: first.to_owned(),
                    other: event.what.clone(),
                });
            }
        }
    }
    Ok(())
}

/// The same for subscribers that asked for everything from the first event on, and had the time to see all up to `newest`.
///
/// # Errors
/// The first fault.
pub fn check_all<'a>(
    subscribers: impl IntoIterator<Item = (&'a str, &'a [Seen])> + Clone,
    newest: u64,
) -> Result<(), EventFault> {
    for (subscriber, events) in subscribers.clone() {
        let subscriber = || subscriber.to_owned();
        if let Some(got) = events.first().map(|event| event.sequence).filter(|got| *got != 1) {
            return Err(EventFault::Began { subscriber: subscriber(), got });
        }
        let last = events.last().map_or(0, |event| event.sequence);
        if last < newest {
            return Err(EventFault::Ended { subscriber: subscriber(), last, newest });
        }
    }
    check(subscribers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(events: &[(u64, &str)]) -> Vec<Seen> {
        events.iter().map(|(sequence, what)| Seen { sequence: *sequence, what: (*what).to_owned() }).collect()
    }

    fn faults(streams: &[&[(u64, &str)]]) -> Result<(), EventFault> {
        let streams: Vec<_> = streams.iter().map(|events| seen(events)).collect();
        check(streams.iter().map(|events| ("somebody", events.as_slice())))
    }

    #[test]
    fn events_may_begin_anywhere_and_must_be_the_same_for_all() {
        assert_eq!(faults(&[&[(4, "a"), (5, "b")], &[(5, "b"), (6, "c")], &[]]), Ok(()));
        assert!(matches!(faults(&[&[(4, "a")], &[(4, "b")]]), Err(EventFault::Differs { sequence: 4, .. })));
    }

    #[test]
    fn who_asked_for_everything_must_have_seen_it_from_the_first_event_to_the_last() {
        let faults = |events: &[(u64, &str)]| {
            let events = seen(events);
            check_all([("somebody", events.as_slice())], 3)
        };
        assert_eq!(faults(&[(1, "a"), (2, "b"), (3, "c")]), Ok(()));
        assert_eq!(faults(&[(1, "a"), (2, "b"), (3, "c"), (4, "d")]), Ok(()), "one that came meanwhile");
        assert!(matches!(faults(&[(2, "b"), (3, "c")]), Err(EventFault::Began { got: 2, .. })));
        assert!(matches!(faults(&[(1, "a"), (2, "b")]), Err(EventFault::Ended { last: 2, newest: 3, .. })));
        assert!(matches!(faults(&[]), Err(EventFault::Ended { last: 0, newest: 3, .. })));
        assert!(matches!(faults(&[(1, "a"), (3, "c")]), Err(EventFault::Order { before: 1, got: 3, .. })));
    }

    #[test]
    fn a_gap_a_double_and_a_step_back_are_rejected() {
        for events in [[(4, "a"), (6, "b")], [(4, "a"), (4, "a")], [(4, "a"), (3, "b")]] {
            assert!(matches!(faults(&[&events]), Err(EventFault::Order { before: 4, .. })), "{events:?}");
        }
    }
}
