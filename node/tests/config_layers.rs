//! File, environment and flags as `muxd check-config` sees them, and what `muxd` does with mistakes.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn muxd(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muxd"));
    command.args(arguments).env_remove("MUXD_CONFIG").env_remove("RUST_LOG");
    command.envs(environment.iter().copied()).output().unwrap()
}

fn cluster(dir: &Path) -> PathBuf {
    let target = dir.join("cluster");
    let output = muxd(&["init", "--dir", target.to_str().unwrap(), "--network", "signet"], &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("Back up") && said.contains("muxd run --config"), "it says what is next: {said}");
    (1..=3).for_each(|id| listen_anywhere(&target.join(format!("replica-{id}/muxd.toml"))));
    target
}

/// Tests run side by side, and a check takes the ports for a moment: with those that `init` writes they would meet.
fn listen_anywhere(config: &Path) {
    let text = std::fs::read_to_string(config).unwrap();
    let anywhere: Vec<_> = text
        .lines()
        .map(|line| if line.starts_with("listen = ") { "listen = \"127.0.0.1:0\"" } else { line })
        .collect();
    assert_eq!(anywhere.iter().filter(|line| line.starts_with("listen = ")).count(), 3, "{text}");
    std::fs::write(config, anywhere.join("\n") + "\n").unwrap();
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn check(config: &Path, environment: &[(&str, &str)], flags: &[&str]) -> Output {
    let mut arguments = vec!["check-config", "--config", config.to_str().unwrap()];
    arguments.extend(flags);
    muxd(&arguments, environment)
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let config = cluster(dir.path()).join("replica-1/muxd.toml");
    assert!(check(&config, &[], &[]).status.success());
    let by_file = String::from_utf8(check(&config, &[], &[]).stdout).unwrap();
    assert!(by_file.contains("replica 1 of \"mux\""), "{by_file}");
    let environment = [
        ("MUX__CLUSTER__NAME", "shop"),
        ("MUX__CLUSTER__REPLICA_ID", "2"),
        ("MUX__RAFT__TLS_CERT", "../replica-2/raft.pem"),
        ("MUX__RAFT__TLS_KEY", "../replica-2/raft.key"),
    ];
    let by_environment = String::from_utf8(check(&config, &environment, &[]).stdout).unwrap();
    assert!(by_environment.contains("replica 2 of \"shop\""), "{by_environment}");
    let output = check(&config, &environment, &["--set", "cluster.name=bank"]);
    let by_flag = String::from_utf8(output.stdout).unwrap();
    assert!(by_flag.contains("replica 2 of \"bank\""), "{by_flag}");
}

#[test]
fn a_mistake_in_the_environment_is_named_and_ends_with_64() {
    let dir = tempfile::tempdir().unwrap();
    let config = cluster(dir.path()).join("replica-1/muxd.toml");
    let output = check(&config, &[("MUX__API__LISTNE", "127.0.0.1:1")], &[]);
    assert_eq!(output.status.code(), Some(64));
    let said = stderr(&output);
    assert!(said.contains("api.listne") && said.contains("environment"), "{said}");
    assert!(said.contains("listen"), "it says what would be right: {said}");
    let output = check(&config, &[("MUX__RAFT__HEARTBEAT_MS", "soon")], &[]);
    assert_eq!(output.status.code(), Some(64));
    assert!(stderr(&output).contains("raft.heartbeat_ms"), "{}", stderr(&output));
}

#[test]
fn run_refuses_what_check_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let config = cluster(dir.path()).join("replica-1/muxd.toml");
    let arguments = ["run", "--config", config.to_str().unwrap(), "--set", "api.auth=maybe"];
    let output = muxd(&arguments, &[]);
    assert_eq!(output.status.code(), Some(64));
    assert!(stderr(&output).contains("api.auth"), "{}", stderr(&output));
    let output = muxd(&["run", "--config", "/nowhere/muxd.toml"], &[]);
    assert_eq!(output.status.code(), Some(64));
    assert!(stderr(&output).contains("muxd init"), "{}", stderr(&output));
}

#[test]
fn every_mistake_is_told_in_one_run_with_place_key_and_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let config = cluster(dir.path()).join("replica-1/muxd.toml");
    let text =
        std::fs::read_to_string(&config).unwrap().replace("tls_ca = \"ca.pem\"", "tls_ca = \"gone.pem\"");
    let node = "[[front_nodes]]\npubkey = \"02ab\"\nalias = \"alice\"\nmacaroon = \"none\"\nendpoints = []\n";
    std::fs::write(&config, format!("{text}\n{node}{node}")).unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = format!("metrics.listen={}", taken.local_addr().unwrap());
    for command in ["check-config", "check", "run"] {
        let arguments = [command, "--config", config.to_str().unwrap(), "--set", &port];
        let output = muxd(&arguments, &[("MUX__RAFT__HEARTBEET_MS", "5")]);
        assert_eq!(output.status.code(), Some(64));
        let said = stderr(&output);
        for part in [
            "environment variable MUX__RAFT__HEARTBEET_MS: raft.heartbeet_ms: there is no such key",
            "did you mean \"heartbeat_ms\"?",
            "flag --set metrics.listen: metrics.listen: cannot listen on",
            "muxd.toml: raft.tls_ca: ",
            "front_nodes[0].pubkey: ",
            "front_nodes[1].alias: \"alice\" is the alias of front_nodes[0], too",
            "front_nodes[0].macaroon: ",
            "front_nodes[0].endpoints: there is none",
        ] {
            assert!(said.contains(part), "{command}: {part} is not in {said}");
        }
        assert!(!config.with_file_name("data").exists(), "nothing was started");
    }
}

#[test]
fn the_configuration_in_effect_is_printed_with_its_sources() {
    let dir = tempfile::tempdir().unwrap();
    let config = cluster(dir.path()).join("replica-1/muxd.toml");
    for command in ["check-config", "run"] {
        let arguments = ["--config", config.to_str().unwrap(), "--print-config", "--set", "log.format=json"];
        let output = muxd(&[&[command], &arguments[..]].concat(), &[("MUX__INVOICES__HINTS", "2")]);
        assert!(output.status.success(), "{}", stderr(&output));
        let printed = String::from_utf8(output.stdout).unwrap();
        for line in [
            "hints = 2 # environment variable MUX__INVOICES__HINTS",
            "format = \"json\" # flag --set log.format",
            "name = \"mux\" # file",
        ] {
            assert!(printed.lines().any(|printed| printed == line), "{line} is not in {printed}");
        }
        let read: toml::Table = printed.parse().unwrap();
        assert_eq!(read["invoices"]["hints"].as_integer(), Some(2), "it is TOML");
    }
}

#[test]
fn with_a_mistake_the_rest_is_printed_and_the_mistake_told() {
    let dir = tempfile::tempdir().unwrap();
    let config = cluster(dir.path()).join("replica-1/muxd.toml");
    for command in ["check-config", "run"] {
        let arguments =
            ["--config", config.to_str().unwrap(), "--print-config", "--set", "invoices.hints=many"];
        let output = muxd(&[&[command], &arguments[..]].concat(), &[]);
        assert_eq!(output.status.code(), Some(64));
        let printed = String::from_utf8(output.stdout.clone()).unwrap();
        assert!(printed.contains("name = \"mux\" # file"), "{printed}");
        assert!(
            stderr(&output).contains("flag --set invoices.hints: invoices.hints: "),
            "{}",
            stderr(&output)
        );
    }
}

#[test]
fn rust_log_is_told_where_it_wins_and_where_it_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let config = cluster(dir.path()).join("replica-1/muxd.toml");
    let output = check(&config, &[("RUST_LOG", "muxd=trace")], &["--print-config"]);
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains("# file; RUST_LOG=\"muxd=trace\" wins over it"), "{printed}");
    let output = check(&config, &[("RUST_LOG", "muxd=loud")], &[]);
    assert_eq!(output.status.code(), Some(64));
    assert!(stderr(&output).contains("RUST_LOG wins over it"), "{}", stderr(&output));
    // The port is ours, so that the replica ends at once.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = format!("metrics.listen={}", taken.local_addr().unwrap());
    let output =
        muxd(&["run", "--config", config.to_str().unwrap(), "--set", &port, "--set", "log.filter=a=b"], &[]);
    assert_eq!(output.status.code(), Some(64));
    assert!(stderr(&output).contains("log.filter: \"a=b\" is no filter"), "{}", stderr(&output));
}

#[test]
fn init_warns_of_a_number_of_replicas_that_helps_nobody() {
    for (count, warned) in [("1", Some("survives no failure")), ("3", None), ("4", Some("an even number"))] {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("cluster");
        let output = muxd(&["init", "--dir", target.to_str().unwrap(), "--replicas", count], &[]);
        assert!(output.status.success(), "{}", stderr(&output));
        let said = stderr(&output);
        match warned {
            Some(part) => assert!(said.contains("warning: --replicas") && said.contains(part), "{said}"),
            None => assert_eq!(said, ""),
        }
    }
}

#[test]
fn init_does_not_touch_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let target = cluster(dir.path());
    let seed = std::fs::read(target.join("seed")).unwrap();
    let output = muxd(&["init", "--dir", target.to_str().unwrap()], &[]);
    assert_eq!(output.status.code(), Some(64));
    assert!(stderr(&output).contains("never overwrites"), "{}", stderr(&output));
    assert_eq!(std::fs::read(target.join("seed")).unwrap(), seed);
}

#[test]
fn init_takes_addresses_for_every_replica_or_none() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("far");
    let target = target.to_str().unwrap();
    let output = muxd(&["init", "--dir", target, "--raft-address", "a.example:7401"], &[]);
    assert_eq!(output.status.code(), Some(64));
    let addresses = ["a", "b", "c"].map(|name| format!("{name}.example:7401"));
    let mut arguments = vec!["init", "--dir", target];
    addresses.iter().for_each(|address| arguments.extend(["--raft-address", address]));
    let output = muxd(&arguments, &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = std::fs::read_to_string(Path::new(target).join("replica-2/muxd.toml")).unwrap();
    assert!(text.contains("listen = \"0.0.0.0:7401\""), "reachable from the others");
    assert!(text.contains("3 = \"c.example:7401\""));
    assert!(text.contains("listen = \"0.0.0.0:10009\""), "one port for all, reachable for clients");
}
