//! README is true: whatever it tells an operator to do with LND nodes and in operations is done here as it is written, in
//! its order, on a fresh cluster, and after every block the cluster is paid.

#![allow(clippy::unwrap_used, clippy::panic)] // test code, outside of test functions

mod readme_support;

use readme_support::{
    document::{Block, Place, What, blocks},
    lnd,
    machine::{Machine, lines_up},
};
use std::{path::Path, time::Duration};

const DEMO: &str = env!("CARGO_BIN_EXE_demo");

/// Sections with something to do, in README's order.
const SECTIONS: [&str; 10] = [
    "With real LND nodes",
    "Back up",
    "Grow",
    "Shrink",
    "Replace a replica",
    "Drain and roll",
    "Upgrade",
    "Front nodes",
    "Certificates and macaroons",
    "Restore",
];

/// Files are looked at every 10 s.
const RELOADED_MAX: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_readme_tells_to_do_works_as_it_is_written() {
    let all = blocks(&readme()).unwrap();
    let mut sections: Vec<&str> = all.iter().map(|block| block.section.as_str()).collect();
    sections.dedup();
    assert_eq!(sections, SECTIONS);

    let mut machine = Machine::new(Path::new(DEMO), &["alice", "bob", "carol"]).await;
    let (mut section, mut done, mut flags) = ("", 0, 0);
    for block in &all {
        println!("README.md:{}: {}", block.line, block.section);
        if block.section != section {
            before(&mut machine, &block.section).await;
            section = &block.section;
        }
        let outcome = machine.carry_out(block).await;
        outcome.unwrap_or_else(|why| failed(&machine, block, &why));
        done += 1;
        flags += usize::from(block.what == What::Flags);
        if let Err(why) = after(&mut machine, block).await {
            failed(&machine, block, &why);
        }
    }
    assert_eq!((done, flags), (all.len(), 1), "but for LND's flags, everything was done");
}

fn readme() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).unwrap()
}

fn failed(machine: &Machine, block: &Block, why: &str) -> ! {
    for id in machine.running() {
        let log = machine.log(id);
        let last: Vec<_> = log.lines().rev().take(30).collect();
        println!("--- replica {id}, newest first:\n{}", last.join("\n"));
    }
    panic!("README.md:{} ({}): {why}", block.line, block.section)
}

/// What has happened when one reads this section.
async fn before(machine: &mut Machine, section: &str) {
    match section {
        "Replace a replica" => {
            machine.lose(2).await;
            std::fs::remove_dir_all(machine.replica_dir(2)).unwrap();
        }
        "Front nodes" => {
            let carol = machine.lnds.last().unwrap();
            machine.running().into_iter().for_each(|id| machine.carry_files(carol, id));
        }
        "Restore" => {
            for id in machine.running() {
                machine.lose(id).await;
            }
        }
        _ => {}
    }
}

/// What must have come of it.
async fn after(machine: &mut Machine, block: &Block) -> Result<(), String> {
    match (block.section.as_str(), &block.what) {
        ("Shrink", _) => machine.ended_well(4).await?,
        ("Drain and roll", What::Console(commands))
            if commands.iter().any(|line| line.contains(" drain ")) =>
        {
            machine.ended_well(3).await?;
        }
        ("Certificates and macaroons", _) => {
            for what in ["api", "raft"] {
                let line = format!("reloaded: new connections use it what=\"{what}\"");
                lines_up(&line, RELOADED_MAX, async || machine.log(1).contains(&line).then_some(())).await?;
            }
        }
        _ => {}
    }
    if machine.running().is_empty() { Ok(()) } else { machine.is_paid().await }
}

#[tokio::test]
async fn a_readme_that_is_not_true_is_found() {
    let mut machine = Machine::new(Path::new(DEMO), &[]).await;
    let block = |line: &str| Block {
        section: "Grow".into(),
        line: 1,
        place: Place::In("".into()),
        what: What::Console(vec![line.into()]),
    };
    machine.carry_out(&block("target/release/muxd init --dir mux-cluster")).await.unwrap();
    for wrong in [
        "muxd init --dir mux-cluster",
        "muxd adopt",
        "cargo build --release -p mux",
        "muxcli --config mux-cluster/replica-1/muxd.toml status",
        "muxd run --config mux-cluster/replica-4/muxd.toml",
        "muxcli --config mux-cluster/replica-1/muxd.toml invoice watch",
    ] {
        assert!(machine.carry_out(&block(wrong)).await.is_err(), "{wrong}");
    }
    std::fs::write(machine.base().join("multiplexer.macaroon"), "a macaroon").unwrap();
    let calls = lnd::calls();
    assert!(calls.contains(lnd::RESCUE) && readme().contains(lnd::RESCUE), "{calls:?}");
    let exact: Vec<_> = calls.into_iter().filter(|call| call != lnd::RESCUE).collect();
    let bake =
        |calls: &[String]| block(&format!("lncli bakemacaroon --save_to mux.macaroon {}", calls.join(" ")));
    machine.carry_out(&bake(&exact)).await.unwrap();
    for at in 0..exact.len() {
        let mut too_few = exact.clone();
        let missing = too_few.remove(at);
        let why = machine.carry_out(&bake(&too_few)).await.unwrap_err();
        assert!(why.contains(&format!("< {missing}")), "{why}");
    }
    let too_many = [&exact[..], &["uri:/lnrpc.Lightning/SendCoins".to_owned()]].concat();
    let why = machine.carry_out(&bake(&too_many)).await.unwrap_err();
    assert!(why.contains("> uri:/lnrpc.Lightning/SendCoins"), "{why}");
    for unclear in
        ["## Operations\n```python\n```", "<!-- test: somewhere -->", "<!-- test: on each host -->\nx"]
    {
        assert!(blocks(unclear).is_err(), "{unclear}");
    }
}
