//! Panics: a task that panics ends quietly, so a run has to ask.

use parking_lot::Mutex;

static FIRST: Mutex<Option<String>> = Mutex::new(None);

/// From now on the first panic anywhere in the process is kept.
pub fn keep() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        FIRST.lock().get_or_insert_with(|| panic.to_string());
        tell(panic);
    }));
}

/// The first panic since this was asked last.
#[must_use]
pub fn take() -> Option<String> {
    FIRST.lock().take()
}
