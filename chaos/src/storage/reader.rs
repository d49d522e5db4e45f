//! The child that looks whether everything is there.

use super::ledger::{Acknowledged, hash_of, text_of};
use super::writer::{SNAPSHOTS, led, start};
use mux_raft::consensus::Consensus as _;
use mux_raft::machine::model::InvoiceState;
use mux_raft::replica::Replica;
use std::io::BufRead as _;
use std::path::Path;
use std::process::ExitCode;

/// Events read at a time.
const EVENTS: usize = 1_000;

/// What of what is wrong is told, at most.
const TOLD: usize = 10;

/// Prints `good`, `refused …` or `bad …`.
pub(super) fn main(dir: &Path) -> ExitCode {
    let mut expected = Acknowledged::default();
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        match line.parse() {
            Ok(line) => expected.take(line),
            Err(error) => {
                println!("bad {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    let Ok(runtime) = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
    else {
        return ExitCode::FAILURE;
    };
    runtime.block_on(async {
        let replica = match start(dir, SNAPSHOTS).await {
            Ok(replica) => replica,
            Err(error) => {
                println!("refused {error}");
                return ExitCode::FAILURE;
            }
        };
        let looked = tokio::select! {
            looked = look(&replica, &expected) => looked,
            reason = replica.stopped() => Err(reason),
        };
        replica.shutdown().await;
        match looked.as_deref() {
            Err(reason) => {
                println!("refused {reason}");
                ExitCode::FAILURE
            }
            Ok([]) => {
                println!("good");
                ExitCode::SUCCESS
            }
            Ok(wrong) => {
                println!("bad {} things: {}", wrong.len(), wrong[..wrong.len().min(TOLD)].join("; "));
                ExitCode::FAILURE
            }
        }
    })
}

/// What is not as it was acknowledged.
///
/// # Errors
/// Damage was noticed while it was read. The replica stops then.
async fn look(replica: &Replica, expected: &Acknowledged) -> Result<Vec<String>, String> {
    let mut wrong = Vec::new();
    match led(replica).await {
        Some(term) if term > expected.term => {}
        Some(term) => wrong.push(format!("it leads in term {term} again, after {}", expected.term)),
        None => return Ok(vec!["it does not come to lead".to_owned()]),
    }
    // Everything that was committed is applied when the barrier has passed.
    if let Err(error) = replica.read_barrier().await {
        return Ok(vec![format!("no barrier: {error}")]);
    }
    for number in &expected.added {
        wrong.extend(amiss(replica, *number, expected.canceled.contains(number))?);
    }
    wrong.extend(gap(replica)?);
    Ok(wrong)
}

fn amiss(replica: &Replica, number: u64, canceled: bool) -> Result<Option<String>, String> {
    let found = replica.state().find_invoice(&hash_of(number)).map_err(|error| error.to_string())?;
    let Some(found) = found else { return Ok(Some(format!("invoice {number} is lost"))) };
    let (text, state) = (found.invoice.payment_request, found.invoice.state);
    Ok(if text != text_of(number) {
        Some(format!("invoice {number} has another text"))
    } else if canceled && state != InvoiceState::Canceled {
        Some(format!("invoice {number} is {state:?} again"))
    } else {
        None
    })
}

/// Events are numbered from 1 without a hole, from the archive into memory.
fn gap(replica: &Replica) -> Result<Option<String>, String> {
    let mut last = 0;
    loop {
        let events = replica.state().list_events(last, EVENTS).map_err(|error| error.to_string())?;
        if events.is_empty() {
            return Ok(None);
        }
        for event in events {
            if event.sequence != last + 1 {
                return Ok(Some(format!("event {} follows {last}", event.sequence)));
            }
            last = event.sequence;
        }
    }
}
