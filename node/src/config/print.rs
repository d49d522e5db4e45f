//! The configuration in effect, for people.
//!
//! What was not understood stands there as a comment, so that the rest can still be read back.

use super::layers::Layers;
use super::mask;
use super::sections::Config;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use toml::{Table, Value};

/// Where values come from.
pub(super) struct Sources<'a> {
    pub(super) layers: &'a Layers,
    /// Keys that were not understood; what stands there is the example's.
    pub(super) replaced: &'a BTreeSet<String>,
    /// What `RUST_LOG` says.
    pub(super) filter: Option<&'a str>,
}

/// TOML that can be read back, each value with where it comes from.
pub(super) fn print(config: &Config, sources: &Sources<'_>) -> String {
    let mut text = String::from("# The configuration in effect. Paths are resolved, secrets are masked.\n");
    let table = Table::try_from(config).expect("a configuration is plain data");
    for (name, value) in &table {
        match value {
            Value::Array(list) => {
                for (at, one) in list.iter().enumerate() {
                    block(&mut text, (name, &format!("{name}[{at}]")), one, sources);
                }
            }
            other => section(&mut text, (name, name), other, sources),
        }
    }
    text
}

/// `header` as it is written, `path` as it is told in messages.
fn block(text: &mut String, (header, path): (&str, &str), value: &Value, sources: &Sources<'_>) {
    let _ = write!(text, "\n[[{header}]]\n");
    let Some(table) = value.as_table() else { return };
    for (key, value) in table.iter().filter(|(_, value)| !value.is_array()) {
        line(text, (key, &format!("{path}.{key}")), value, sources);
    }
    for (key, value) in table {
        let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
        for (at, one) in list.iter().enumerate() {
            let path = format!("{path}.{key}[{at}]");
            block(text, (&format!("{header}.{key}"), &path), one, sources);
        }
    }
}

/// `header` as it is written, `path` as it is looked up.
fn section(text: &mut String, (header, path): (&str, &str), value: &Value, sources: &Sources<'_>) {
    let Some(table) = value.as_table() else { return };
    let _ = write!(text, "\n[{header}]\n");
    for (key, value) in table.iter().filter(|(_, value)| !value.is_table()) {
        line(text, (key, &format!("{path}.{key}")), value, sources);
    }
    for (key, value) in table.iter().filter(|(_, value)| value.is_table()) {
        let path = format!("{path}.{key}");
        section(text, (&path, &path), value, sources);
    }
}

fn line(text: &mut String, (key, path): (&str, &str), value: &Value, sources: &Sources<'_>) {
    if sources.replaced.contains(path) {
        let _ = writeln!(text, "# {key}: not understood, see below");
        return;
    }
    let value = match value {
        Value::String(value) if mask::is_secret(key) => Value::String(mask::text(value)),
        other => other.clone(),
    };
    let origin = sources.layers.origin(path);
    let _ = match sources.filter.filter(|_| path == "log.filter") {
        Some(filter) => writeln!(text, "{key} = {value} # {origin}; RUST_LOG={filter:?} wins over it"),
        None => writeln!(text, "{key} = {value} # {origin}"),
    };
}
