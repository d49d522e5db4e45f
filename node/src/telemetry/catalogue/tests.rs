use super::{CATALOGUE, Kind, markdown};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Fewer names than this in the sources: the search is broken.
const NAMES_MIN: usize = 30;

/// Looks like a metric, but is where log lines come from.
const CRATE: &str = "mux_raft";

/// Source files of this crate and of the consensus crate, but for the catalogue itself.
fn sources() -> Vec<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![own.join("src"), own.join("../raft/src")];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                files.push(path);
            }
        }
    }
    files.retain(|path| !path.to_string_lossy().contains("telemetry/catalogue"));
    files
}

/// Metric names in a source: string literals that begin as all of them do.
fn names(source: &str) -> impl Iterator<Item = String> {
    ["mux_", "process_"].into_iter().flat_map(move |prefix| {
        let opened = format!("\"{prefix}");
        let quoted: Vec<_> = source.split(&opened).skip(1).filter_map(|rest| rest.split_once('"')).collect();
        let plain = |name: &&str| name.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase());
        let names = quoted.into_iter().map(|(name, _)| name).filter(plain);
        names.map(|name| format!("{prefix}{name}")).collect::<Vec<_>>()
    })
}

/// The labels that a source gives a metric, if it names them beside it.
fn labels(source: &str, name: &str) -> Vec<String> {
    let Some((_, rest)) = source.split_once(&format!("\"{name}\"")) else { return Vec::new() };
    let call = rest.split_once(')').map_or(rest, |(call, _)| call);
    let given = call.split('"').collect::<Vec<_>>();
    let labels = given.windows(2).filter(|pair| pair[1].trim_start().starts_with("=>"));
    labels.map(|pair| pair[0].to_owned()).collect()
}

/// Name → files that write it.
fn emitted() -> BTreeMap<String, BTreeSet<PathBuf>> {
    let mut emitted: BTreeMap<String, BTreeSet<PathBuf>> = BTreeMap::new();
    for path in sources() {
        let source = std::fs::read_to_string(&path).unwrap();
        for name in names(&source) {
            if name == CRATE {
                continue;
            }
            emitted.entry(name).or_default().insert(path.clone());
        }
    }
    assert!(emitted.len() >= NAMES_MIN, "{emitted:?}");
    emitted
}

#[test]
fn what_is_emitted_is_described_and_what_is_described_is_emitted() {
    let emitted: BTreeSet<String> = emitted().into_keys().collect();
    let described: BTreeSet<String> = CATALOGUE.iter().map(|metric| metric.name.to_owned()).collect();
    let missing: Vec<_> = emitted.difference(&described).collect();
    assert!(missing.is_empty(), "without an entry in the catalogue: {missing:?}");
    let dead: Vec<_> = described.difference(&emitted).collect();
    assert!(dead.is_empty(), "never emitted: {dead:?}");
}

#[test]
fn every_metric_has_one_writer() {
    for (name, writers) in emitted() {
        assert_eq!(writers.len(), 1, "{name} is written by {writers:?}");
    }
}

#[test]
fn labels_are_those_of_the_catalogue() {
    for (name, writers) in emitted() {
        let metric = CATALOGUE.iter().find(|metric| metric.name == name).unwrap();
        for path in writers {
            for label in labels(&std::fs::read_to_string(&path).unwrap(), &name) {
                assert!(metric.labels.contains(&label.as_str()), "{name} has a label {label} in {path:?}");
            }
        }
    }
}

#[test]
fn every_metric_is_there_once_and_named_after_its_kind_and_unit() {
    let mut seen = BTreeSet::new();
    for metric in CATALOGUE {
        let name = metric.name;
        assert!(seen.insert(name), "{name} is there twice");
        assert_eq!(name.ends_with("_total"), metric.kind == Kind::Counter, "{name} is a {:?}", metric.kind);
        let base = name.strip_suffix("_total").unwrap_or(name);
        let unit = metric.unit.map(|unit| unit.as_str());
        assert!(unit.is_none_or(|unit| base.ends_with(&format!("_{unit}"))), "{name} is in {unit:?}");
        assert!(!metric.help.is_empty() && !metric.help.contains('|'), "{name}: {:?}", metric.help);
    }
}

#[test]
fn the_committed_page_is_that_of_the_catalogue() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("metrics.md");
    if std::env::var_os("MUX_WRITE_METRICS").is_some() {
        std::fs::write(&path, markdown()).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == markdown(),
        "{} differs from the catalogue; write it anew with: MUX_WRITE_METRICS=1 cargo test -p muxd catalogue",
        path.display()
    );
}
