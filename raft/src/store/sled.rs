use super::engine::{Engine, EngineError, Identity, Loaded, OpenEngine};
use std::path::Path;

/// The engine on sled 0.34.
#[derive(Debug)]
pub struct SledEngine {}

impl SledEngine {
    /// Opens stores of this kind.
    #[must_use]
    pub fn opener() -> impl OpenEngine {
        Opener
    }
}

#[derive(Debug)]
struct Opener;

impl OpenEngine for Opener {
    fn open(&self, _dir: &Path, _identity: Identity) -> Result<(Box<dyn Engine>, Loaded), EngineError> {
        Err(EngineError::Io { doing: "opening the log store", reason: "not built yet".into() })
    }
}
