//! The configuration of one replica: TOML file, overridden by the environment, overridden by flags.
//!
//! * Environment: `MUX__SECTION__KEY`, e.g. `MUX__API__LISTEN=0.0.0.0:10009`.
//! * Flags: `--set section.key=value`.
//!
//! Unknown keys are errors, and every mistake is reported at once with its key, where it was read and what
//! to do about it: a replica that starts with half a configuration is worse than one that does not start.
//! Relative paths are relative to the file's directory. [`EXAMPLE`] documents every key.

mod check;
mod load;
mod sections;

pub use load::{ConfigError, Problem};
pub use sections::{
    Api, ApiAuth, Cluster, Config, Endpoint, FrontNode, Invoices, Links, Lnmux, Log, LogFormat, Metrics, Raft,
};

/// A commented configuration with every key. `muxd init` writes it filled in; a test parses it.
pub const EXAMPLE: &str = include_str!("config/example.toml");

#[cfg(test)]
mod tests;
