//! Keeps a secret from being printed that somebody wrote where the name of its file belongs.

use std::path::Path;

/// As many hexadecimal digits in a row are no file's name, but a seed, a key or a macaroon.
const SECRET_DIGITS: usize = 32;

/// What is printed instead.
const MASK: &str = "*** (a secret, where the path of its file belongs)";

/// Whether this key names a file with a secret.
pub(super) fn is_secret(name: &str) -> bool {
    matches!(name, "seed_file" | "tls_key" | "macaroon")
}

/// A path as it may be printed.
pub(super) fn path(path: &Path) -> String {
    text(&path.to_string_lossy())
}

/// A value as it may be printed.
pub(super) fn text(text: &str) -> String {
    let mut run = 0_usize;
    let long = text.chars().any(|c| {
        run = if c.is_ascii_hexdigit() { run.saturating_add(1) } else { 0 };
        run >= SECRET_DIGITS
    });
    if long || text.contains("PRIVATE KEY") { MASK.to_owned() } else { text.to_owned() }
}
