//! Reading a configuration and saying everything that is wrong with it.

use super::full_example;
use super::layers::Layers;
use super::print::{self, Sources};
use super::read::{Read, read};
use super::sections::Config;
use crate::telemetry::filter_of_environment;
use figment::providers::{Format as _, Toml};
use figment::{Figment, Profile, Provider as _};
use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

/// Everything that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// The file that was read.
    pub file: PathBuf,
    /// What is wrong, each with its remedy.
    pub problems: Vec<Problem>,
}

/// One mistake, or something that works but is probably not meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// File, environment variable or flag; empty until it is known.
    pub place: String,
    /// `section.key`.
    pub key: String,
    /// What is wrong with it.
    pub wrong: String,
    /// What to do.
    pub remedy: String,
}

impl Problem {
    pub(super) fn new(key: impl Into<String>, wrong: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { place: String::new(), key: key.into(), wrong: wrong.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.place.is_empty() {
            write!(f, "{}: ", self.place)?;
        }
        write!(f, "{}: {}\n    -> {}", self.key, self.wrong, self.remedy)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration in {} cannot be used:", self.file.display())?;
        for problem in &self.problems {
            write!(f, "\n  {problem}")?;
        }
        Ok(())
    }
}

/// A configuration and everything that was found about it.
pub struct Examined {
    /// The configuration; not to be used if there are problems.
    pub config: Config,
    /// What makes it unusable.
    pub problems: Vec<Problem>,
    /// What works but is probably not meant.
    pub warnings: Vec<Problem>,
    file: PathBuf,
    layers: Layers,
    replaced: BTreeSet<String>,
}

impl Examined {
    /// The configuration in effect as TOML, each value with where it comes from; secrets are masked, and what was not
    /// understood is told as such.
    #[must_use]
    pub fn print(&self) -> String {
        let filter = filter_of_environment();
        let sources = Sources { layers: &self.layers, replaced: &self.replaced, filter: filter.as_deref() };
        print::print(&self.config, &sources)
    }

    /// Also looks at the machine: ports, data directory. `starting`: the replica is about to run, so that nobody else
    /// may be running it.
    pub fn examine_machine(&mut self, starting: bool) {
        let (problems, warnings) = self.config.check_machine(starting);
        self.problems.extend(placed(problems, &self.layers));
        self.warnings.extend(placed(warnings, &self.layers));
    }

    /// The configuration, if it can be used.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem.
    pub fn into_config(self) -> Result<Config, ConfigError> {
        if self.problems.is_empty() {
            return Ok(self.config);
        }
        Err(ConfigError { file: self.file, problems: self.problems })
    }
}

impl Config {
    /// Reads `file`, the environment and `overrides` (`section.key=value`, as TOML values or bare text),
    /// resolves relative paths, and checks what can be checked without starting.
    ///
    /// # Errors
    /// [`ConfigError`] with every mistake.
    pub fn load(file: &Path, overrides: &[String]) -> Result<Self, ConfigError> {
        Self::examine(file, overrides)?.into_config()
    }

    /// Like [`Config::load`], and keeps what was found.
    ///
    /// # Errors
    /// [`ConfigError`], if there is no file, or it is not TOML.
    pub fn examine(file: &Path, overrides: &[String]) -> Result<Examined, ConfigError> {
        let (layers, Read { config, mut problems, replaced }) = Self::layered(file, overrides)?;
        let sound = |problem: &Problem| !replaced.iter().any(|key| is_below(&problem.key, key));
        let (wrong, warnings) = config.check();
        problems.extend(wrong.into_iter().filter(sound));
        let problems = placed(problems, &layers);
        let warnings = placed(warnings.into_iter().filter(sound).collect(), &layers);
        Ok(Examined { config, problems, warnings, file: file.to_owned(), layers, replaced })
    }

    /// Like [`Config::load`], without looking whether the named files are there and sound.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn parse(file: &Path, overrides: &[String]) -> Result<Self, ConfigError> {
        let (layers, read) = Self::layered(file, overrides)?;
        if read.problems.is_empty() {
            return Ok(read.config);
        }
        Err(ConfigError { file: file.to_owned(), problems: placed(read.problems, &layers) })
    }

    fn layered(file: &Path, overrides: &[String]) -> Result<(Layers, Read), ConfigError> {
        let (layers, mut problems) = Layers::read(file, overrides)?;
        let mut read = read(layers.merged()?, &example());
        problems.append(&mut read.problems);
        read.config.resolve(file.parent().unwrap_or_else(|| Path::new(".")));
        Ok((layers, Read { problems, ..read }))
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
        base.clone_into(&mut self.dir);
    }
}

/// A value of every key.
fn example() -> figment::value::Dict {
    let data = Figment::from(Toml::string(&full_example())).data();
    let data = data.expect("the example is TOML, a test reads it");
    data.get(&Profile::Default).cloned().unwrap_or_default()
}

/// Whether a key is another one, or in it.
fn is_below(key: &str, other: &str) -> bool {
    key.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// Says of each problem where its key was given.
fn placed(mut problems: Vec<Problem>, layers: &Layers) -> Vec<Problem> {
    for problem in &mut problems {
        problem.place = layers.place(&problem.key);
    }
    problems
}
