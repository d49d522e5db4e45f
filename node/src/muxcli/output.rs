//! Writing results.

use super::failure::Failure;
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;
use std::io::Write as _;

/// Writes a result to standard output. A reader that went away (`| head`) is no failure.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::Refused(format!("cannot write the result: {error}")))
        }
        _ => Ok(()),
    }
}

/// For people at the terminal: progress and warnings, beside the result.
pub(super) fn note(text: &str) {
    // Nobody may be listening.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Columns without lines: easy on the eye and on `awk`.
pub(super) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().copied());
    for row in rows {
        table.add_row(row);
    }
    lines(&table.to_string())
}

/// Names and values, one pair a line.
pub(super) fn pairs(rows: impl IntoIterator<Item = (&'static str, String)>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    for (name, value) in rows {
        table.add_row([name.to_owned(), value]);
    }
    lines(&table.to_string())
}

/// Without the padding that presets leave at both ends.
fn lines(table: &str) -> String {
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.strip_prefix(' ').unwrap_or(line).trim_end());
        text.push('\n');
    }
    text
}

/// Pretty, for one result.
pub(super) fn json(value: &Value) -> String {
    format!("{value:#}\n")
}

/// The first digits of a hash, enough to tell apart.
pub(super) fn short(bytes: &[u8]) -> String {
    let mut text = hex::encode(bytes);
    text.truncate(16);
    text
}

/// Yes or no.
pub(super) fn yes(on: bool) -> String {
    if on { "yes" } else { "no" }.to_owned()
}

/// Whether new invoices name a front node.
pub(super) fn health(healthy: bool, disabled: bool) -> String {
    match (healthy, disabled) {
        (_, true) => "disabled",
        (true, false) => "yes",
        (false, false) => "no",
    }
    .to_owned()
}
