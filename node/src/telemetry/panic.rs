//! Panics.

use super::EXIT_FATAL;

/// From now on a panic in any thread or task is logged and ends the process with [`EXIT_FATAL`]. The
/// panic's text may come from anywhere, but no secret prints itself.
pub fn exit_on_panic() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map_or_else(|| "unknown".to_owned(), ToString::to_string);
        let blame = mux_raft::replica::blame().map(|blame| format!("{blame}: ")).unwrap_or_default();
        let payload = info.payload();
        let text = payload
            .downcast_ref::<&str>()
            .map(ToString::to_string)
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no text".to_owned());
        let backtrace = std::backtrace::Backtrace::capture();
        tracing::error!(at = %place, backtrace = %backtrace, "{blame}panic: {text}");
        // The log may be filtered, and this is the last chance to say it.
        eprintln!("muxd: {blame}panic at {place}: {text}");
        std::process::exit(EXIT_FATAL);
    }));
}
