use super::*;
use std::path::{Path, PathBuf};

const PUBKEY: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";

/// The example with the commented-out block switched on: such lines have no space after the '#'.
fn full_example() -> String {
    let on = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c == '[' || c.is_ascii_lowercase()) => rest.to_owned(),
        _ => line.to_owned(),
    };
    EXAMPLE.lines().map(on).collect::<Vec<_>>().join("\n").replace("02...", PUBKEY)
}

fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

fn dir_with_files() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in
        ["seed", "ca.pem", "raft.pem", "raft.key", "api.pem", "api.key", "alice.macaroon", "alice.cert"]
    {
        write(dir.path(), name, &"1".repeat(64));
    }
    dir
}

fn problems(text: &str, overrides: &[&str]) -> Vec<Problem> {
    let dir = dir_with_files();
    let file = write(dir.path(), "muxd.toml", text);
    let overrides: Vec<_> = overrides.iter().map(ToString::to_string).collect();
    Config::load(&file, &overrides).err().map(|error| error.problems).unwrap_or_default()
}

#[test]
fn the_example_is_accepted_and_says_the_defaults() {
    let dir = dir_with_files();
    let file = write(dir.path(), "muxd.toml", &full_example());
    let config = Config::load(&file, &[]).unwrap();
    assert_eq!(config.raft.election_min_ms, 300);
    assert_eq!(config.metrics, Metrics::default());
    assert_eq!(config.log, Log::default());
    assert_eq!(config.lnmux, Lnmux::default());
    assert_eq!(config.invoices, Invoices::default());
    assert_eq!(config.links, Links::default());
    assert_eq!(config.front_nodes.len(), 1);
    assert_eq!(config.front_nodes[0].cltv_delta, 80);
    assert_eq!(config.front_nodes[0].macaroon, dir.path().join("alice.macaroon"), "relative to the file");
}

#[test]
fn the_example_documents_every_key() {
    let dir = dir_with_files();
    let file = write(dir.path(), "muxd.toml", &full_example());
    let config = Config::load(&file, &[]).unwrap();
    let written = toml::Table::try_from(&config).unwrap();
    let example: toml::Table = full_example().parse().unwrap();
    for (section, value) in written {
        let Some(keys) = value.as_table() else { continue };
        for key in keys.keys() {
            assert!(example[&section].get(key).is_some(), "{section}.{key} is not in the example");
        }
    }
}

#[test]
fn unknown_keys_are_refused_by_name() {
    let wrong = problems(&EXAMPLE.replace("[api]", "[api]\nlistne = \"x\""), &[]);
    assert_eq!(wrong.len(), 1);
    assert_eq!(wrong[0].key, "api.listne");
    assert!(wrong[0].remedy.contains("listen"), "{wrong:?}");
    assert_eq!(problems(&format!("{EXAMPLE}\n[nonsense]\n"), &[])[0].key, "nonsense");
}

#[test]
fn a_missing_key_is_named_with_its_variable() {
    let wrong = problems(&EXAMPLE.replace("data_dir = \"data\"", ""), &[]);
    assert_eq!(wrong[0].key, "raft.data_dir");
    assert!(wrong[0].remedy.contains("MUX__RAFT__DATA_DIR"), "{wrong:?}");
}

#[test]
fn flags_win_over_the_file() {
    let dir = dir_with_files();
    let file = write(dir.path(), "muxd.toml", EXAMPLE);
    let overrides = ["api.listen=127.0.0.1:5".to_owned(), "cluster.replica_id=2".to_owned()];
    let config = Config::load(&file, &overrides).unwrap();
    assert_eq!(config.api.listen.port(), 5);
    assert_eq!(config.cluster.replica_id, 2);
    assert_eq!(problems(EXAMPLE, &["api.listne=1"])[0].key, "api.listne");
    assert_eq!(problems(EXAMPLE, &["nonsense"])[0].remedy, "write --set section.key=value");
}

#[test]
fn every_mistake_is_told_at_once() {
    let text = EXAMPLE
        .replace("name = \"mux\"", "name = \"My Cluster\"")
        .replace("heartbeat_ms = 100", "heartbeat_ms = 400")
        .replace("replica_id = 1", "replica_id = 9")
        .replace("\"ca.pem\"", "\"nowhere.pem\"");
    let keys: Vec<_> = problems(&text, &[]).into_iter().map(|problem| problem.key).collect();
    assert_eq!(keys, ["cluster.name", "cluster.initial_members", "raft.tls_ca", "raft.heartbeat_ms"]);
}

#[test]
fn a_seed_open_to_everybody_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = dir_with_files();
    let file = write(dir.path(), "muxd.toml", EXAMPLE);
    let seed = dir.path().join("seed");
    std::fs::set_permissions(&seed, std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = Config::load(&file, &[]).unwrap_err();
    assert_eq!(error.problems[0].key, "cluster.seed_file");
    assert!(error.to_string().contains("chmod 600"), "{error}");
}

#[test]
fn a_front_node_twice_or_with_too_small_a_delta_is_refused() {
    let example = full_example();
    let at = example.find("[[front_nodes]]").unwrap();
    let twice = format!("{example}\n{}", &example[at..]);
    let keys: Vec<_> = problems(&twice, &[]).into_iter().map(|problem| problem.key).collect();
    assert_eq!(keys, ["front_nodes[1].pubkey", "front_nodes[1].alias"]);
    let short = full_example().replace("cltv_delta = 80", "cltv_delta = 4").replace("cltv = 80", "cltv = 24");
    assert_eq!(problems(&short, &[])[0].key, "front_nodes[0].cltv_delta");
}
