//! Tells what happens while it happens, as a person would want to read it.

use std::{
    io::Write as _,
    sync::Arc,
    time::{Duration, Instant},
};

/// Prints lines with the time since the beginning. Cheap to clone.
#[derive(Clone)]
pub struct Story {
    began: Arc<Instant>,
    quiet: bool,
}

impl Story {
    /// Begins now.
    #[must_use]
    pub fn begin(title: &str) -> Self {
        let story = Self { began: Arc::new(Instant::now()), quiet: false };
        story.print(title);
        story
    }

    /// Tells nothing; for tests.
    #[must_use]
    pub fn quiet() -> Self {
        Self { began: Arc::new(Instant::now()), quiet: true }
    }

    /// Since the beginning.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// One thing that happened.
    pub fn say(&self, what: impl AsRef<str>) {
        self.print(&format!("{:>6.1} s  {}", self.elapsed().as_secs_f64(), what.as_ref()));
    }

    /// Something without a time: a table, a list.
    pub fn print(&self, text: &str) {
        if !self.quiet {
            let mut out = std::io::stdout().lock();
            // If nobody reads any more, the story is not worth ending for.
            let _ = writeln!(out, "{text}").and_then(|()| out.flush());
        }
    }
}
