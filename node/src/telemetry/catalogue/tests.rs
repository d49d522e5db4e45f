use super::describe;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Fewer names than this in the sources: the search is broken.
const NAMES_MIN: usize = 30;

/// Keeps what is described, with its kind.
#[derive(Default)]
struct Descriptions(Mutex<Vec<(String, &'static str)>>);

impl Descriptions {
    fn add(&self, name: &KeyName, kind: &'static str) {
        self.0.lock().push((name.as_str().to_owned(), kind));
    }
}

impl Recorder for Descriptions {
    fn describe_counter(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
        self.add(&name, "counter");
    }

    fn describe_gauge(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
        self.add(&name, "gauge");
    }

    fn describe_histogram(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
        self.add(&name, "histogram");
    }

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

fn described() -> Vec<(String, &'static str)> {
    let descriptions = Descriptions::default();
    metrics::with_local_recorder(&descriptions, describe);
    descriptions.0.into_inner()
}

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
fn names(source: &str) -> impl Iterator<Item = &str> {
    let quoted = source.split("\"mux_").skip(1).filter_map(|rest| rest.split_once('"'));
    quoted
        .map(|(name, _)| name)
        .filter(|name| name.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase()))
}

/// Name → files that write it.
fn emitted() -> BTreeMap<String, BTreeSet<PathBuf>> {
    let mut emitted: BTreeMap<String, BTreeSet<PathBuf>> = BTreeMap::new();
    for path in sources() {
        let source = std::fs::read_to_string(&path).unwrap();
        for name in names(&source) {
            emitted.entry(format!("mux_{name}")).or_default().insert(path.clone());
        }
    }
    assert!(emitted.len() >= NAMES_MIN, "{emitted:?}");
    emitted
}

#[test]
fn what_is_emitted_is_described_and_what_is_described_is_emitted() {
    let emitted: BTreeSet<String> = emitted().into_keys().collect();
    let described: BTreeSet<String> = described().into_iter().map(|(name, _)| name).collect();
    let missing: Vec<_> = emitted.difference(&described).collect();
    assert!(missing.is_empty(), "without a description: {missing:?}");
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
fn every_metric_is_described_once_and_named_after_its_kind() {
    let mut seen = BTreeSet::new();
    for (name, kind) in described() {
        assert!(seen.insert(name.clone()), "{name} is described twice");
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name} is a {kind}");
    }
}
