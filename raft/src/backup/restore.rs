use super::reader::{self, BackupError, BackupSummary};
use crate::archive::{Archive as _, DiskArchive};
use crate::codec::marks;
use crate::machine::State;
use crate::machine::archive::ArchiveTip;
use crate::machine::model::InvoiceState;
use crate::replica::directory::DataDirectory;
use crate::replica::latch::Latch;
use crate::replica::raft::{SnapshotMeta, StoredMembership, log_id, vote};
use crate::snapshot::{SnapshotDirectory, SnapshotFile};
use crate::store::{Change, Identity, Mark, OpenEngine as _, SledEngine};
use crate::types::ReplicaId;
use openraft::{BasicNode, Membership};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// What to make of a backup.
#[derive(Clone, Debug)]
pub struct RestorePlan {
    /// The backup.
    pub backup: PathBuf,
    /// Must not exist, or be empty.
    pub data_dir: PathBuf,
    /// The new cluster. Must not be the backup's: members of that one may still run somewhere.
    pub cluster_id: [u8; 32],
    /// The new cluster's only member, at first.
    pub replica: ReplicaId,
    /// Where it will be reached by others.
    pub address: String,
    /// Cancels open invoices: what was paid after the backup must not be paid again.
    pub void_open: bool,
}

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restoration {
    /// The backup, as it is.
    pub backup: BackupSummary,
    /// HTLCs that the new cluster will ask LND about before it decides anything.
    pub in_doubt: u64,
    /// Invoices that can be paid.
    pub open: u64,
    /// Those that were, and were cancelled.
    pub voided: u64,
}

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The backup cannot be used.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The plan does not make sense.
    #[error("{0}")]
    Refused(String),
    /// The disk failed.
    #[error("{0}")]
    Storage(String),
}

/// Makes the data directory of the first replica of a new cluster from a backup. The directory appears when it
/// is complete. Blocks.
///
/// # Errors
/// See [`RestoreError`]. Nothing was changed, but for a directory `<data_dir>.restoring`.
pub fn restore_new_cluster(plan: &RestorePlan) -> Result<Restoration, RestoreError> {
    // All of it, before anything is written.
    let backup = reader::inspect(&plan.backup)?;
    if backup.header.cluster_id == plan.cluster_id {
        return Err(RestoreError::Refused(format!(
            "the new cluster must have another name than {:?}, that of the backup: replicas of the old cluster \
             must never be taken for members of the new one",
            backup.header.label.cluster_name
        )));
    }
    if !is_vacant(&plan.data_dir)? {
        let dir = plan.data_dir.display();
        return Err(RestoreError::Refused(format!(
            "data directory {dir} is not empty: restore into a new one"
        )));
    }
    let unfinished = unfinished_path(&plan.data_dir);
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).map_err(storage(&unfinished))?;
    }
    let mut state = backup.state.clone();
    state.begin_anew();
    let voided = if plan.void_open { state.void_open() } else { 0 };
    let open = state.invoice_counts().get(&InvoiceState::Open).copied().unwrap_or(0);
    let in_doubt = state.restored().map_or(0, |restored| restored.asked);
    fill(plan, &unfinished, &state)?;
    if plan.data_dir.exists() {
        fs::remove_dir(&plan.data_dir).map_err(storage(&plan.data_dir))?;
    }
    fs::rename(&unfinished, &plan.data_dir).map_err(storage(&plan.data_dir))?;
    if let Some(parent) = plan.data_dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        File::open(parent).and_then(|parent| parent.sync_all()).map_err(storage(parent))?;
    }
    Ok(Restoration { backup, in_doubt, open, voided })
}

fn fill(plan: &RestorePlan, dir: &Path, state: &State) -> Result<(), RestoreError> {
    let failed = |error: &dyn std::fmt::Display| RestoreError::Storage(error.to_string());
    let directory = DataDirectory::open(dir).map_err(|error| failed(&error))?;
    fill_archive(plan, &directory.archive(), state.archive_tip())?;
    let at = state.applied();
    let last = log_id(at.term, at.index);
    let node = BasicNode::new(&plan.address);
    let members =
        Membership::new(vec![BTreeSet::from([plan.replica])], BTreeMap::from([(plan.replica, node)]));
    let members = members.map_err(|error| failed(&error))?;
    let meta =
        SnapshotMeta { last_log_id: Some(last), last_membership: StoredMembership::new(Some(last), members) };
    let snapshots =
        SnapshotDirectory::open(&directory.snapshots(), plan.cluster_id).map_err(|error| failed(&error))?;
    let (file, _) = SnapshotFile::write(&snapshots.unfinished_path(), plan.cluster_id, &meta, state)
        .map_err(|error| failed(&error))?;
    snapshots.keep(&file, &meta).map_err(|error| failed(&error))?;
    let identity = Identity { cluster_id: plan.cluster_id, replica: plan.replica };
    let (mut engine, _) =
        SledEngine::opener().open(&directory.log(), identity).map_err(|error| failed(&error))?;
    let mark = marks::encode_log_id(Some(last));
    // Its next term must come after that of its last entry.
    let vote = marks::encode_vote(&vote(at.term, plan.replica, false));
    let changes = [
        Change::Mark(Mark::Vote, vote),
        Change::Mark(Mark::Purged, mark.clone()),
        Change::Mark(Mark::Committed, mark),
    ];
    engine.write(&changes).and_then(|()| engine.sync()).map_err(|error| failed(&error))
}

fn fill_archive(plan: &RestorePlan, dir: &Path, tip: &ArchiveTip) -> Result<(), RestoreError> {
    let failed = |error: &dyn std::fmt::Display| RestoreError::Storage(error.to_string());
    let archive = DiskArchive::open(dir, &plan.cluster_id, Latch::new()).map_err(|error| failed(&error))?;
    archive.start_at(tip.first, tip.first_hash).map_err(|error| failed(&error))?;
    let append = |records| archive.wait_for_room().and_then(|()| archive.append(records));
    reader::read(&plan.backup, |records| append(records).map_err(|error| error.to_string()))?;
    archive.sync(tip.next).and_then(|()| archive.check(tip)).map_err(|error| failed(&error))?;
    archive.close();
    Ok(())
}

fn is_vacant(dir: &Path) -> Result<bool, RestoreError> {
    match fs::read_dir(dir) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(storage(dir)(error)),
    }
}

/// Beside the directory, so that renaming it is one step.
fn unfinished_path(dir: &Path) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_os_string();
    name.push(".restoring");
    dir.with_file_name(name)
}

fn storage(path: &Path) -> impl Fn(io::Error) -> RestoreError {
    move |error| RestoreError::Storage(format!("{}: {error}", path.display()))
}
