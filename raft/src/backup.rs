//! Backups: the state and the archive of one moment in one file, and new clusters made from them.
//!
//! `magic | frame…`, each frame `kind u8 | length u32 LE | payload | CRC-32C u32 LE` over what precedes it: a
//! header, the state (in pieces), the archive's records (in chunks), an end. Without its end a file is not a
//! backup. Besides the checksums a reader follows the archive's rolling hash from the header's first record to
//! its last, so what it accepts is what the cluster had.
//!
//! A backup contains what the log contains: payment requests and the preimages of settled hold invoices, but
//! neither the seed nor macaroons.
//!
//! * `format`: frames and header. `writer`: makes the frames. `reader`: checks and reads them.
//! * `restore`: makes the data directory of a new cluster's first replica.

mod format;
mod reader;
mod restore;
#[cfg(test)]
mod tests;
mod writer;

pub use format::{BackupHeader, BackupLabel};
pub use reader::{BackupError, BackupSummary, inspect};
pub use restore::{Restoration, RestoreError, RestorePlan, restore_new_cluster};
pub use writer::BackupFrames;
