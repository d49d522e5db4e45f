//! Finds the command lines in a text, and asks the programs' own definitions about them.

#![allow(unreachable_pub)] // shared test code
#![allow(clippy::unwrap_used, clippy::panic)] // test code, outside of test functions

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, CommandFactory as _};
use muxd::muxcli::Cli;

/// Programs whose command lines are looked at.
const PROGRAMS: [&str; 2] = ["muxd", "muxcli"];

/// Sections in which a flag alone (`--force`) is one of these programs'; elsewhere it may be LND's or the demo's.
const OWN_SECTIONS: [&str; 3] = ["With real LND nodes", "Configuration", "Operations"];

/// What stands for a value in a text, and a value.
const PLACEHOLDERS: [(&str, &str); 5] = [
    ("FILE", "some.file"),
    ("DIR", "some-dir"),
    ("ID", "4"),
    ("HOST:PORT", "127.0.0.1:7404"),
    ("02...", "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"),
];

/// What a text tells to type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// A command line, program first, that must be right as it stands.
    Line(Vec<String>),
    /// A command named within a sentence, perhaps without its program and without all that it needs.
    Mention(Vec<String>),
    /// A flag named within a sentence.
    Flag(Vec<String>),
}

/// Both programs' definitions.
pub struct Definitions([Command; 2]);

impl Definitions {
    pub fn new() -> Self {
        Self([muxd::cli::definition(), Cli::command()])
    }

    fn of(&self, program: &str) -> Option<&Command> {
        self.0.iter().find(|command| command.get_name() == program)
    }

    /// Whether it exists; what is wrong otherwise.
    pub fn check(&self, told: &Told) -> Result<(), String> {
        match told {
            Told::Line(words) => self.parse(words).map_err(|error| error.to_string()),
            Told::Mention(words) if self.of(&words[0]).is_some() => self.mentioned(words),
            Told::Mention(words) => {
                let tried = PROGRAMS.map(|program| {
                    let words: Vec<_> = std::iter::once(program.to_owned()).chain(words.clone()).collect();
                    self.mentioned(&words)
                });
                tried.into_iter().reduce(Result::or).unwrap()
            }
            Told::Flag(words) => {
                let flags = words.iter().filter_map(|word| word.strip_prefix("--"));
                let unknown: Vec<_> =
                    flags.filter(|flag| !self.0.iter().any(|program| has(program, flag))).collect();
                if unknown.is_empty() {
                    Ok(())
                } else {
                    Err(format!("no command has --{}", unknown.join(", --")))
                }
            }
        }
    }

    fn parse(&self, words: &[String]) -> Result<(), clap::Error> {
        let command = self.of(&words[0]).unwrap();
        command.clone().try_get_matches_from(words).map(drop)
    }

    /// All that is named is known; what is not named may be missing.
    fn mentioned(&self, words: &[String]) -> Result<(), String> {
        let Err(error) = self.parse(words) else { return Ok(()) };
        let lacks_value = error.kind() == ErrorKind::InvalidValue
            && matches!(error.get(ContextKind::InvalidValue), Some(ContextValue::String(value)) if value.is_empty());
        match error.kind() {
            ErrorKind::MissingRequiredArgument
            | ErrorKind::MissingSubcommand
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => Ok(()),
            _ if lacks_value && words.last().is_some_and(|last| last.starts_with("--")) => Ok(()),
            _ => Err(error.to_string()),
        }
    }

    /// Whether a sentence that begins so speaks of a command.
    fn begins(&self, word: &str) -> bool {
        PROGRAMS.contains(&word) || self.0.iter().any(|program| program.find_subcommand(word).is_some())
    }
}

fn has(command: &Command, flag: &str) -> bool {
    command.get_arguments().any(|argument| argument.get_long() == Some(flag))
        || command.get_subcommands().any(|command| has(command, flag))
}

/// Everything that a document in Markdown tells to type: its code blocks, and what is set as code in its text.
pub fn lines_in(document: &str) -> Vec<Told> {
    let definitions = Definitions::new();
    let (mut told, mut text, mut block) = (Vec::new(), String::new(), String::new());
    let (mut in_block, mut own_section) = (false, true);
    for line in document.lines() {
        if line.trim_start().starts_with("```") {
            let whole = std::mem::take(&mut block).replace("\\\n", " ");
            told.extend(whole.lines().flat_map(commands));
            in_block = !in_block;
            continue;
        }
        if in_block {
            block.push_str(line.trim().trim_start_matches("$ "));
            block.push('\n');
            continue;
        }
        let heading = line.strip_prefix("## ");
        if line.trim().is_empty() || heading.is_some() {
            told.extend(inline(&definitions, &std::mem::take(&mut text), own_section));
        }
        own_section = heading.map_or(own_section, |heading| OWN_SECTIONS.contains(&heading));
        text.push_str(line);
        text.push(' ');
    }
    told.extend(inline(&definitions, &text, own_section));
    told
}

/// What a program's own advice tells to type: from its name to the end of the line.
pub fn printed(text: &str) -> Vec<Told> {
    text.lines().map(str::trim).flat_map(commands).collect()
}

/// What is set as code in a paragraph.
fn inline(definitions: &Definitions, paragraph: &str, own_section: bool) -> Vec<Told> {
    let mut told = Vec::new();
    for code in paragraph.split('`').skip(1).step_by(2) {
        for words in variants(code) {
            let Some(first) = words.first() else { continue };
            if first.starts_with("--") {
                told.extend(own_section.then_some(Told::Flag(words)));
            } else if words.len() > 1
                && PROGRAMS.contains(&first.as_str())
                && words.contains(&"--config".into())
            {
                told.push(Told::Line(words));
            } else if words.len() > 1 && definitions.begins(first) {
                told.push(Told::Mention(words));
            }
        }
    }
    told
}

/// The command lines in one line of a shell.
fn commands(line: &str) -> Vec<Told> {
    let words = variants(line).into_iter().flat_map(|words| {
        let parts: Vec<Vec<String>> =
            words.split(|word| ["&&", "|", ";"].contains(&word.as_str())).map(<[_]>::to_vec).collect();
        parts
    });
    words
        .filter_map(|mut words| {
            let first = words.first_mut()?;
            *first = first.rsplit('/').next()?.to_owned();
            PROGRAMS.contains(&first.as_str()).then_some(Told::Line(words))
        })
        .collect()
}

/// The words of a line, once with and once without what stands in brackets.
fn variants(line: &str) -> Vec<Vec<String>> {
    let mut texts = vec![line.to_owned()];
    if let (Some(open), Some(close)) = (line.find('['), line.rfind(']'))
        && open < close
    {
        let (before, within, after) = (&line[..open], &line[open + 1..close], &line[close + 1..]);
        texts = vec![format!("{before}{after}"), format!("{before}{within}{after}")];
    }
    texts.iter().map(|text| words(text)).collect()
}

/// As a shell divides them; what stands for a value is replaced by one.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut depth) = (Vec::new(), String::new(), false, 0_u32);
    for letter in text.chars().chain([' ']) {
        match letter {
            '"' => quoted = !quoted,
            '(' if word.ends_with('$') => depth += 1,
            ')' if depth > 0 => depth -= 1,
            ' ' if !quoted && depth == 0 => {
                if word == "#" {
                    return words;
                }
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            _ => {}
        }
        if letter != '"' {
            word.push(letter);
        }
    }
    for word in &mut words {
        if let Some((_, value)) = PLACEHOLDERS.iter().find(|(placeholder, _)| word == placeholder) {
            (*value).clone_into(word);
        }
    }
    words
}
