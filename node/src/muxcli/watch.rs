//! `muxcli invoice watch`: a line for each event, going on at another replica when one ends.

use super::amount::format_amount;
use super::args::WatchArgs;
use super::connect::Client;
use super::failure::Failure;
use super::invoice::{short_hash, state_name};
use super::output;
use super::time::format_ms;
use mux_proto::mux::v1::{EventKind, InvoiceState, SubscribeEventsRequest, SubscribeEventsResponse};
use serde_json::{Value, json as value};
use std::time::Duration;
use tonic::Code;

/// Between attempts to find a replica.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Attempts in a row without an event before giving up.
const ATTEMPTS_MAX: u32 = 20;

pub(super) async fn watch(mut client: Client, args: &WatchArgs, as_json: bool) -> Result<(), Failure> {
    let hash = args.hash.map_or_else(Default::default, |hash| bytes::Bytes::copy_from_slice(&hash.0));
    let mut request = SubscribeEventsRequest {
        after_sequence: args.after.unwrap_or(0),
        from_now: args.after.is_none() && args.hash.is_none(),
        hash,
    };
    let mut attempts: u32 = 0;
    loop {
        let failure = match follow(&client, &mut request, args.hash.is_some(), as_json, &mut attempts).await {
            Ok(()) => return Ok(()),
            Err(failure @ Failure::Unavailable(_)) if attempts < ATTEMPTS_MAX => failure,
            Err(failure) => return Err(failure),
        };
        eprintln!("muxcli: {failure}; going on at the next replica");
        attempts = attempts.saturating_add(1);
        tokio::time::sleep(RETRY_PAUSE).await;
        // The next turn reports it if this does not work either.
        let _ = client.reconnect().await;
    }
}

/// Until the stream ends, or nothing more can happen to the one invoice.
async fn follow(
    client: &Client,
    request: &mut SubscribeEventsRequest,
    one_invoice: bool,
    as_json: bool,
    attempts: &mut u32,
) -> Result<(), Failure> {
    let call = client.stream(request.clone());
    let mut events = client.invoices().subscribe_events(call).await.map_err(failure)?.into_inner();
    while let Some(event) = events.message().await.map_err(failure)? {
        *attempts = 0;
        request.after_sequence = event.sequence;
        request.from_now = false;
        let line = if as_json { format!("{}\n", to_json(&event)) } else { to_line(&event) };
        output::print(&line)?;
        if one_invoice && is_end(event.invoice_state()) {
            return Ok(());
        }
    }
    Err(Failure::Unavailable("the stream of events ended".into()))
}

fn failure(status: tonic::Status) -> Failure {
    if status.code() == Code::Unknown {
        Failure::Unavailable(status.message().into())
    } else {
        Failure::of_read(status)
    }
}

fn is_end(state: InvoiceState) -> bool {
    match state {
        InvoiceState::Settled | InvoiceState::Partial | InvoiceState::Canceled | InvoiceState::Expired => {
            true
        }
        InvoiceState::Unspecified | InvoiceState::Open | InvoiceState::Accepted | InvoiceState::Settling => {
            false
        }
    }
}

fn to_line(event: &SubscribeEventsResponse) -> String {
    let mut line = format!(
        "{}  {:>6}  {}  {:<16} {}",
        format_ms(event.log_time_ms),
        event.sequence,
        short_hash(&event.hash),
        kind_name(event.kind()),
        state_name(event.invoice_state()),
    );
    if event.amount_msat > 0 {
        line.push_str(&format!("  {}", format_amount(event.amount_msat)));
    }
    if !event.detail.is_empty() {
        line.push_str(&format!("  {}", event.detail));
    }
    line.push('\n');
    line
}

fn to_json(event: &SubscribeEventsResponse) -> Value {
    value!({
        "sequence": event.sequence,
        "kind": kind_name(event.kind()),
        "hash": hex::encode(&event.hash),
        "log_time_ms": event.log_time_ms,
        "invoice_state": state_name(event.invoice_state()),
        "amount_msat": event.amount_msat,
        "set_id": hex::encode(&event.set_id),
        "detail": event.detail,
    })
}

fn kind_name(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Unspecified => "unknown",
        EventKind::Added => "added",
        EventKind::HtlcJoined => "htlc-joined",
        EventKind::Accepted => "accepted",
        EventKind::SetFailed => "set-failed",
        EventKind::Settling => "settling",
        EventKind::Settled => "settled",
        EventKind::Partial => "partial",
        EventKind::Canceled => "canceled",
        EventKind::Expired => "expired",
        EventKind::HtlcFinal => "htlc-final",
        EventKind::HtlcUnconfirmed => "htlc-unconfirmed",
    }
}
