//! The blocks of README that an operator carries out, in order.
//!
//! What a block does not say by itself stands in a comment before it, which readers do not see:
//! `<!-- test: in DIR -->`, `on each host`, `on each LND`, `into FILE`, `into each muxd.toml, for each LND`.

use std::path::PathBuf;

/// Chapters that are carried out; of the second, each of its sections.
const FORM: &str = "With real LND nodes";
const OPERATIONS: &str = "Operations";

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The nearest heading above.
    pub section: String,
    /// Of README, from 1.
    pub line: usize,
    pub place: Place,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Command lines, continued lines joined.
    Console(Vec<String>),
    /// To put into a configuration.
    Toml(String),
    /// Flags for LND, which the simulated one has by nature.
    Flags,
}

/// Where a block is carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In this directory, beside the cluster's.
    In(PathBuf),
    /// Into this file.
    Into(PathBuf),
    /// On every replica's machine, in its directory.
    EachHost,
    /// Into every replica's configuration, once for each LND.
    EachConfiguration,
    /// On every LND's machine.
    EachLnd,
}

impl Place {
    fn of(comment: &str) -> Result<Self, String> {
        match (comment, comment.strip_prefix("in "), comment.strip_prefix("into ")) {
            ("on each host", ..) => Ok(Self::EachHost),
            ("on each LND", ..) => Ok(Self::EachLnd),
            ("into each muxd.toml, for each LND", ..) => Ok(Self::EachConfiguration),
            (_, Some(dir), _) => Ok(Self::In(dir.into())),
            (_, _, Some(file)) => Ok(Self::Into(file.into())),
            _ => Err(format!("nobody knows where {comment:?} is")),
        }
    }
}

/// All of them.
///
/// # Errors
/// A line that cannot be understood, with its number.
pub fn blocks(readme: &str) -> Result<Vec<Block>, String> {
    let mut blocks = Vec::new();
    let (mut chapter, mut section) = (String::new(), String::new());
    let mut place = None;
    let mut lines = readme.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
    while let Some((number, line)) = lines.next() {
        if let Some(name) = line.strip_prefix("## ") {
            (chapter, section) = (name.to_owned(), name.to_owned());
        } else if let Some(name) = line.strip_prefix("### ") {
            name.clone_into(&mut section);
        } else if let Some(comment) =
            line.strip_prefix("<!-- test: ").and_then(|rest| rest.strip_suffix(" -->"))
        {
            place = Some(Place::of(comment).map_err(|why| format!("line {number}: {why}"))?);
        } else if let Some(kind) = line.strip_prefix("```") {
            let text: Vec<&str> =
                lines.by_ref().map(|(_, line)| line).take_while(|line| !line.starts_with("```")).collect();
            if chapter != FORM && chapter != OPERATIONS {
                continue;
            }
            let what = match kind {
                "console" => What::Console(commands(&text)),
                "toml" => What::Toml(text.join("\n")),
                "" => What::Flags,
                other => return Err(format!("line {number}: nobody knows how to do {other}")),
            };
            let place = place.take().unwrap_or_else(|| Place::In(PathBuf::new()));
            blocks.push(Block { section: section.clone(), line: number, place, what });
        } else if !line.is_empty() && place.is_some() {
            return Err(format!("line {number}: a place, but no block"));
        }
    }
    Ok(blocks)
}

/// What follows a prompt; anything else is output.
fn commands(lines: &[&str]) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    let mut goes_on = false;
    for line in lines {
        let text = line.strip_suffix('\\').unwrap_or(line).trim();
        match (line.strip_prefix("$ "), commands.last_mut()) {
            (Some(_), _) => commands.push(text.trim_start_matches("$ ").to_owned()),
            (None, Some(last)) if goes_on => {
                last.push(' ');
                last.push_str(text);
            }
            (None, _) => {}
        }
        goes_on = line.ends_with('\\');
    }
    commands
}
