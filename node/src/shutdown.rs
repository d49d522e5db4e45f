//! Ending in order: told to stop, hand over, leave; and no later than promised.

use std::future::Future;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Waits for SIGTERM or SIGINT and says which.
///
/// # Errors
/// The operating system lets no handler be installed.
pub fn on_signal() -> std::io::Result<impl Future<Output = &'static str>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    })
}

/// SIGHUP, which would otherwise end the process.
///
/// # Errors
/// The operating system lets no handler be installed.
pub fn on_hangup() -> std::io::Result<Signal> {
    signal(SignalKind::hangup())
}

/// From now on the process ends within `limit`, whatever hangs: a thread of its own does not depend on the
/// runtime. Abrupt ends are safe, only slower for the others: nothing is acknowledged that is not durable.
pub fn arm_hard_limit(limit: Duration, exit_code: i32) {
    std::thread::spawn(move || {
        std::thread::sleep(limit);
        tracing::error!(limit_ms = limit.as_millis(), "shutdown took too long: ending without order");
        std::process::exit(exit_code);
    });
}

/// Gives a step its time and goes on, finished or not.
pub async fn step(name: &str, limit: Duration, step: impl Future<Output = ()>) {
    if tokio::time::timeout(limit, step).await.is_err() {
        tracing::warn!(step = name, limit_ms = limit.as_millis(), "shutdown goes on without this step");
    }
}
