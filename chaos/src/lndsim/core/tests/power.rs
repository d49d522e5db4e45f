//! Start-up states, restarts, and what a killed process remembers.

use super::*;
use mux_proto::lnrpc::WalletState;

fn phase(power: Power, duration_ms: u64) -> ctl::restart_request::Phase {
    ctl::restart_request::Phase { power: power.into(), duration_ms }
}

#[test]
fn a_restart_goes_through_its_phases() {
    let mut bench = Bench::new();
    let phases = vec![phase(Power::Down, 100), phase(Power::WaitingToStart, 50), phase(Power::Locked, 10)];
    bench.command(Command::Restart(ctl::RestartRequest { phases, ..Default::default() }));
    assert_eq!(bench.core.wallet_state(), None);
    let mut states = Vec::new();
    for wait in [100, 50, 10] {
        bench.now_ms += wait;
        bench.give(Input::Tick).unwrap();
        states.push(bench.core.wallet_state().unwrap());
    }
    assert_eq!(states, [WalletState::WaitingToStart, WalletState::Locked, WalletState::ServerActive]);
    assert!(bench.others.iter().any(|output| matches!(output, Output::Listening(false))));
}

#[test]
fn a_standby_takes_no_htlc_and_runs_no_event_loop() {
    let mut bench = Bench::new();
    bench.power(Power::WaitingToStart);
    assert!(bench.others.iter().any(|output| matches!(output, Output::ResetConnections { of: None, .. })));
    let refused = bench.give(Input::Command(Box::new(Command::AddHtlc(Bench::request(1))))).unwrap_err();
    assert!(matches!(refused, Rejected::Precondition(_)));
}

#[test]
fn a_client_that_connects_before_the_event_loop_runs_sees_the_replays_first() {
    let mut bench = Bench::new();
    bench.connect();
    let key = bench.add(1);
    bench.take_offers();
    bench.power(Power::RpcActive);
    bench.connect();
    assert!(bench.take_offers().is_empty());
    bench.power(Power::ServerActive);
    assert_eq!(bench.take_offers(), [key]);
}

#[test]
fn a_graceful_stop_tells_the_client() {
    let mut bench = Bench::new();
    bench.connect();
    bench.command(Command::Restart(ctl::RestartRequest { graceful: true, ..Default::default() }));
    assert_eq!(bench.kill_text(), "switch shutting down");
}

#[test]
fn a_killed_process_remembers_what_lnd_remembers() {
    let mut bench = Bench::new();
    let stream = bench.connect();
    let (done, signed, boxed, held) = (bench.add(1), bench.add(2), bench.add(3), bench.add(4));
    bench.settle(stream, done, 1);
    bench.limit(ctl::Stage::Signed);
    bench.settle(stream, signed, 2);
    bench.limit(ctl::Stage::Mailbox);
    bench.settle(stream, boxed, 3);
    bench.mine(2);
    bench.take_offers();
    bench.kill();
    assert_eq!(bench.lookup(done), Ok((true, true)));
    assert_eq!(bench.truth(signed), None);
    assert_eq!(bench.core.get_info().block_height, HEIGHT + 2);
    assert_eq!(bench.core.outcomes_from(1, 10).len(), 2, "the payer's knowledge stays");
    bench.connect();
    let mut offered = bench.take_offers();
    offered.sort();
    assert_eq!(offered, [boxed, held]);
    assert_eq!(bench.add(5).htlc_id, 4, "indexes go on");
    bench.limit(ctl::Stage::Final);
    assert_eq!(bench.truth(signed), Some((true, true)));
}
