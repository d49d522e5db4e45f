//! `muxcli invoice …`.

use super::amount::format_amount;
use super::args::{AddArgs, InvoiceCommand, ListArgs, State};
use super::connect::Client;
use super::failure::Failure;
use super::output::{self, json, pairs, short, table};
use super::time::format_ms;
use super::{htlc, watch};
use mux_proto::mux::v1 as proto;
use mux_proto::mux::v1::add_invoice_request::What;
use mux_raft::types::{PaymentHash, SetId};
use serde_json::{Value, json as value};

pub(super) async fn run(client: Client, command: InvoiceCommand, as_json: bool) -> Result<(), Failure> {
    let text = match command {
        InvoiceCommand::Add(args) => add(&client, args, as_json).await?,
        InvoiceCommand::Show { hash, stale } => show(&client, &hash, stale, as_json).await?,
        InvoiceCommand::List(args) => list(&client, &args, as_json).await?,
        InvoiceCommand::Watch(args) => return watch::watch(client, &args, as_json).await,
        InvoiceCommand::Settle { hash, set } => settle(&client, &hash, set, as_json).await?,
        InvoiceCommand::Cancel { hash, set, payment_request } => {
            let request = proto::CancelInvoiceRequest {
                hash: hash.map_or_else(Default::default, |hash| hash.0.to_vec().into()),
                set_id: set_bytes(set),
                payment_request: payment_request.unwrap_or_default(),
            };
            let request = client.request(request);
            client.invoices().cancel_invoice(request).await.map_err(Failure::of_write)?;
            if as_json { json(&value!({ "canceled": true })) } else { "canceled\n".to_owned() }
        }
    };
    output::print(&text)
}

async fn add(client: &Client, args: AddArgs, as_json: bool) -> Result<String, Failure> {
    // A key of our own lets an unknown outcome be found out by repeating the command with it.
    let key = match (args.stateless, args.key) {
        (true, _) => String::new(),
        (false, Some(key)) => key,
        (false, None) => hex::encode(rand::random::<[u8; 16]>()),
    };
    let what = match args.description_hash {
        Some(hash) => What::DescriptionHash(hash.0.to_vec().into()),
        None => What::Description(args.description.unwrap_or_default()),
    };
    let request = client.request(proto::AddInvoiceRequest {
        amount_msat: args.amount.map_or(0, |amount| amount.0),
        expiry_secs: args.expiry.unwrap_or(0),
        stateless: args.stateless,
        idempotency_key: key.clone(),
        min_final_cltv: args.min_final_cltv.unwrap_or(0),
        what: Some(what),
    });
    let made =
        client.invoices().add_invoice(request).await.map_err(|status| match Failure::of_write(status) {
            Failure::Unknown(why) => Failure::Unknown(format!("{why}; run it again with --key {key}")),
            other => other,
        })?;
    let made = made.into_inner();
    for warning in &made.warnings {
        output::note(&format!("warning: {warning}"));
    }
    Ok(if as_json {
        json(&value!({
            "hash": hex::encode(&made.hash),
            "payment_request": made.payment_request,
            "add_index": made.add_index,
            "expires_at_ms": made.expires_at_ms,
            "warnings": made.warnings,
        }))
    } else {
        pairs([
            ("Hash", hex::encode(&made.hash)),
            ("Expires", format_ms(made.expires_at_ms)),
            ("Invoice", made.payment_request),
        ])
    })
}

async fn show(client: &Client, hash: &PaymentHash, stale: bool, as_json: bool) -> Result<String, Failure> {
    let message = proto::GetInvoiceRequest { hash: hash.0.to_vec().into(), consistency: consistency(stale) };
    let request = client.request(message);
    let answer = client.invoices().get_invoice(request).await.map_err(Failure::of_read)?.into_inner();
    let invoice = answer.invoice.unwrap_or_default();
    Ok(if as_json { json(&to_json(&invoice)) } else { to_text(&invoice) })
}

async fn list(client: &Client, args: &ListArgs, as_json: bool) -> Result<String, Failure> {
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let (mut invoices, mut after) = (Vec::new(), args.after);
    // A page may be short although there is more.
    while invoices.len() < limit {
        let request = client.request(proto::ListInvoicesRequest {
            after_add_index: after,
            limit: u32::try_from(limit - invoices.len()).unwrap_or(u32::MAX),
            states: args.state.iter().map(|state| state.number()).collect(),
            newest_first: !args.oldest_first,
            consistency: consistency(args.stale),
        });
        let page = client.invoices().list_invoices(request).await.map_err(Failure::of_read)?.into_inner();
        invoices.extend(page.invoices);
        after = page.next_add_index;
        if after == 0 {
            break;
        }
    }
    if as_json {
        let list: Vec<_> = invoices.iter().map(to_json).collect();
        return Ok(json(&value!({ "invoices": list, "next_add_index": after })));
    }
    if invoices.is_empty() {
        return Ok("No invoices.\n".to_owned());
    }
    let header = ["ADDED", "NUMBER", "STATE", "AMOUNT", "RECEIVED", "HASH", "DESCRIPTION"];
    Ok(table(&header, invoices.iter().map(row)))
}

async fn settle(
    client: &Client,
    hash: &PaymentHash,
    set: Option<SetId>,
    as_json: bool,
) -> Result<String, Failure> {
    let request = client.request(proto::SettleInvoiceRequest {
        hash: hash.0.to_vec().into(),
        set_id: set_bytes(set),
        preimage: Default::default(),
    });
    let answer = client.invoices().settle_invoice(request).await.map_err(Failure::of_write)?.into_inner();
    Ok(if as_json {
        json(&value!({ "decision_index": answer.decision_index }))
    } else {
        format!("decided to settle (number {})\n", answer.decision_index)
    })
}

fn row(invoice: &proto::Invoice) -> Vec<String> {
    vec![
        format_ms(invoice.created_at_ms),
        invoice.add_index.to_string(),
        state_name(invoice.state()).to_owned(),
        asked(invoice),
        format_amount(invoice.amount_received_msat),
        hex::encode(&invoice.hash),
        invoice.description.clone(),
    ]
}

fn asked(invoice: &proto::Invoice) -> String {
    if invoice.amount_msat == 0 { "any".to_owned() } else { format_amount(invoice.amount_msat) }
}

fn to_text(invoice: &proto::Invoice) -> String {
    let mut rows = vec![
        ("Hash", hex::encode(&invoice.hash)),
        ("State", state_name(invoice.state()).to_owned()),
        ("Amount", asked(invoice)),
        ("Paid", format_amount(invoice.amount_paid_msat)),
        ("Received", format_amount(invoice.amount_received_msat)),
        ("Added", format!("{} (number {})", format_ms(invoice.created_at_ms), invoice.add_index)),
        ("Expires", format_ms(invoice.expires_at_ms)),
        ("Decided", format_ms(invoice.decided_at_ms)),
        ("Finished", format_ms(invoice.finalized_at_ms)),
    ];
    let optional = [
        ("Description", invoice.description.clone()),
        ("Descr. hash", hex::encode(&invoice.description_hash)),
        ("Set", hex::encode(&invoice.set_id)),
        ("Preimage", hex::encode(&invoice.preimage)),
        ("Invoice", invoice.payment_request.clone()),
    ];
    if invoice.settle_deadline_height != 0 {
        rows.push(("Settle before", format!("block {}", invoice.settle_deadline_height)));
    }
    rows.extend(optional.into_iter().filter(|(_, text)| !text.is_empty()));
    let text = pairs(rows);
    if invoice.htlcs.is_empty() { text } else { format!("{text}\n{}", htlc::to_table(&invoice.htlcs)) }
}

fn to_json(invoice: &proto::Invoice) -> Value {
    value!({
        "hash": hex::encode(&invoice.hash),
        "state": state_name(invoice.state()),
        "amount_msat": invoice.amount_msat,
        "amount_paid_msat": invoice.amount_paid_msat,
        "amount_received_msat": invoice.amount_received_msat,
        "payment_request": invoice.payment_request,
        "description": invoice.description,
        "description_hash": hex::encode(&invoice.description_hash),
        "created_at_ms": invoice.created_at_ms,
        "expires_at_ms": invoice.expires_at_ms,
        "decided_at_ms": invoice.decided_at_ms,
        "finalized_at_ms": invoice.finalized_at_ms,
        "set_id": hex::encode(&invoice.set_id),
        "add_index": invoice.add_index,
        "decision_index": invoice.decision_index,
        "settle_index": invoice.settle_index,
        "stateless": invoice.stateless,
        "preimage": hex::encode(&invoice.preimage),
        "settle_deadline_height": invoice.settle_deadline_height,
        "htlcs": invoice.htlcs.iter().map(htlc::to_json).collect::<Vec<_>>(),
    })
}

/// As everywhere: lower case.
pub(super) fn state_name(state: proto::InvoiceState) -> &'static str {
    match state {
        proto::InvoiceState::Unspecified => "unknown",
        proto::InvoiceState::Open => "open",
        proto::InvoiceState::Accepted => "accepted",
        proto::InvoiceState::Settling => "settling",
        proto::InvoiceState::Settled => "settled",
        proto::InvoiceState::Partial => "partial",
        proto::InvoiceState::Canceled => "canceled",
        proto::InvoiceState::Expired => "expired",
    }
}

impl State {
    /// On the wire.
    fn number(self) -> i32 {
        let state = match self {
            Self::Open => proto::InvoiceState::Open,
            Self::Accepted => proto::InvoiceState::Accepted,
            Self::Settling => proto::InvoiceState::Settling,
            Self::Settled => proto::InvoiceState::Settled,
            Self::Partial => proto::InvoiceState::Partial,
            Self::Canceled => proto::InvoiceState::Canceled,
            Self::Expired => proto::InvoiceState::Expired,
        };
        state.into()
    }
}

fn consistency(stale: bool) -> i32 {
    let consistency = if stale { proto::Consistency::Stale } else { proto::Consistency::Linearizable };
    consistency.into()
}

fn set_bytes(set: Option<SetId>) -> bytes::Bytes {
    set.map_or_else(Default::default, |set| set.0.to_vec().into())
}

/// For the watcher.
pub(super) fn short_hash(hash: &[u8]) -> String {
    short(hash)
}
