//! The configuration in effect, for people.

use super::layers::{Layers, Origin};
use super::mask;
use super::sections::Config;
use std::fmt::Write as _;
use toml::{Table, Value};

/// TOML that can be read back, each value with where it comes from.
pub(super) fn print(config: &Config, layers: &Layers) -> String {
    let mut text = String::from("# The configuration in effect. Paths are resolved, secrets are masked.\n");
    let table = Table::try_from(config).expect("a configuration is plain data");
    for (name, value) in &table {
        match value {
            Value::Array(list) => list.iter().for_each(|one| block(&mut text, name, one, layers)),
            other => section(&mut text, (name, name), other, layers),
        }
    }
    text
}

fn block(text: &mut String, name: &str, value: &Value, layers: &Layers) {
    let _ = write!(text, "\n[[{name}]]\n");
    let Some(table) = value.as_table() else { return };
    let origin = layers.origin(name);
    for (key, value) in table.iter().filter(|(_, value)| !value.is_array()) {
        line(text, key, value, &origin);
    }
    for (key, value) in table {
        let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
        list.iter().for_each(|one| block(text, &format!("{name}.{key}"), one, layers));
    }
}

/// `header` as it is written, `path` as it is looked up.
fn section(text: &mut String, (header, path): (&str, &str), value: &Value, layers: &Layers) {
    let Some(table) = value.as_table() else { return };
    let _ = write!(text, "\n[{header}]\n");
    for (key, value) in table.iter().filter(|(_, value)| !value.is_table()) {
        line(text, key, value, &layers.origin(&format!("{path}.{key}")));
    }
    for (key, value) in table.iter().filter(|(_, value)| value.is_table()) {
        let path = format!("{path}.{key}");
        section(text, (&path, &path), value, layers);
    }
}

fn line(text: &mut String, key: &str, value: &Value, origin: &Origin) {
    let value = match value {
        Value::String(value) if mask::is_secret(key) => Value::String(mask::text(value)),
        other => other.clone(),
    };
    let _ = writeln!(text, "{key} = {value} # {origin}");
}
