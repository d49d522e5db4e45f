use super::format::{BackupHeader, BackupLabel, END, End, HEADER, MAGIC, RECORDS, Records, STATE, frame};
use crate::archive::Archive;
use crate::consensus::StateCell;
use crate::machine::State;
use crate::machine::archive::ArchiveUnreadable;
use crate::types::ReplicaId;
use std::collections::VecDeque;
use std::sync::Arc;

const STATE_PIECE_BYTES: usize = 1 << 20;
const CHUNK_BYTES: usize = 1 << 20;

/// Makes a backup, a piece at a time, while the replica goes on: the state is of the moment of the first, the
/// archive only grows. Reading it blocks for as long as the archive's disk takes.
#[derive(Debug)]
pub struct BackupFrames {
    archive: Arc<dyn Archive>,
    header: BackupHeader,
    waiting: VecDeque<Vec<u8>>,
    next_record: u64,
    state_bytes: u64,
    ended: bool,
}

impl BackupFrames {
    /// Of the applied state.
    #[must_use]
    pub fn of(
        cell: &StateCell,
        cluster_id: [u8; 32],
        label: BackupLabel,
        replica: ReplicaId,
        now_ms: u64,
    ) -> Self {
        // Copied, so that apply does not wait for the encoding.
        let state = cell.read(State::for_backup);
        let header = BackupHeader {
            cluster_id,
            label,
            replica,
            taken_at_ms: now_ms,
            at: state.applied(),
            log_time_ms: state.time_ms(),
            feature_level: state.feature_level(),
            state_hash: state.chain_hash(),
            archive: *state.archive_tip(),
        };
        let body = state.encode_snapshot();
        let mut waiting = VecDeque::from([MAGIC.to_vec()]);
        let bytes = postcard::to_stdvec(&header).expect("the header is plain data");
        waiting.push_back(frame(HEADER, &bytes));
        waiting.extend(body.chunks(STATE_PIECE_BYTES).map(|piece| frame(STATE, piece)));
        let state_bytes = u64::try_from(body.len()).unwrap_or(u64::MAX);
        let next_record = header.archive.first;
        Self { archive: Arc::clone(cell.archive()), header, waiting, next_record, state_bytes, ended: false }
    }

    /// What the backup is of.
    #[must_use]
    pub fn header(&self) -> &BackupHeader {
        &self.header
    }

    fn next_records(&mut self) -> Result<Vec<u8>, ArchiveUnreadable> {
        let records = self.archive.chunk(self.next_record, self.header.archive.next, CHUNK_BYTES)?;
        let first = self.next_record;
        self.next_record = first.saturating_add(u64::try_from(records.len()).unwrap_or(u64::MAX));
        let bytes = postcard::to_stdvec(&Records { first, records }).expect("the records are plain data");
        Ok(frame(RECORDS, &bytes))
    }

    fn end(&mut self) -> Vec<u8> {
        self.ended = true;
        let tip = &self.header.archive;
        let records = tip.next.saturating_sub(tip.first);
        let end = End { state_bytes: self.state_bytes, records, hash: tip.hash };
        frame(END, &postcard::to_stdvec(&end).expect("the end is plain data"))
    }
}

impl Iterator for BackupFrames {
    type Item = Result<Vec<u8>, ArchiveUnreadable>;

    /// The next piece of the file. An error ends it: retention may have forgotten what is to be read next.
    fn next(&mut self) -> Option<Self::Item> {
        if let Some(bytes) = self.waiting.pop_front() {
            return Some(Ok(bytes));
        }
        if self.ended {
            return None;
        }
        if self.next_record < self.header.archive.next {
            let records = self.next_records();
            self.ended |= records.is_err();
            return Some(records);
        }
        Some(Ok(self.end()))
    }
}
