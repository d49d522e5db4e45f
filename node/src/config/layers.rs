//! The three layers of a configuration, and which of them each value comes from.

use super::load::{ConfigError, Problem};
use figment::providers::{Env, Format as _, Serialized, Toml};
use figment::value::Dict;
use figment::{Figment, Profile, Provider as _};
use std::fmt;
use std::path::{Path, PathBuf};

/// Prefix of the environment variables; [`SEPARATOR`] stands between section and key.
const PREFIX: &str = "MUX__";
const SEPARATOR: &str = "__";

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// No layer has it.
    Default,
    /// The file.
    File,
    /// This environment variable.
    Environment(String),
    /// `--set` of this key.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File => f.write_str("file"),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Flag(key) => write!(f, "flag --set {key}"),
        }
    }
}

/// File, environment and flags, the later winning over the earlier.
pub(super) struct Layers {
    file: PathBuf,
    figment: Figment,
}

impl Layers {
    /// Reads the file (`section.key = value`), the environment and the flags (`section.key=value`, as TOML values or
    /// bare text). The problems are those of flags that cannot be read.
    ///
    /// # Errors
    /// [`ConfigError`]: there is no file, or it is not TOML.
    pub(super) fn read(file: &Path, overrides: &[String]) -> Result<(Self, Vec<Problem>), ConfigError> {
        let fail = |problem| ConfigError { file: file.to_owned(), problems: vec![problem] };
        let text = std::fs::read_to_string(file).map_err(|error| {
            let remedy = "give the right path with --config, or create a cluster with `muxd init`";
            fail(Problem::new("(file)", error.to_string(), remedy))
        })?;
        if let Err(error) = text.parse::<toml::Table>() {
            let wrong = format!("it is not TOML: {}", error.to_string().trim_end());
            return Err(fail(Problem::new("(file)", wrong, "correct the line that is shown")));
        }
        let environment = Env::prefixed(PREFIX).split(SEPARATOR).lowercase(true);
        let mut figment = Figment::new().merge(Toml::string(&text)).merge(environment);
        let mut problems = Vec::new();
        for given in overrides {
            match given.split_once('=') {
                Some((key, value)) => {
                    figment = figment.merge(Serialized::default(key.trim(), flag_value(value)));
                }
                None => {
                    let problem =
                        Problem::new(given, "--set without a value", "write --set section.key=value");
                    problems.push(problem);
                }
            }
        }
        Ok((Self { file: file.to_owned(), figment }, problems))
    }

    /// What the layers say together.
    ///
    /// # Errors
    /// [`ConfigError`]: a layer cannot be read at all.
    pub(super) fn merged(&self) -> Result<Dict, ConfigError> {
        let data = self.figment.data().map_err(|error| ConfigError {
            file: self.file.clone(),
            problems: vec![Problem::new("(environment)", error.to_string(), "correct the value")],
        })?;
        Ok(data.get(&Profile::Default).cloned().unwrap_or_default())
    }

    /// Which layer said `section.key`. Elements of a list come from the layer that gave the list.
    pub(super) fn origin(&self, key: &str) -> Origin {
        let key = key.split_once('[').map_or(key, |(list, _)| list);
        let Some(metadata) = self.figment.find_metadata(key) else { return Origin::Default };
        if metadata.name.contains("environment") {
            Origin::Environment(variable(key))
        } else if metadata.name.starts_with("TOML") {
            Origin::File
        } else {
            Origin::Flag(key.to_owned())
        }
    }

    /// Where an operator has to look for a key: file, variable or flag.
    pub(super) fn place(&self, key: &str) -> String {
        match self.origin(key) {
            Origin::Default | Origin::File => self.file.display().to_string(),
            other => other.to_string(),
        }
    }
}

/// The environment variable of a key.
pub(super) fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', SEPARATOR).to_uppercase())
}

fn flag_value(text: &str) -> toml::Value {
    let bare = || toml::Value::String(text.to_owned());
    match format!("value = {text}").parse::<toml::Table>() {
        Ok(mut table) => table.remove("value").unwrap_or_else(bare),
        Err(_) => bare(),
    }
}
