use rand::CryptoRng;
use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::{fmt, str::FromStr};
use zeroize::{Zeroize as _, ZeroizeOnDrop, Zeroizing};

/// Longest seed file that is read: 64 hexadecimal digits and some white space.
const SEED_FILE_BYTES_MAX: u64 = 256;

/// Mode of a seed file: its owner reads and writes it, nobody else does anything.
const SEED_FILE_MODE: u32 = 0o600;

/// The secret that makes a cluster this cluster. Wiped from memory when dropped.
#[derive(Clone, ZeroizeOnDrop)]
pub struct ClusterSeed([u8; 32]);

/// Why there is no seed. All of these are for the operator to mend.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// The file is not there, or cannot be read or written.
    #[error("cannot {action} the seed file {path}: {source}")]
    Io {
        /// "read", "create" …
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Others than the owner can get at it.
    #[error(
        "the seed file {path} has mode {mode:04o}: whoever reads it can spend the cluster's money; run \
         `chmod 600 {path}` (Kubernetes: `defaultMode: 0400` on the secret's volume)"
    )]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not 32 bytes in hexadecimal.
    #[error("{0}: a seed is 32 bytes in hexadecimal (64 digits), and not all zero")]
    Format(String),
    /// A seed is never overwritten: with it would go the money of every open invoice.
    #[error("the seed file {0} exists already; it is never overwritten")]
    Exists(PathBuf),
}

impl ClusterSeed {
    /// A fresh seed.
    pub fn generate(rng: &mut (impl CryptoRng + ?Sized)) -> Self {
        let mut bytes = [0; 32];
        rng.fill_bytes(&mut bytes);
        Self(bytes)
    }

    /// From its bytes; for tests and for seeds that come from elsewhere than a file.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Reads a seed file.
    ///
    /// # Errors
    /// [`SeedError::Mode`] if its mode is wider than 0600; [`SeedError::Format`] if it is not a seed.
    pub fn load(path: &Path) -> Result<Self, SeedError> {
        let failed = |action| move |source| SeedError::Io { action, path: path.to_path_buf(), source };
        let file = fs::File::open(path).map_err(failed("open"))?;
        // Of the open file, not of the path: what is checked is what is read.
        let mode = file.metadata().map_err(failed("examine"))?.permissions().mode() & 0o7777;
        if mode & !SEED_FILE_MODE != 0 {
            return Err(SeedError::Mode { path: path.to_path_buf(), mode });
        }
        // As large as it can get, so that no stale copy is left behind by a reallocation.
        let mut text = Zeroizing::new(String::with_capacity(SEED_FILE_BYTES_MAX as usize + 1));
        file.take(SEED_FILE_BYTES_MAX).read_to_string(&mut text).map_err(failed("read"))?;
        text.trim().parse().map_err(|_| SeedError::Format(format!("the seed file {}", path.display())))
    }

    /// Writes the seed to a new file of mode 0600 and makes it durable.
    ///
    /// # Errors
    /// [`SeedError::Exists`] if there is anything of that name.
    pub fn create(&self, path: &Path) -> Result<(), SeedError> {
        let failed = |action| move |source| SeedError::Io { action, path: path.to_path_buf(), source };
        let mut file = match OpenOptions::new().write(true).create_new(true).mode(SEED_FILE_MODE).open(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(SeedError::Exists(path.to_path_buf()));
            }
            opened => opened.map_err(failed("create"))?,
        };
        // The mode given at creation is subject to the umask, which can only narrow it.
        let mut text = Zeroizing::new(hex::encode(self.0));
        text.push('\n');
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed("write"))?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        fs::File::open(folder.unwrap_or_else(|| Path::new(".")))
            .and_then(|folder| folder.sync_all())
            .map_err(failed("make durable"))
    }

    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for ClusterSeed {
    type Err = SeedError;

    fn from_str(text: &str) -> Result<Self, SeedError> {
        let mut bytes = Zeroizing::new([0; 32]);
        let decoded = hex::decode_to_slice(text, bytes.as_mut_slice());
        if decoded.is_err() || *bytes == [0; 32] {
            bytes.zeroize();
            return Err(SeedError::Format("this text".into()));
        }
        Ok(Self(*bytes))
    }
}

impl fmt::Debug for ClusterSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterSeed(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seed");
        (folder, path)
    }

    #[test]
    fn a_created_seed_is_private_and_loads_again() {
        let (_folder, path) = scratch();
        let seed = ClusterSeed::generate(&mut rand::rng());
        seed.create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(ClusterSeed::load(&path).unwrap().0, seed.0);
    }

    #[test]
    fn an_existing_file_is_never_overwritten() {
        let (_folder, path) = scratch();
        let first = ClusterSeed::from_bytes([1; 32]);
        first.create(&path).unwrap();
        let error = ClusterSeed::from_bytes([2; 32]).create(&path).unwrap_err();
        assert!(matches!(error, SeedError::Exists(_)), "{error}");
        assert_eq!(ClusterSeed::load(&path).unwrap().0, first.0);
    }

    #[test]
    fn a_mode_wider_than_0600_is_refused_with_its_remedy() {
        let (_folder, path) = scratch();
        ClusterSeed::from_bytes([1; 32]).create(&path).unwrap();
        for mode in [0o640, 0o604, 0o660, 0o644, 0o601, 0o700, 0o4600] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = ClusterSeed::load(&path).unwrap_err().to_string();
            assert!(error.contains("chmod 600") && error.contains(&format!("{mode:04o}")), "{error}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        assert!(ClusterSeed::load(&path).is_ok());
    }

    #[test]
    fn what_is_not_a_seed_is_refused_without_quoting_it() {
        let (_folder, path) = scratch();
        for text in ["", "abcd", &"zz".repeat(32), &"00".repeat(32), &"ab".repeat(33), &"ab".repeat(4000)] {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            let error = ClusterSeed::load(&path).unwrap_err().to_string();
            assert!(error.contains("64 digits"), "{error}");
            assert!(text.len() < 4 || !error.contains(text), "{error}");
        }
        assert!(matches!(ClusterSeed::load(&path.join("none")), Err(SeedError::Io { .. })));
    }

    #[test]
    fn a_seed_does_not_print() {
        assert_eq!(format!("{:?}", ClusterSeed::from_bytes([7; 32])), "ClusterSeed(…)");
    }
}
