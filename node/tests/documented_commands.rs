//! Whatever the documents and the programs' own advice tell an operator to type exists: every command line of `muxd`
//! and `muxcli` is found in the text and parsed by the programs' own definitions.

#![allow(clippy::unwrap_used, clippy::panic)] // test code, outside of test functions

mod commands_support;

use commands_support::{Definitions, Told, lines_in};
use muxd::init::{AddReplica, ClusterPlan, add_replica, next_steps, next_steps_of_added, write_cluster};
use std::path::Path;

/// Complete command lines that README has at least.
const LINES_MIN: usize = 25;

/// Commands and flags that README mentions within sentences at least.
const MENTIONS_MIN: usize = 25;

fn document(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)).unwrap()
}

fn wrong(text: &str) -> Vec<String> {
    let definitions = Definitions::new();
    let found = lines_in(text).into_iter();
    found.filter_map(|told| definitions.check(&told).err().map(|why| format!("{told:?}: {why}"))).collect()
}

#[test]
fn every_command_in_the_documents_exists() {
    for name in ["README.md", "ARCHITECTURE.md"] {
        let wrong = wrong(&document(name));
        assert!(wrong.is_empty(), "{name}:\n{}", wrong.join("\n"));
    }
    let found = lines_in(&document("README.md"));
    let whole = found.iter().filter(|told| matches!(told, Told::Line(_))).count();
    let mentions = found.len() - whole;
    assert!(
        whole >= LINES_MIN && mentions >= MENTIONS_MIN,
        "{whole} lines and {mentions} mentions: {found:#?}"
    );
}

#[test]
fn every_command_of_muxd_is_in_the_readme() {
    let readme = document("README.md");
    for command in muxd::cli::definition().get_subcommands() {
        let (name, line) = (command.get_name(), format!("muxd {}", command.get_name()));
        assert!(readme.contains(&line), "README does not tell of `muxd {name}`");
    }
}

#[test]
fn the_next_steps_that_are_printed_are_commands_that_exist() {
    let dir = tempfile::tempdir().unwrap();
    let plan = ClusterPlan::loopback(dir.path().join("cluster"), 3);
    let written = write_cluster(&plan).unwrap();
    let replica = ClusterPlan::loopback(dir.path().into(), 4).replicas.pop().unwrap();
    let add = AddReplica { dir: dir.path().join("cluster"), like: None, replica, hosts: Vec::new() };
    let added = add_replica(&add).unwrap();
    for text in [next_steps(&plan, &written), next_steps_of_added(&added)] {
        let definitions = Definitions::new();
        let told = commands_support::printed(&text);
        assert!(told.len() >= 2, "{text}");
        for told in told {
            assert!(definitions.check(&told).is_ok(), "{told:?} in {text}");
        }
    }
}

#[test]
fn what_does_not_exist_is_found_wherever_it_is_told() {
    let console = |line: &str| format!("```console\n$ {line}\n```\n");
    for right in [
        console("muxcli --config muxd.toml member add 4 127.0.0.1:7404 # then wait"),
        console("muxd run \\\n    --config muxd.toml"),
        "`muxcli member add` and `member promote ID`, `--learner`, `muxcli transfer-leader [ID]`".into(),
        "text over `muxcli status\n--json`".into(),
        "`muxd restore --new-cluster --config muxd.toml mux-….backup`".into(),
        "`settings --auto-settle`".into(),
    ] {
        assert_eq!((lines_in(&right).is_empty(), wrong(&right)), (false, Vec::new()), "{right}");
    }
    for nonsense in [
        console("muxcli --config muxd.toml member adopt 4"),
        console("muxcli --config muxd.toml member add 4 127.0.0.1:7404 --voter"),
        console("muxcli member add 4"),
        console("target/release/muxd init"),
        console("muxd run \\\n    --konfig muxd.toml"),
        console("cd here && muxd begin"),
        "`muxd adopt`".into(),
        "`muxcli status --nope`".into(),
        "`muxcli transfer-leader [ID [ID]]`".into(),
        "`member adopt 4`".into(),
        "`--nope` does nothing".into(),
        "`settings --auto-pay`".into(),
        "`muxcli invoice list --state gone`".into(),
    ] {
        assert!(!wrong(&nonsense).is_empty(), "{nonsense}");
    }
}
