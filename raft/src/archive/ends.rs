use super::missing;
use crate::machine::archive::{ArchiveTip, ArchiveUnreadable};

/// Where an archive begins and ends, and which records it never had.
///
/// Records follow each other without a hole, but for one case: what everybody else has forgotten cannot be
/// fetched any more, so a replica that was away for long goes on after it. Until a snapshot says that the
/// records in the hole are forgotten here, too, the log may still bring them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ends {
    end: (u64, [u8; 32]),
    /// Where it went on after a hole, and the rolling hash before.
    base: (u64, [u8; 32]),
    /// The first record in the hole, and the rolling hash before. None is missing if it is at `base`.
    hole: (u64, [u8; 32]),
}

impl Ends {
    /// Of an archive that was found on disk.
    pub(super) fn new(end: (u64, [u8; 32]), base: (u64, [u8; 32]), hole: (u64, [u8; 32])) -> Self {
        Self { end: if end.0 > base.0 { end } else { base }, base, hole }
    }

    pub(super) fn end(&self) -> (u64, [u8; 32]) {
        self.end
    }

    pub(super) fn base(&self) -> (u64, [u8; 32]) {
        self.base
    }

    /// Whether a record that is offered has to be kept; `false`: its number is there already.
    pub(super) fn take(&mut self, number: u64, hash_after: [u8; 32]) -> Result<bool, ArchiveUnreadable> {
        let after = (number.saturating_add(1), hash_after);
        if number == self.end.0 {
            self.end = after;
            return Ok(true);
        }
        if number == self.hole.0 && number < self.base.0 {
            self.hole = after;
            return Ok(true);
        }
        if number > self.end.0 || (self.hole.0..self.base.0).contains(&number) {
            return Err(missing(if number > self.end.0 { self.end.0 } else { self.hole.0 }));
        }
        Ok(false)
    }

    /// Whether a record was here at some time, and may be forgotten.
    pub(super) fn has_had(&self, number: u64) -> bool {
        number < self.end.0 && !(self.hole.0..self.base.0).contains(&number)
    }

    /// Goes on at a number that is past the end.
    pub(super) fn start_at(&mut self, number: u64, hash: [u8; 32]) -> bool {
        let past = number > self.end.0;
        if past {
            // An open hole stays: the state may still be before it.
            let hole = if self.hole.0 < self.base.0 { self.hole } else { self.end };
            *self = Self { end: (number, hash), base: (number, hash), hole };
        }
        past
    }

    /// A durable snapshot says what is forgotten: what is missing before that is not missed any more.
    pub(super) fn forget(&mut self, tip: &ArchiveTip) {
        if tip.first >= self.base.0 {
            self.hole = self.base;
        }
    }

    /// The rolling hash before a number, where no record says it.
    pub(super) fn hash_before(&self, number: u64) -> Option<[u8; 32]> {
        let known = [(0, [0; 32]), self.end, self.base, self.hole];
        known.into_iter().find(|(known, _)| *known == number).map(|(_, hash)| hash)
    }

    /// Whether this is the archive that the tip describes, by its ends.
    pub(super) fn check(
        &self,
        tip: &ArchiveTip,
        hash_before: impl Fn(u64) -> Result<[u8; 32], ArchiveUnreadable>,
    ) -> Result<(), ArchiveUnreadable> {
        if self.end.0 < tip.next {
            let (end, next) = (self.end.0, tip.next);
            return Err(ArchiveUnreadable(format!("it ends before record {end}, the state before {next}")));
        }
        if tip.first < self.base.0 && self.hole.0 < tip.next && self.hole.0 < self.base.0 {
            return Err(missing(self.hole.0.max(tip.first)));
        }
        if hash_before(tip.next)? != tip.hash {
            let reason = format!("the records before {} are not those of the state", tip.next);
            return Err(ArchiveUnreadable(reason));
        }
        Ok(())
    }
}
