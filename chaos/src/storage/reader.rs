//! The child that looks whether everything is there.

use super::ledger::{Acknowledged, hash_of, text_of};
use super::writer::{SNAPSHOTS, led, start};
use mux_raft::consensus::Consensus as _;
use mux_raft::machine::model::InvoiceState;
use mux_raft::replica::Replica;
use std::io::BufRead as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Events read at a time.
const EVENTS: usize = 1_000;

/// A replica looks at its archive within this time: here that is small.
const CHECKED_WITHIN: Duration = Duration::from_secs(60);

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
    exit_on_panic();
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
            looked = look_at_all(&replica, &expected) => looked,
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

/// As `muxd` does: a panic anywhere ends it. What it says then is a refusal only if it says what is damaged.
fn exit_on_panic() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map_or_else(String::new, ToString::to_string);
        let text = info.payload_as_str().unwrap_or("no text").replace('\n', " ");
        match mux_raft::replica::blame() {
            Some(blame) => println!("refused {blame}: panic at {place}: {text}"),
            None => println!("bad it panicked and did not say what is damaged: {place}: {text}"),
        }
        std::process::exit(1);
    }));
}

/// [`look`], until the replica itself has looked at all that it has: damage that it finds counts as noticed.
async fn look_at_all(replica: &Replica, expected: &Acknowledged) -> Result<Vec<String>, String> {
    let mut wrong = look(replica, expected).await?;
    let deadline = Instant::now() + CHECKED_WITHIN;
    while !replica.archive_is_checked() {
        if Instant::now() >= deadline {
            wrong.push("it has not looked at its archive".into());
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(wrong)
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
