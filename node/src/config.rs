//! The configuration of one replica: TOML file, overridden by the environment, overridden by flags.
//!
//! * Environment: `MUX__SECTION__KEY`, e.g. `MUX__API__LISTEN=0.0.0.0:10009`.
//! * Flags: `--set section.key=value`.
//!
//! Unknown keys are errors, and every mistake is reported at once with its key, where it was read and what
//! to do about it: a replica that starts with half a configuration is worse than one that does not start.
//! Relative paths are relative to the file's directory. [`EXAMPLE`] documents every key.

mod check;
mod files;
mod layers;
mod load;
mod machine;
mod mask;
mod print;
mod read;
mod sections;

pub(crate) use check::{ALIAS_LEN_MAX, FEW_OR_EVEN_REMEDY, few_or_even};
pub use load::{ConfigError, Examined, Problem};
pub(crate) use machine::Owner;
pub use sections::{
    Api, ApiAuth, Cluster, Config, Endpoint, FrontNode, Invoices, Links, Lnmux, Log, LogFormat, Metrics,
    Otlp, Raft, Shutdown, Telemetry,
};

/// A commented configuration with every key. `muxd init` writes it filled in; a test parses it.
pub const EXAMPLE: &str = include_str!("config/example.toml");

/// The example with its commented-out blocks switched on (such lines have no space after the '#'): a sound value
/// of every key there is.
fn full_example() -> String {
    // The generator of secp256k1, which everybody knows.
    const PUBKEY: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
    let on = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c == '[' || c.is_ascii_lowercase()) => rest.to_owned(),
        _ => line.to_owned(),
    };
    EXAMPLE.lines().map(on).collect::<Vec<_>>().join("\n").replace("02...", PUBKEY)
}

#[cfg(test)]
mod tests;
