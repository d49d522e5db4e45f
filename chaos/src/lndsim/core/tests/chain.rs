//! Heights that lag, freeze and go back.

use super::*;

fn heights(bench: &mut Bench) -> Vec<u32> {
    let others = std::mem::take(&mut bench.others);
    let height = |output| if let Output::Block(epoch) = output { Some(epoch.height) } else { None };
    others.into_iter().filter_map(height).collect()
}

fn view(bench: &mut Bench, request: ctl::SetChainViewRequest) {
    bench.command(Command::SetChainView(request));
}

#[test]
fn every_block_is_announced_and_get_info_follows() {
    let mut bench = Bench::new();
    bench.mine(3);
    assert_eq!(heights(&mut bench), [HEIGHT + 1, HEIGHT + 2, HEIGHT + 3]);
    assert_eq!(bench.core.get_info().block_height, HEIGHT + 3);
    bench.mine_to(HEIGHT + 3);
    assert_eq!(heights(&mut bench), [HEIGHT + 3], "the same tip again");
}

#[test]
fn a_lagging_or_frozen_node_acts_on_what_it_sees() {
    let mut bench = Bench::new();
    bench.connect();
    let key = bench.add(1);
    view(&mut bench, ctl::SetChainViewRequest { lag_blocks: Some(3), ..Default::default() });
    bench.mine_to(EXPIRY - 19);
    assert_eq!(bench.core.get_info().block_height, EXPIRY - 22);
    assert_eq!(bench.stage(key), ctl::Stage::Locked);
    view(
        &mut bench,
        ctl::SetChainViewRequest { frozen: Some(true), lag_blocks: Some(0), ..Default::default() },
    );
    assert_eq!(bench.core.get_info().block_height, EXPIRY - 22);
    view(&mut bench, ctl::SetChainViewRequest { frozen: Some(false), ..Default::default() });
    assert_eq!(bench.core.get_info().block_height, EXPIRY - 19);
    assert!(bench.failed_with(key).is_some(), "caught up");
    view(&mut bench, ctl::SetChainViewRequest { synced_to_chain: Some(false), ..Default::default() });
    assert!(!bench.core.get_info().synced_to_chain);
}

#[test]
fn a_reorganisation_repeats_heights_with_other_hashes() {
    let mut bench = Bench::new();
    bench.mine(3);
    let before = bench.core.get_info().block_hash;
    heights(&mut bench);
    bench.command(Command::Reorg(ctl::ReorgRequest { depth: 2, new_blocks: 2 }));
    assert_eq!(heights(&mut bench), [HEIGHT + 2, HEIGHT + 3]);
    let info = bench.core.get_info();
    assert_eq!(info.block_height, HEIGHT + 3);
    assert_ne!(info.block_hash, before);
    bench.mine_to(HEIGHT - 5);
    assert_eq!(bench.core.get_info().block_height, HEIGHT - 5, "heights can drop");
    assert_eq!(heights(&mut bench), [HEIGHT - 5]);
}
