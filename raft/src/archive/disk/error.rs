use crate::replica::opening::{self, CHECK_DISK, JOIN_ANEW};
use std::io::ErrorKind;
use std::path::Path;

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    #[error("{0}")]
    Engine(#[from] redb::Error),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Damaged(String),
    #[error("it belongs to another cluster")]
    Foreign,
    #[error("it is closed")]
    Closed,
}

impl StoreError {
    /// Whether the file is not what was written, and will not be if it is read again.
    pub(super) fn is_damage(&self) -> bool {
        use redb::Error;
        match self {
            Self::Damaged(_) => true,
            Self::Engine(Error::Io(error)) => {
                // A page is beyond the end, or the file does not begin as the engine's do: the disk itself has another word.
                matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::InvalidData)
            }
            // The tables are there, of these types, since the file has its name.
            Self::Engine(error) => matches!(
                error,
                Error::Corrupted(_)
                    | Error::TableDoesNotExist(_)
                    | Error::TableTypeMismatch { .. }
                    | Error::TableIsMultimap(_)
                    | Error::TypeDefinitionChanged { .. }
            ),
            Self::Io(_) | Self::Foreign | Self::Closed => false,
        }
    }

    /// What to do about the file.
    pub(super) fn advice(&self, file: &Path) -> String {
        if self.is_damage() { opening::damaged(file) } else { uncertain(file) }
    }
}

/// What to do about a file that may be damaged.
pub(super) fn uncertain(file: &Path) -> String {
    format!("{}: {CHECK_DISK}; if this file is damaged, {JOIN_ANEW}", file.display())
}

macro_rules! engine_errors {
    ($($error:ty),*) => {
        $(impl From<$error> for StoreError {
            fn from(error: $error) -> Self {
                Self::Engine(error.into())
            }
        })*
    };
}

engine_errors!(
    redb::DatabaseError,
    redb::TransactionError,
    redb::TableError,
    redb::StorageError,
    redb::CommitError,
    redb::SetDurabilityError
);

#[cfg(test)]
mod tests {
    use super::*;
    use redb::Error;
    use std::io;

    #[test]
    fn a_file_that_has_lost_a_page_or_a_table_is_damaged_and_a_disk_that_fails_may_recover() {
        let read = |kind: ErrorKind| StoreError::Engine(Error::Io(io::Error::from(kind)));
        let file = Path::new("archive/records.redb");
        let table = || StoreError::Engine(Error::TableDoesNotExist("records".into()));
        for damage in [read(ErrorKind::UnexpectedEof), table(), StoreError::Damaged("a record".into())] {
            let advice = damage.advice(file);
            assert!(advice.starts_with("archive/records.redb is damaged, starting again"), "{advice}");
            assert!(advice.contains("new id") && !advice.contains("check the disk"), "{advice}");
        }
        let full = read(ErrorKind::StorageFull);
        for other in
            [full, StoreError::Engine(Error::PreviousIo), StoreError::Engine(Error::DatabaseAlreadyOpen)]
        {
            let advice = other.advice(file);
            assert!(
                advice.contains("check the disk") && advice.contains("if this file is damaged"),
                "{advice}"
            );
        }
    }
}
