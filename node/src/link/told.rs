use std::collections::BTreeSet;

/// More different reasons than a node that is gone has; past them they are told anew.
const REASONS_MAX: usize = 16;

/// Why a node was lost, as the log was told since it was last well: reasons that take turns are told once each.
#[derive(Debug, Default)]
pub(super) struct Told {
    reasons: BTreeSet<String>,
}

impl Told {
    /// All is well: what goes wrong next is news.
    pub(super) fn forget(&mut self) {
        self.reasons.clear();
    }

    /// Whether this reason was not told yet. It is now.
    pub(super) fn is_news(&mut self, reason: &str) -> bool {
        if self.reasons.contains(reason) {
            return false;
        }
        if self.reasons.len() >= REASONS_MAX {
            self.reasons.clear();
        }
        self.reasons.insert(reason.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_that_take_turns_are_told_once_until_all_is_well() {
        let mut told = Told::default();
        let news = ["reset", "eof", "reset", "eof", "refused"].map(|reason| told.is_news(reason));
        assert_eq!(news, [true, true, false, false, true]);
        told.forget();
        assert!(told.is_news("reset"));
    }

    #[test]
    fn reasons_without_end_are_not_all_remembered() {
        let mut told = Told::default();
        assert!((0..1_000).all(|number| told.is_news(&number.to_string())));
        assert!(told.reasons.len() <= REASONS_MAX && !told.is_news("999"));
    }
}
