use super::state::SimDisk;
use mux_raft::archive::{Archive, ArchiveOpenError, InvoiceOrder, MemoryArchive, OpenArchive};
use mux_raft::machine::archive::{
    ArchiveLookup, ArchiveRecord, ArchiveTip, ArchiveUnreadable, ArchivedInvoice, NewRecord,
};
use mux_raft::machine::model::Event;
use mux_raft::replica::Latch;
use mux_raft::types::{CircuitKey, PaymentHash};
use rand::Rng as _;
use rand::rngs::StdRng;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

/// What is on the disk of an archive: what was done to it, in order.
#[derive(Debug, Default)]
pub(super) struct ArchiveDisk {
    cluster: Option<[u8; 32]>,
    steps: Vec<Step>,
    /// How many of them are durable for certain.
    synced: usize,
}

#[derive(Debug)]
enum Step {
    Append(NewRecord),
    StartAt(u64, [u8; 32]),
    Forget(ArchiveTip),
}

impl ArchiveDisk {
    /// A process writes behind, so that its death costs what a power cut does: some of what was not synced.
    pub(super) fn process_ended(&mut self, rng: &mut StdRng) {
        let kept = rng.random_range(self.synced..=self.steps.len());
        self.steps.truncate(kept);
    }

    /// Everything up to these records is durable.
    fn sync(&mut self, next: u64) {
        let within = |step: &Step| matches!(step, Step::Append(record) if record.number < next);
        let last = self.steps.iter().rposition(within);
        self.synced = self.synced.max(last.map_or(0, |last| last + 1));
    }

    fn content(&self) -> Result<MemoryArchive, ArchiveUnreadable> {
        let archive = MemoryArchive::default();
        for step in &self.steps {
            match step {
                Step::Append(record) => archive.append(vec![record.clone()])?,
                Step::StartAt(number, hash) => archive.start_at(*number, *hash)?,
                Step::Forget(tip) => archive.forget(tip)?,
            }
        }
        Ok(archive)
    }
}

/// Opens a host's archive.
pub(super) struct ArchiveOpener(pub(super) SimDisk);

impl OpenArchive for ArchiveOpener {
    fn open(
        &self,
        _dir: &Path,
        cluster_id: &[u8; 32],
        _latch: Latch,
    ) -> Result<Arc<dyn Archive>, ArchiveOpenError> {
        self.archive_of(cluster_id)
    }
}

impl ArchiveOpener {
    /// What a process has that opens it. Nothing here fails while nobody calls it, so there is no need of a latch.
    pub(super) fn archive_of(&self, cluster_id: &[u8; 32]) -> Result<Arc<dyn Archive>, ArchiveOpenError> {
        let unusable = |reason: String| ArchiveOpenError::Unusable(reason);
        let mut state = self.0.state();
        if let Some(reason) = state.failure(state.incarnation) {
            return Err(unusable(reason));
        }
        if state.archive.cluster.get_or_insert(*cluster_id) != cluster_id {
            return Err(ArchiveOpenError::Foreign("the archive is of another cluster".into()));
        }
        let content = state.archive.content().map_err(|error| unusable(error.to_string()))?;
        Ok(Arc::new(SimArchive { content, disk: self.0.clone(), incarnation: state.incarnation }))
    }
}

/// One process's way to the archive.
#[derive(Debug)]
struct SimArchive {
    content: MemoryArchive,
    disk: SimDisk,
    incarnation: u64,
}

impl SimArchive {
    /// Does something to the archive on disk, if it can be written.
    fn change(&self, change: impl FnOnce(&mut ArchiveDisk)) -> Result<(), ArchiveUnreadable> {
        let mut state = self.disk.state();
        if let Some(reason) = state.failure(self.incarnation) {
            return Err(ArchiveUnreadable(reason));
        }
        change(&mut state.archive);
        Ok(())
    }
}

impl ArchiveLookup for SimArchive {
    fn invoice(
        &self,
        tip: &ArchiveTip,
        hash: &PaymentHash,
    ) -> Result<Option<ArchivedInvoice>, ArchiveUnreadable> {
        self.content.invoice(tip, hash)
    }

    fn invoice_of(
        &self,
        tip: &ArchiveTip,
        key: &CircuitKey,
    ) -> Result<Option<ArchivedInvoice>, ArchiveUnreadable> {
        self.content.invoice_of(tip, key)
    }

    fn record(&self, number: u64) -> Result<(ArchiveRecord, [u8; 32]), ArchiveUnreadable> {
        self.content.record(number)
    }
}

impl Archive for SimArchive {
    fn append(&self, records: Vec<NewRecord>) -> Result<(), ArchiveUnreadable> {
        let (end, _) = self.content.end()?;
        let new: Vec<NewRecord> = records.iter().filter(|record| record.number >= end).cloned().collect();
        self.content.append(records)?;
        self.change(|disk| disk.steps.extend(new.into_iter().map(Step::Append)))
    }

    fn has_room(&self) -> Result<bool, ArchiveUnreadable> {
        self.change(|_| {}).map(|()| true)
    }

    fn wait_for_room(&self) -> Result<(), ArchiveUnreadable> {
        self.change(|_| {})
    }

    fn start_at(&self, number: u64, hash: [u8; 32]) -> Result<(), ArchiveUnreadable> {
        self.content.start_at(number, hash)?;
        self.change(|disk| disk.steps.push(Step::StartAt(number, hash)))
    }

    fn sync(&self, next: u64) -> Result<(), ArchiveUnreadable> {
        self.content.sync(next)?;
        self.change(|disk| disk.sync(next))
    }

    fn forget(&self, tip: &ArchiveTip) -> Result<(), ArchiveUnreadable> {
        self.content.forget(tip)?;
        self.change(|disk| disk.steps.push(Step::Forget(*tip)))
    }

    fn end(&self) -> Result<(u64, [u8; 32]), ArchiveUnreadable> {
        self.content.end()
    }

    fn hash_before(&self, number: u64) -> Result<[u8; 32], ArchiveUnreadable> {
        self.content.hash_before(number)
    }

    fn check(&self, tip: &ArchiveTip) -> Result<(), ArchiveUnreadable> {
        self.content.check(tip)
    }

    fn invoices(
        &self,
        tip: &ArchiveTip,
        order: InvoiceOrder,
        numbers: RangeInclusive<u64>,
        newest_first: bool,
        limit: usize,
    ) -> Result<Vec<ArchivedInvoice>, ArchiveUnreadable> {
        self.content.invoices(tip, order, numbers, newest_first, limit)
    }

    fn events_after(
        &self,
        tip: &ArchiveTip,
        sequence: u64,
        limit: usize,
    ) -> Result<Vec<Event>, ArchiveUnreadable> {
        self.content.events_after(tip, sequence, limit)
    }

    fn chunk(&self, from: u64, until: u64, bytes_max: usize) -> Result<Vec<Vec<u8>>, ArchiveUnreadable> {
        self.content.chunk(from, until, bytes_max)
    }
}
