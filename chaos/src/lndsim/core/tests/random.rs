//! Whatever happens in whatever order, some things stay true.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug)]
enum Step {
    Connect,
    Disconnect,
    Add(u8),
    Settle(usize),
    Fail(usize),
    Resume(usize),
    Mine(u32),
    Reorg,
    Flap,
    Leave,
    Crash,
    Kill,
    Limit(i32),
    Close(i32),
    Flags(bool),
    Reading(bool),
    Cut(u64),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Connect),
        1 => Just(Step::Disconnect),
        8 => (0_u8..6).prop_map(Step::Add),
        6 => (0_usize..20).prop_map(Step::Settle),
        3 => (0_usize..20).prop_map(Step::Fail),
        2 => (0_usize..20).prop_map(Step::Resume),
        3 => (1_u32..60).prop_map(Step::Mine),
        1 => Just(Step::Reorg),
        2 => Just(Step::Flap),
        1 => Just(Step::Leave),
        1 => Just(Step::Crash),
        1 => Just(Step::Kill),
        2 => (2_i32..=7).prop_map(Step::Limit),
        1 => (1_i32..=3).prop_map(Step::Close),
        1 => any::<bool>().prop_map(Step::Flags),
        2 => any::<bool>().prop_map(Step::Reading),
        1 => (0_u64..50).prop_map(Step::Cut),
        1 => (1_u64..100).prop_map(Step::Wait),
    ]
}

/// Offers a payment: the first kind by a real channel with its preimage known downstream, the last for too little.
fn add(bench: &mut Bench, n: u8, keys: &mut Vec<(HtlcKey, u8)>) {
    let real = n == 0;
    let request = ctl::AddHtlcRequest {
        incoming_expiry: bench.core.db.chain.tip() + 10 + u32::from(n) * 12,
        outgoing_requested_chan_id: if real { OUT_CHAN } else { VIRTUAL },
        downstream_preimage: if real { vec![n; 32].into() } else { Default::default() },
        incoming_amount_msat: if n == 5 { 1000 } else { 1_001_000 },
        ..Bench::request(n)
    };
    if let Ok(Reply::Added(key)) = bench.give(Input::Command(Box::new(Command::AddHtlc(request)))) {
        keys.push((key, n));
    }
}

fn perform(bench: &mut Bench, step: Step, keys: &mut Vec<(HtlcKey, u8)>) {
    let stream = StreamId(bench.streams);
    let try_give = |bench: &mut Bench, command| drop(bench.give(Input::Command(Box::new(command))));
    match step {
        Step::Connect => {
            bench.streams += 1;
            drop(bench.give(Input::StreamOpened(StreamId(bench.streams))));
        }
        Step::Disconnect => drop(bench.give(Input::StreamClosed(stream))),
        Step::Add(n) => add(bench, n, keys),
        Step::Settle(at) => {
            if let Some((key, n)) = keys.get(at).copied() {
                bench.settle(stream, key, n);
            }
        }
        Step::Fail(at) => {
            if let Some((key, _)) = keys.get(at).copied() {
                bench.fail(stream, key);
            }
        }
        Step::Resume(at) => {
            if let Some((key, _)) = keys.get(at).copied() {
                bench.resume(stream, key);
            }
        }
        Step::Mine(blocks) => bench.mine(blocks),
        Step::Reorg => drop(bench.command(Command::Reorg(ctl::ReorgRequest { depth: 3, new_blocks: 1 }))),
        Step::Flap => bench.flap(),
        Step::Leave => drop(bench.command(Command::PeerDisconnect(ctl::ChannelRef { chan_id: CHAN }))),
        Step::Crash => bench.crash(),
        Step::Kill => bench.kill(),
        Step::Limit(limit) if limit != 6 => {
            let request = ctl::SetStageLimitRequest { chan_id: 0, limit, release_after_ms: 30 };
            bench.command(Command::SetStageLimit(request));
        }
        Step::Limit(_) => {}
        Step::Close(commitment) => try_give(
            bench,
            Command::ForceClose(ctl::ForceCloseRequest { chan_id: CHAN, commitment, wait_for_block: true }),
        ),
        Step::Flags(on) => {
            bench.flags(ctl::SetFlagsRequest { require_interceptor: Some(on), ..Default::default() });
        }
        Step::Reading(on) => {
            bench.reading = on;
            if on {
                drop(bench.give(Input::StreamSent(stream)));
            }
        }
        Step::Cut(hold_slot_ms) => {
            try_give(
                bench,
                Command::CutStreams(ctl::CutStreamsRequest { hold_slot_ms, ..Default::default() }),
            );
            drop(bench.give(Input::StreamClosed(stream)));
        }
        Step::Wait(ms) => {
            bench.now_ms += ms;
            drop(bench.give(Input::Tick));
        }
    }
}

/// No millisatoshi comes from nowhere or goes there.
fn check_money(bench: &Bench) {
    let db = &bench.core.db;
    let mut expected: BTreeMap<u64, u64> =
        db.channels.values().map(|c| (c.chan_id, c.local_msat + c.remote_msat)).collect();
    for htlc in db.htlcs.values() {
        if !htlc.progress.stage.is_over() {
            *expected.get_mut(&htlc.terms.key.chan_id).unwrap() += htlc.terms.incoming_amount_msat;
        }
        if let Some(out) = htlc.progress.forwarded.as_ref().filter(|out| out.result.is_none()) {
            *expected.get_mut(&out.chan_id).unwrap() += out.amount_msat;
        }
    }
    for channel in db.channels.values() {
        assert_eq!(expected[&channel.chan_id], channel.capacity_sat * 1000);
    }
}

fn check(bench: &Bench) {
    check_money(bench);
    let db = &bench.core.db;
    let told: BTreeSet<HtlcKey> = db.outcomes.iter().map(|outcome| outcome.key).collect();
    assert_eq!(told.len(), db.outcomes.len(), "one outcome an HTLC");
    assert!(db.outcomes.iter().enumerate().all(|(at, outcome)| outcome.seq == at as u64 + 1));
    for htlc in db.htlcs.values() {
        let entry = bench.entry(htlc.terms.key);
        assert_eq!(db.live.contains(&htlc.terms.key), !htlc.progress.stage.is_over());
        if entry.node_paid {
            assert!(entry.preimage_revealed, "nobody pays without a preimage");
        }
        if htlc.progress.stage.is_over() {
            assert!(told.contains(&htlc.terms.key), "the payer of {} waits for ever", htlc.terms.key);
        }
        assert!(
            entry.preimage_revealed == matches!(bench.outcome(htlc.terms.key), Some(Resolution::Settle(_)))
        );
    }
}

proptest! {
    #[test]
    fn money_is_kept_and_payers_are_told_once(steps in prop::collection::vec(step(), 1..120)) {
        let mut bench = Bench::new();
        bench.open(OUT_CHAN, 5_000_000);
        let mut keys = Vec::new();
        for step in steps {
            perform(&mut bench, step, &mut keys);
            check(&bench);
        }
        // However it went: with the peers back and the last expiry past, everything is over. (With a peer
        // gone for good between its revocation and its signature, an HTLC stays pending for ever.)
        bench.reading = true;
        drop(bench.give(Input::StreamClosed(StreamId(bench.streams))));
        bench.now_ms += 1_000;
        bench.give(Input::Tick).unwrap();
        let limit = ctl::SetStageLimitRequest::default();
        bench.command(Command::SetStageLimit(limit));
        bench.command(Command::PeerReconnect(ctl::ChannelRef { chan_id: 0 }));
        bench.mine(400);
        check(&bench);
        prop_assert!(bench.core.db.live.is_empty());
        // And a journal tells the whole of it.
        let before = bench.core.ledger();
        bench.kill();
        prop_assert_eq!(bench.core.ledger(), before);
    }
}
