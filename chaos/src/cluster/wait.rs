//! Waiting on conditions, with a deadline, never on the clock alone.

use std::time::Duration;
use tokio::time::Instant;

/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What did not come about.
#[derive(Clone, Debug, thiserror::Error)]
#[error("waited {within:?} in vain until {what}{because}")]
pub struct WaitError {
    what: String,
    within: Duration,
    because: String,
}

impl WaitError {
    /// The same, with what was last seen instead.
    pub(super) fn because(mut self, seen: &str) -> Self {
        self.because = format!(" (last seen: {seen})");
        self
    }
}

/// Looks again and again until there is something, or the deadline is over.
///
/// # Errors
/// [`WaitError`], after `within`.
pub async fn until<T, F, Look>(what: &str, within: Duration, mut look: Look) -> Result<T, WaitError>
where
    F: Future<Output = Option<T>>,
    Look: FnMut() -> F,
{
    let deadline = Instant::now() + within;
    loop {
        if let Ok(Some(found)) = tokio::time::timeout_at(deadline, look()).await {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            return Err(WaitError { what: what.to_owned(), within, because: String::new() });
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
