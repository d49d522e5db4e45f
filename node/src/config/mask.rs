//! Keeps a secret from being printed that somebody wrote where the name of its file belongs.

use std::path::Path;

/// As many hexadecimal digits in a row are no file's name, but a seed, a key or a macaroon.
const SECRET_DIGITS: usize = 32;

/// As many of Base64's characters, with digits, small and capital letters among them, are no file's name either.
const SECRET_LETTERS: usize = 64;

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
    if long || text.contains("PRIVATE KEY") || is_base64(text) { MASK.to_owned() } else { without_user(text) }
}

/// Without a slash, which a path has: the alphabet of URLs, or the standard one as far as it goes.
fn is_base64(text: &str) -> bool {
    let alphabet = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '_' | '=');
    text.split('/').any(|part| {
        let has = |is_it: fn(&char) -> bool| part.chars().any(|c| is_it(&c));
        part.len() >= SECRET_LETTERS
            && part.chars().all(alphabet)
            && has(char::is_ascii_digit)
            && has(char::is_ascii_uppercase)
            && has(char::is_ascii_lowercase)
    })
}

/// An address without the name and the password before its host.
fn without_user(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let end = rest.find('/').unwrap_or(rest.len());
    match rest.get(..end).and_then(|authority| authority.rfind('@')) {
        Some(at) => format!("{scheme}://***{}", rest.get(at..).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked_and_paths_and_addresses_are_not() {
        let macaroon = "AgEDbG5kAvgBAwoQ0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUV";
        for secret in [macaroon, &"0a".repeat(16), "-----BEGIN PRIVATE KEY-----"] {
            assert_eq!(text(secret), MASK, "{secret}");
        }
        let path =
            "/var/lib/mux/a-rather-long-directory-name-for-one-cluster-of-many/replica-1/admin.macaroon";
        for open in [path, "http://collector:4317", "info,muxd=debug"] {
            assert_eq!(text(open), open);
        }
        assert_eq!(text("http://user:pa@ss@collector:4317/x"), "http://***@collector:4317/x");
    }
}
