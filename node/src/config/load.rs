//! Reading the layers and saying what is wrong with them.

use super::sections::Config;
use figment::Figment;
use figment::error::Kind;
use figment::providers::{Env, Format as _, Serialized, Toml};
use std::fmt;
use std::path::{Path, PathBuf};

/// Prefix of the environment variables; [`SEPARATOR`] stands between section and key.
const PREFIX: &str = "MUX__";
const SEPARATOR: &str = "__";

/// Everything that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// The file that was read.
    pub file: PathBuf,
    /// What is wrong, each with its remedy.
    pub problems: Vec<Problem>,
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `section.key`.
    pub key: String,
    /// What is wrong with it.
    pub wrong: String,
    /// What to do.
    pub remedy: String,
}

impl Problem {
    pub(super) fn new(key: impl Into<String>, wrong: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { key: key.into(), wrong: wrong.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration in {} cannot be used:", self.file.display())?;
        for problem in &self.problems {
            write!(f, "\n  {}: {}\n    -> {}", problem.key, problem.wrong, problem.remedy)?;
        }
        Ok(())
    }
}

impl Config {
    /// Reads `file`, the environment and `overrides` (`section.key=value`, as TOML values or bare text),
    /// resolves relative paths, and checks what can be checked without starting.
    ///
    /// # Errors
    /// [`ConfigError`] with every mistake found at the first stage that has any.
    pub fn load(file: &Path, overrides: &[String]) -> Result<Self, ConfigError> {
        let config = Self::parse(file, overrides)?;
        let problems = config.check();
        if problems.is_empty() { Ok(config) } else { Err(fail(file, problems)) }
    }

    /// Like [`Config::load`], without looking whether the named files are there and sound.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn parse(file: &Path, overrides: &[String]) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(file).map_err(|error| {
            let remedy = "give the right path with --config, or create a cluster with `muxd init`";
            fail(file, vec![Problem::new("(file)", error.to_string(), remedy)])
        })?;
        let figment = Figment::new()
            .merge(Toml::string(&text))
            .merge(Env::prefixed(PREFIX).split(SEPARATOR).lowercase(true));
        let figment =
            overrides.iter().try_fold(figment, |figment, text| with_override(file, figment, text))?;
        let mut config: Self = figment
            .extract()
            .map_err(|error| fail(file, error.into_iter().map(|one| explain(&one)).collect()))?;
        config.resolve(file.parent().unwrap_or_else(|| Path::new(".")));
        Ok(config)
    }

    /// Makes relative paths relative to `base`.
    fn resolve(&mut self, base: &Path) {
        let own = [
            &mut self.cluster.seed_file,
            &mut self.raft.tls_ca,
            &mut self.raft.tls_cert,
            &mut self.raft.tls_key,
            &mut self.raft.data_dir,
            &mut self.api.tls_cert,
            &mut self.api.tls_key,
        ];
        for path in own {
            *path = base.join(&*path);
        }
        for node in &mut self.front_nodes {
            node.macaroon = base.join(&node.macaroon);
            for endpoint in &mut node.endpoints {
                endpoint.tls_cert = base.join(&endpoint.tls_cert);
            }
        }
    }
}

fn fail(file: &Path, problems: Vec<Problem>) -> ConfigError {
    ConfigError { file: file.to_owned(), problems }
}

fn with_override(file: &Path, figment: Figment, text: &str) -> Result<Figment, ConfigError> {
    let Some((key, value)) = text.split_once('=') else {
        let problem = Problem::new(text, "--set without a value", "write --set section.key=value");
        return Err(fail(file, vec![problem]));
    };
    let value = match format!("value = {value}").parse::<toml::Table>() {
        Ok(mut table) => table.remove("value").unwrap_or_else(|| toml::Value::String(value.to_owned())),
        Err(_) => toml::Value::String(value.to_owned()),
    };
    Ok(figment.merge(Serialized::default(key.trim(), value)))
}

fn explain(error: &figment::Error) -> Problem {
    let mut path = error.path.clone();
    let (wrong, remedy) = match &error.kind {
        Kind::UnknownField(name, known) => {
            if path.last() != Some(name) {
                path.push(name.clone());
            }
            (format!("there is no such key{}", source(error)), format!("use one of: {}", known.join(", ")))
        }
        Kind::MissingField(name) => {
            path.push(name.to_string());
            let variable = format!("{PREFIX}{}", path.join(SEPARATOR).to_uppercase());
            ("it is missing".to_owned(), format!("set it in the file, by --set, or in {variable}"))
        }
        Kind::UnknownVariant(value, known) => (
            format!("{value:?} is not allowed{}", source(error)),
            format!("use one of: {}", known.join(", ")),
        ),
        other => (format!("{other}{}", source(error)), "correct the value".to_owned()),
    };
    let key = if path.is_empty() { "(file)".to_owned() } else { path.join(".") };
    Problem { key, wrong, remedy }
}

/// Where a value came from, when it was not the file.
fn source(error: &figment::Error) -> String {
    match &error.metadata {
        Some(metadata) if metadata.name.contains("nvironment") => " (from the environment)".to_owned(),
        _ => String::new(),
    }
}
