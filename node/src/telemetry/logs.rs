//! Log lines, and where spans go.

use super::otlp;
use crate::config::{Config, Log, LogFormat};
use std::sync::atomic::{AtomicBool, Ordering};
use tracing_subscriber::filter::{FilterExt as _, LevelFilter, Targets, dynamic_filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry};

/// These show traffic, macaroons included, frame by frame: what they print of it is not ours to promise.
const NEVER_BELOW_INFO: [&str; 4] = ["h2=info", "hyper=info", "hyper_util=info", "tonic=info"];

/// Set once the replica ends in order.
static ENDING: AtomicBool = AtomicBool::new(false);

/// From now on openraft says nothing: it calls its own orderly end an error, line by line. What goes wrong then is told
/// by whoever ends it.
pub fn ending() {
    ENDING.store(true, Ordering::Relaxed);
}

fn is_told(target: &str, ending: bool) -> bool {
    !(ending && target.starts_with("openraft"))
}

/// Ends the export of spans: hands over what is left.
#[must_use]
pub struct Telemetry(Option<otlp::Provider>);

/// Starts logging to standard error and, if configured, the export of spans, which needs a tokio runtime
/// around it. `RUST_LOG` wins over the configured filter.
///
/// # Errors
/// A text for the operator: the filter or the collector's address is wrong, or logging was started before.
pub fn init_logs(config: &Config) -> Result<Telemetry, String> {
    let lines = lines(&config.log)?;
    let (spans, provider) = match otlp::start(&config.telemetry.otlp, config.cluster.replica_id)? {
        Some((layer, provider)) => {
            let own = Targets::new()
                .with_target("muxd", LevelFilter::DEBUG)
                .with_target("mux_raft", LevelFilter::DEBUG);
            (Some(layer.with_filter(own)), Some(provider))
        }
        None => (None, None),
    };
    let started = tracing_subscriber::registry().with(lines).with(spans).try_init();
    started.map_err(|error| error.to_string())?;
    if let Some(filter) = filter_of_environment().filter(|filter| *filter != config.log.filter) {
        tracing::warn!(filter, configured = config.log.filter, "RUST_LOG wins over log.filter");
    }
    Ok(Telemetry(provider))
}

fn lines(log: &Log) -> Result<Box<dyn Layer<Registry> + Send + Sync>, String> {
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let told = dynamic_filter_fn(|metadata, _| is_told(metadata.target(), ENDING.load(Ordering::Relaxed)));
    // It leaves levels to the other one; without this all of them would be looked at.
    let filter = filter(log)?.and(told.with_max_level_hint(LevelFilter::TRACE));
    Ok(match log.format {
        LogFormat::Text => {
            use std::io::IsTerminal as _;
            lines.with_ansi(std::io::stderr().is_terminal()).with_filter(filter).boxed()
        }
        LogFormat::Json => {
            lines.json().flatten_event(true).with_current_span(false).with_filter(filter).boxed()
        }
    })
}

fn filter(log: &Log) -> Result<EnvFilter, String> {
    let text = filter_of_environment().unwrap_or_else(|| log.filter.clone());
    let filter = EnvFilter::try_new(&text).map_err(|error| format!("log.filter {text:?}: {error}"))?;
    NEVER_BELOW_INFO.iter().try_fold(filter, |filter, text| {
        let directive = text.parse().map_err(|error| format!("log.filter {text:?}: {error}"))?;
        Ok(filter.add_directive(directive))
    })
}

/// What `RUST_LOG` says, which wins over `log.filter`.
pub(crate) fn filter_of_environment() -> Option<String> {
    std::env::var("RUST_LOG").ok().filter(|text| !text.is_empty())
}

/// Whether log lines can be chosen by this.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check_filter(text: &str) -> Result<(), String> {
    EnvFilter::try_new(text).map(drop).map_err(|error| error.to_string())
}

impl Telemetry {
    /// Hands over what was not exported yet; takes a second or two at most.
    pub fn end(self) {
        if let Some(provider) = self.0 {
            provider.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    /// What has another name in log lines, so that one search finds everything.
    const NAMES: [(&str, &str); 8] = [
        ("hash", "payment_hash"),
        ("key", "circuit_key"),
        ("htlc", "circuit_key"),
        ("node", "front_node"),
        ("alias", "front_node"),
        ("member", "replica"),
        ("peer", "replica"),
        ("entry", "index"),
    ];

    fn sources(folder: &Path, files: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, files);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                files.push(path);
            }
        }
    }

    /// The arguments of each line-writing macro in a source, up to its message.
    fn lines(source: &str) -> impl Iterator<Item = &str> {
        let macros = ["error!(", "warn!(", "info!(", "debug!(", "debug_span!(", "info_span!("];
        macros.into_iter().flat_map(move |name| {
            let called = source.split(name).skip(1);
            called.map(|rest| rest.split_once(");").map_or(rest, |(arguments, _)| arguments))
        })
    }

    #[test]
    fn fields_of_log_lines_have_one_name_each() {
        let own = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut files = Vec::new();
        sources(&own.join("src"), &mut files);
        sources(&own.join("../raft/src"), &mut files);
        let mut seen = 0;
        for path in files.iter().filter(|path| !path.ends_with("telemetry/logs.rs")) {
            let source = std::fs::read_to_string(path).unwrap();
            for line in lines(&source) {
                seen += 1;
                let fields = line.split('"').step_by(2).flat_map(|outside| outside.split(','));
                for field in fields.map(|field| field.trim().trim_start_matches(['%', '?'])) {
                    let name = field.split_once(" = ").map_or(field, |(name, _)| name);
                    let wrong = NAMES.iter().find(|(wrong, _)| *wrong == name);
                    assert!(wrong.is_none(), "{path:?}: {wrong:?} in {line}");
                }
            }
        }
        assert!(seen > 50, "the search is broken: {seen}");
    }
}
