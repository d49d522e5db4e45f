use super::*;
use std::path::{Path, PathBuf};

fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

fn dir_with_files() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let plan = crate::init::ClusterPlan::loopback(dir.path().join("cluster"), 3);
    let own = crate::init::write_cluster(&plan).unwrap().replicas[0].dir.clone();
    for name in ["seed", "ca.pem", "raft.pem", "raft.key", "api.pem", "api.key"] {
        std::fs::copy(own.join(name), dir.path().join(name)).unwrap();
    }
    std::fs::copy(own.join("api.pem"), dir.path().join("alice.cert")).unwrap();
    write(dir.path(), "alice.macaroon", "m");
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
    assert_eq!(config.front_nodes[0].macaroon, dir.path().join("alice.macaroon"), "relative to the file");
    // Only what has no default; everything else must come out the same.
    const NEEDED: [&str; 17] = [
        "name",
        "network",
        "seed_file",
        "replica_id",
        "initial_members",
        "listen",
        "tls_ca",
        "tls_cert",
        "tls_key",
        "data_dir",
        "pubkey",
        "alias",
        "endpoints",
        "address",
        "macaroon",
        "front_nodes",
        "1",
    ];
    let mut table: toml::Table = full_example().parse().unwrap();
    for name in ["metrics", "log", "lnmux", "invoices", "links", "telemetry"] {
        table.remove(name).unwrap();
    }
    for (name, value) in &mut table {
        let keep = |key: &str| NEEDED.contains(&key);
        let tables = match value {
            toml::Value::Table(table) => vec![table],
            toml::Value::Array(list) => list.iter_mut().filter_map(toml::Value::as_table_mut).collect(),
            other => panic!("{name} is {other}"),
        };
        tables.into_iter().for_each(|table| table.retain(|key, _| keep(key)));
    }
    let file = write(dir.path(), "short.toml", &table.to_string());
    assert_eq!(Config::load(&file, &[]).unwrap(), config, "the example says the defaults");
}

#[test]
fn the_example_documents_every_key_and_no_other() {
    let dir = dir_with_files();
    let file = write(dir.path(), "muxd.toml", &full_example());
    let config = Config::load(&file, &[]).unwrap();
    let written = toml::Value::try_from(&config).unwrap();
    let example: toml::Value = full_example().parse::<toml::Table>().unwrap().into();
    let mut keys = Vec::new();
    all_keys("", &written, &mut keys);
    let mut documented = Vec::new();
    all_keys("", &example, &mut documented);
    assert_eq!(keys, documented);
    assert!(keys.iter().any(|key| key == "front_nodes[0].endpoints[0].tls_cert"), "{keys:?}");
}

fn all_keys(path: &str, value: &toml::Value, keys: &mut Vec<String>) {
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                let dot = if path.is_empty() { "" } else { "." };
                all_keys(&format!("{path}{dot}{key}"), value, keys);
            }
        }
        toml::Value::Array(list) => {
            list.iter().enumerate().for_each(|(at, one)| all_keys(&format!("{path}[{at}]"), one, keys));
        }
        _ => keys.push(path.to_owned()),
    }
}

#[test]
fn every_key_of_the_example_has_a_comment_above_its_block() {
    let mut commented = false;
    for line in EXAMPLE.lines() {
        if line.is_empty() || line.starts_with('[') {
            commented = line.starts_with('[') && commented;
        } else if line.starts_with("# ") || line == "#" {
            commented = true;
        }
        let key =
            line.strip_prefix('#').unwrap_or(line).split_once(" = ").filter(|(key, _)| !key.contains(' '));
        assert!(commented || key.is_none(), "nothing explains {line:?}");
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
    let overrides = ["api.listen=127.0.0.1:5".to_owned(), "invoices.hints=2".to_owned()];
    let config = Config::load(&file, &overrides).unwrap();
    assert_eq!(config.api.listen.port(), 5);
    assert_eq!(config.invoices.hints, 2);
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

#[test]
fn mistakes_of_every_layer_are_told_together_with_their_places() {
    let text = full_example()
        .replace("expiry_secs = 3600", "expiry_secs = \"an hour\"\nexpiri = 1")
        .replace("auth = \"macaroon\"", "auth = \"maybe\"\nheartbeat_ms = 7")
        .replace("heartbeat_ms = 100", "heartbeat_ms = -1")
        .replace("pubkey = \"0279be", "pubkey = \"79be")
        .replace("address = \"alice.example:10009\"", "address = 5")
        .replace("data_dir = \"data\"\n", "")
        .replace("name = \"mux\"", "name = \"My Cluster\"");
    let wrong = problems(&text, &["metrics.listen=here", "nonsense.key=1", "invoices.hints=0"]);
    let keys: Vec<_> = wrong.iter().map(|problem| problem.key.as_str()).collect();
    for key in [
        "invoices.expiry_secs",
        "invoices.expiri",
        "api.auth",
        "api.heartbeat_ms",
        "raft.heartbeat_ms",
        "raft.data_dir",
        "front_nodes[0].pubkey",
        "front_nodes[0].endpoints[0].address",
        "metrics.listen",
        "nonsense",
        "cluster.name",
        "invoices.hints",
    ] {
        assert!(keys.contains(&key), "{key} is not among {keys:?}");
    }
    assert_eq!(keys.len(), 12, "{wrong:#?}");
    let of = |key: &str| wrong.iter().find(|problem| problem.key == key).unwrap();
    assert!(of("metrics.listen").place.contains("--set metrics.listen"), "{wrong:#?}");
    assert!(of("invoices.expiry_secs").place.ends_with("muxd.toml"), "{wrong:#?}");
    assert!(of("api.heartbeat_ms").remedy.contains("[raft]"), "it says where the key belongs");
    assert!(of("invoices.expiri").remedy.contains("did you mean \"expiry_secs\""), "{wrong:#?}");
    assert!(of("front_nodes[0].pubkey").remedy.contains("lncli getinfo"), "{wrong:#?}");
}

#[test]
fn a_pubkey_that_is_no_point_is_refused() {
    // x = 5 has no point on the curve.
    let off = format!("02{}05", "00".repeat(31));
    let at =
        full_example().replace("0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798", &off);
    let wrong = problems(&at, &[]);
    assert_eq!((wrong.len(), wrong[0].key.as_str()), (1, "front_nodes[0].pubkey"), "{wrong:?}");
}

#[test]
fn certificates_and_keys_must_be_sound_and_fit() {
    let dir = dir_with_files();
    let file = write(dir.path(), "muxd.toml", &full_example());
    let found = || {
        let problems = Config::load(&file, &[]).err().map(|error| error.problems).unwrap_or_default();
        problems.into_iter().map(|problem| problem.key).collect::<Vec<_>>()
    };
    let swap = |name: &str, with: &str| {
        let saved = std::fs::read(dir.path().join(name)).unwrap();
        std::fs::copy(dir.path().join(with), dir.path().join(name)).unwrap();
        let keys = found();
        std::fs::write(dir.path().join(name), saved).unwrap();
        keys
    };
    assert_eq!(found(), Vec::<String>::new());
    assert_eq!(swap("api.key", "raft.key"), ["api.tls_key"], "another certificate's key");
    assert_eq!(swap("ca.pem", "api.pem"), ["raft.tls_cert"], "another authority");
    assert_eq!(swap("raft.pem", "cluster/replica-2/raft.pem"), ["raft.tls_key"]);
    std::fs::copy(dir.path().join("cluster/replica-2/raft.key"), dir.path().join("other.key")).unwrap();
    let other = ["raft.tls_cert=cluster/replica-2/raft.pem".to_owned(), "raft.tls_key=other.key".to_owned()];
    let error = Config::load(&file, &other).unwrap_err();
    assert!(error.to_string().contains("not replica 1's certificate"), "{error}");
    write(dir.path(), "alice.cert", "no certificate");
    write(dir.path(), "alice.macaroon", "");
    assert_eq!(found(), ["front_nodes[0].endpoints[0].tls_cert", "front_nodes[0].macaroon"]);
}

#[test]
fn what_works_but_is_probably_not_meant_is_warned_of() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = dir_with_files();
    let text = full_example().replace("3 = \"127.0.0.1:7403\"\n", "");
    let file = write(dir.path(), "muxd.toml", &text);
    let open = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(dir.path().join("alice.macaroon"), open).unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["x".to_owned()]).unwrap();
    let soon = std::time::SystemTime::now() + std::time::Duration::from_secs(86_400 * 41 / 2);
    params.not_after = soon.into();
    let key = rcgen::KeyPair::generate().unwrap();
    write(dir.path(), "alice.cert", &params.self_signed(&key).unwrap().pem());
    let examined = Config::examine(&file, &[]).unwrap();
    let warnings: Vec<_> = examined.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(examined.problems, []);
    for part in ["even number of voters", "expires in 20 days", "alice.macaroon is open to every user"] {
        assert!(warnings.iter().any(|warning| warning.contains(part)), "{part} is not in {warnings:#?}");
    }
}

#[test]
fn a_filter_that_run_would_refuse_is_refused() {
    let wrong = problems(&EXAMPLE.replace("filter = \"info,", "filter = \"loud=very,"), &[]);
    assert_eq!((wrong.len(), wrong[0].key.as_str()), (1, "log.filter"), "{wrong:?}");
    assert!(wrong[0].wrong.contains("loud=very"), "{wrong:?}");
}

#[test]
fn timings_of_links_have_bounds() {
    for (key, wrong) in [
        ("links.quorum_lost_after_ms", "0"),
        ("links.quorum_lost_after_ms", "1199"),
        ("links.quorum_lost_after_ms", "86400000"),
        ("links.degraded_after_ms", "0"),
        ("links.degraded_after_ms", "86400000"),
        ("links.rescue_margin_blocks", "0"),
        ("links.rescue_margin_blocks", "13"),
        ("raft.election_max_ms", "86400000"),
    ] {
        let found = problems(EXAMPLE, &[&format!("{key}={wrong}")]);
        assert!(found.iter().any(|problem| problem.key == key), "{key} = {wrong}: {found:?}");
        assert!(found.iter().all(|problem| problem.remedy.contains("use ")), "{found:?}");
    }
    assert_eq!(problems(EXAMPLE, &["links.quorum_lost_after_ms=1200"]), []);
    let long = problems(&full_example(), &["invoices.min_final_cltv=1008"]);
    assert_eq!(long, [], "as long as it can be");
    let long = full_example().replace("cltv_delta = 80", "cltv_delta = 2000");
    assert_eq!(problems(&long, &[])[0].key, "front_nodes[0].cltv_delta");
}

#[test]
fn a_first_member_does_not_join() {
    let wrong = problems(EXAMPLE, &["cluster.join=true"]);
    assert_eq!((wrong.len(), wrong[0].key.as_str()), (1, "cluster.join"), "{wrong:?}");
    let joins = EXAMPLE.replace("1 = \"127.0.0.1:7401\"\n", "");
    assert_eq!(problems(&joins, &["cluster.join=true"]), []);
}

#[test]
fn a_data_directory_of_another_name_or_replica_is_told() {
    let dir = dir_with_files();
    let file = write(dir.path(), "muxd.toml", EXAMPLE);
    let found = |overrides: &[&str]| {
        let free = ["raft", "api", "metrics"].map(|section| format!("{section}.listen='127.0.0.1:0'"));
        let overrides: Vec<_> = free.into_iter().chain(overrides.iter().map(ToString::to_string)).collect();
        let mut examined = Config::examine(&file, &overrides).unwrap();
        examined.examine_machine(true);
        examined.problems
    };
    assert_eq!(found(&[]), [], "it is new");
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    Owner::of(&Config::load(&file, &[]).unwrap()).note(&data).unwrap();
    assert_eq!(found(&[]), []);
    let wrong = found(&["cluster.name=shop"]);
    assert_eq!((wrong.len(), wrong[0].key.as_str()), (1, "cluster.name"), "{wrong:?}");
    assert!(wrong[0].wrong.contains("\"shop\"") && wrong[0].wrong.contains("\"mux\""), "{wrong:?}");
    assert_eq!(found(&["cluster.network=mainnet"])[0].key, "cluster.network");
}

#[test]
fn with_mistakes_the_rest_is_printed_all_the_same() {
    let dir = dir_with_files();
    let text = full_example()
        .replace("hints = 3", "hints = \"three\"")
        .replace("address = \"alice.example:10009\"", "address = 5");
    let file = write(dir.path(), "muxd.toml", &text);
    let examined = Config::examine(&file, &["api.listen=127.0.0.1:5".to_owned()]).unwrap();
    let printed = examined.print();
    for line in [
        "listen = \"127.0.0.1:5\" # flag --set api.listen",
        "# hints: not understood, see below",
        "# address: not understood, see below",
        "alias = \"alice\" # file",
    ] {
        assert!(printed.lines().any(|printed| printed == line), "{line} is not in {printed}");
    }
    assert_eq!(examined.problems.len(), 2, "{:?}", examined.problems);
    printed.parse::<toml::Table>().unwrap();
}

#[test]
fn what_is_printed_can_be_read_back_and_shows_no_secret() {
    let dir = dir_with_files();
    let file = write(dir.path(), "muxd.toml", &full_example());
    let printed = Config::examine(&file, &["api.listen=127.0.0.1:5".to_owned()]).unwrap().print();
    assert!(printed.contains("listen = \"127.0.0.1:5\" # flag --set api.listen"), "{printed}");
    assert!(printed.contains("heartbeat_ms = 100 # file"), "{printed}");
    let again = write(dir.path(), "again.toml", &printed);
    let config = Config::load(&again, &[]).unwrap();
    assert_eq!(config, Config::load(&file, &["api.listen=127.0.0.1:5".to_owned()]).unwrap());

    let seed = std::fs::read_to_string(dir.path().join("seed")).unwrap().trim().to_owned();
    let examined = Config::examine(&file, &[format!("cluster.seed_file='{seed}'")]).unwrap();
    let said = format!("{}{}", examined.print(), examined.into_config().unwrap_err());
    assert!(said.contains("***") && !said.contains(&seed), "{said}");
}

#[test]
fn ports_and_the_data_directory_are_looked_at() {
    let dir = dir_with_files();
    let file = write(dir.path(), "muxd.toml", EXAMPLE);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap().to_string();
    let overrides = [
        format!("raft.listen='{taken}'"),
        "api.listen='192.0.2.1:1'".to_owned(),
        "metrics.listen='192.0.2.1:1'".to_owned(),
        "raft.data_dir='muxd.toml/data'".to_owned(),
    ];
    let mut examined = Config::examine(&file, &overrides).unwrap();
    examined.examine_machine(true);
    let keys: Vec<_> = examined.problems.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(
        keys,
        ["raft.data_dir", "raft.listen", "api.listen", "metrics.listen"],
        "{:?}",
        examined.problems
    );
}
