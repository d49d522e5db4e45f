use super::store::{ChannelKey, HashDigest, RUN_RECORDS};
use std::collections::{BTreeMap, HashMap};

/// Bits for each hash: about one in 300 absent ones looks present in a run.
const BITS_PER_KEY: u64 = 12;

/// Bits that a hash sets (the optimum for this many bits each).
const PROBES: u64 = 8;

/// What is certainly not in the file, so that a new HTLC or invoice costs no look at it.
///
/// LND numbers the HTLCs of a channel in ascending order: what is above the highest archived one is not archived.
/// Payment hashes have no order; for them there is a Bloom filter for each run of records (Bloom, "Space/time
/// trade-offs in hash coding with allowable errors", 1970).
#[derive(Debug, Default)]
pub(super) struct Filter {
    channels: HashMap<ChannelKey, u64>,
    hashes: HashRuns,
    /// The hashes that were in the file when it was opened are all known.
    complete: bool,
}

impl Filter {
    /// Of a file whose channels end like this. Its hashes come later: see [`Filter::complete`].
    pub(super) fn new(channels: HashMap<ChannelKey, u64>) -> Self {
        Self { channels, ..Self::default() }
    }

    pub(super) fn add_hash(&mut self, digest: &HashDigest, record: u64) {
        self.hashes.insert(digest, record);
    }

    pub(super) fn add_htlc(&mut self, channel: ChannelKey, htlc_id: u64) {
        let highest = self.channels.entry(channel).or_default();
        *highest = (*highest).max(htlc_id);
    }

    /// The hashes that were in the file when it was opened.
    pub(super) fn complete(&mut self, known: HashRuns) {
        self.hashes.merge(known);
        self.complete = true;
    }

    /// What is before this record is not in the file any more.
    pub(super) fn forget(&mut self, first: u64) {
        self.hashes.runs = self.hashes.runs.split_off(&(first / RUN_RECORDS));
    }

    /// Runs that may have this hash, the latest first; `None` if nobody knows.
    pub(super) fn runs_of(&self, digest: &HashDigest) -> Option<Vec<u64>> {
        self.complete.then(|| self.hashes.runs_of(digest))
    }

    pub(super) fn may_have_htlc(&self, channel: &ChannelKey, htlc_id: u64) -> bool {
        self.channels.get(channel).is_some_and(|highest| htlc_id <= *highest)
    }
}

/// In which runs of records digests may be. Never denies one that is there.
#[derive(Debug, Default)]
pub(super) struct HashRuns {
    runs: BTreeMap<u64, Bits>,
}

impl HashRuns {
    pub(super) fn insert(&mut self, digest: &HashDigest, record: u64) {
        self.runs.entry(record / RUN_RECORDS).or_insert_with(Bits::new).insert(digest);
    }

    fn merge(&mut self, other: Self) {
        for (run, bits) in other.runs {
            match self.runs.get_mut(&run) {
                Some(known) => known.merge(&bits),
                None => drop(self.runs.insert(run, bits)),
            }
        }
    }

    fn runs_of(&self, digest: &HashDigest) -> Vec<u64> {
        self.runs.iter().rev().filter(|(_, bits)| bits.may_have(digest)).map(|(run, _)| *run).collect()
    }
}

/// One run's filter.
#[derive(Debug)]
struct Bits(Box<[u64]>);

impl Bits {
    const COUNT: u64 = RUN_RECORDS * BITS_PER_KEY;

    fn new() -> Self {
        #[allow(clippy::cast_possible_truncation, reason = "a constant: 196 KiB")]
        let words = (Self::COUNT / 64) as usize;
        Self(vec![0; words].into_boxed_slice())
    }

    fn insert(&mut self, digest: &HashDigest) {
        for (word, bit) in Self::probes(digest) {
            if let Some(word) = self.0.get_mut(word) {
                *word |= bit;
            }
        }
    }

    fn merge(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(word, other)| *word |= other);
    }

    fn may_have(&self, digest: &HashDigest) -> bool {
        Self::probes(digest).all(|(word, bit)| self.0.get(word).is_some_and(|set| set & bit != 0))
    }

    /// Which bits: double hashing with the two halves of a digest that is uniform already (Kirsch and Mitzenmacher,
    /// "Less hashing, same performance", 2006).
    fn probes(digest: &HashDigest) -> impl Iterator<Item = (usize, u64)> {
        let digest = u128::from_be_bytes(*digest);
        #[allow(clippy::cast_possible_truncation, reason = "the two halves")]
        let (start, step) = ((digest >> 64) as u64, digest as u64 | 1);
        (0..PROBES).map(move |probe| {
            let bit = start.wrapping_add(probe.wrapping_mul(step)) % Self::COUNT;
            #[allow(clippy::cast_possible_truncation, reason = "less than the number of words")]
            let word = (bit / 64) as usize;
            (word, 1 << (bit % 64))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest as _, Sha256};

    fn digest(number: u64) -> HashDigest {
        let digest = Sha256::digest(number.to_be_bytes());
        digest.first_chunk().copied().unwrap()
    }

    #[test]
    fn a_hash_that_is_there_is_never_denied_and_few_others_look_like_one() {
        // The file's last run goes on while its hashes are being read.
        let (early, late) = (0..RUN_RECORDS + 500, RUN_RECORDS + 500..2 * RUN_RECORDS + 10);
        let mut known = HashRuns::default();
        early.clone().for_each(|number| known.insert(&digest(number), number));
        let mut filter = Filter::default();
        late.clone().for_each(|number| filter.add_hash(&digest(number), number));
        assert_eq!(filter.runs_of(&digest(1)), None, "not complete yet");
        filter.complete(known);
        for number in early.chain(late.clone()) {
            assert!(filter.runs_of(&digest(number)).unwrap().contains(&(number / RUN_RECORDS)), "{number}");
        }
        let others = late.end..late.end + 100_000;
        let wrong = others.filter(|number| !filter.runs_of(&digest(*number)).unwrap().is_empty()).count();
        assert!(wrong < 1_000, "{wrong} of 100000, in two full runs");
    }

    #[test]
    fn what_the_file_has_forgotten_takes_no_room() {
        let mut filter = Filter::default();
        filter.complete(HashRuns::default());
        for run in 0..4 {
            filter.add_hash(&digest(run), run * RUN_RECORDS + 7);
        }
        filter.forget(2 * RUN_RECORDS + 9);
        assert_eq!(filter.hashes.runs.keys().copied().collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn only_an_htlc_up_to_the_highest_of_its_channel_may_be_there() {
        let mut filter = Filter::default();
        filter.add_htlc(([1; 4], 7), 5);
        filter.add_htlc(([1; 4], 7), 3);
        assert!(filter.may_have_htlc(&([1; 4], 7), 0) && filter.may_have_htlc(&([1; 4], 7), 5));
        assert!(!filter.may_have_htlc(&([1; 4], 7), 6));
        assert!(!filter.may_have_htlc(&([1; 4], 8), 0) && !filter.may_have_htlc(&([2; 4], 7), 0));
    }
}
