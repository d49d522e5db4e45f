//! `muxcli backup …` and `muxcli restore …`.

use super::args::BackupCommand;
use super::connect::Client;
use super::failure::Failure;
use super::output::{json, pairs};
use super::time::format_ms;
use mux_proto::mux::v1::{AcceptRestorationRequest, SaveBackupRequest};
use mux_raft::backup::{BackupSummary, inspect};
use mux_raft::machine::model::InvoiceState;
use serde_json::{Value, json as value};
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// What needs no replica.
pub(super) fn run_here(command: &BackupCommand, as_json: bool) -> Option<Result<String, Failure>> {
    match command {
        BackupCommand::Inspect { file } => Some(checked(file).map(|summary| show(&summary, as_json))),
        BackupCommand::Save { .. } => None,
    }
}

pub(super) async fn run(
    client: &mut Client,
    command: BackupCommand,
    as_json: bool,
) -> Result<String, Failure> {
    let (file, without_quorum) = match command {
        BackupCommand::Save { file, without_quorum } => (file, without_quorum),
        BackupCommand::Inspect { file } => (file, false),
    };
    if file.exists() {
        return Err(Failure::Refused(format!("{} exists: name a new file", file.display())));
    }
    let unfinished = unfinished_path(&file);
    let saved = save(client, &unfinished, without_quorum).await;
    let summary = match saved.and_then(|()| checked(&unfinished)) {
        Ok(summary) => summary,
        Err(failure) => {
            // Whatever came of it is no backup.
            let _ = std::fs::remove_file(&unfinished);
            return Err(failure);
        }
    };
    std::fs::rename(&unfinished, &file).map_err(|error| local(&file, &error))?;
    let parent =
        file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(|error| local(parent, &error))?;
    Ok(show(&summary, as_json))
}

/// Receives the file and makes it durable. It may be long: only each piece has a deadline.
async fn save(client: &mut Client, path: &Path, without_quorum: bool) -> Result<(), Failure> {
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| local(path, &error))?;
    let request = client.stream(SaveBackupRequest { without_quorum });
    let mut pieces = client.cluster().save_backup(request).await.map_err(Failure::of_read)?.into_inner();
    while let Some(piece) = pieces.message().await.map_err(Failure::of_read)? {
        file.write_all(&piece.data).map_err(|error| local(path, &error))?;
    }
    file.sync_all().map_err(|error| local(path, &error))
}

fn checked(path: &Path) -> Result<BackupSummary, Failure> {
    inspect(path).map_err(|error| Failure::Refused(error.to_string()))
}

fn unfinished_path(file: &Path) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_os_string();
    name.push(".unfinished");
    file.with_file_name(name)
}

fn local(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Refused(format!("{}: {error}", path.display()))
}

fn show(summary: &BackupSummary, as_json: bool) -> String {
    if as_json { json(&to_json(summary)) } else { to_text(summary) }
}

fn to_text(summary: &BackupSummary) -> String {
    let header = &summary.header;
    let counts = summary.state.invoice_counts();
    let invoices: u64 = counts.values().sum();
    let (label, at) = (&header.label, &header.at);
    pairs([
        ("Cluster", format!("{} ({})", label.cluster_name, label.network)),
        ("Node", label.node_pubkey.clone()),
        (
            "Taken",
            format!(
                "{} by replica {}, version {}",
                format_ms(header.taken_at_ms),
                header.replica,
                label.version
            ),
        ),
        (
            "Log",
            format!("entry {} of term {}, log time {}", at.index, at.term, format_ms(header.log_time_ms)),
        ),
        ("Level", header.feature_level.to_string()),
        ("Invoices", format!("{invoices}, of them {} finished records in the archive", summary.records)),
        ("Open", open_invoices(counts.get(&InvoiceState::Open).copied().unwrap_or(0))),
        ("Unresolved", format!("{} HTLCs", unresolved(summary))),
        ("Size", format!("{} bytes, checked", summary.bytes)),
    ])
}

fn open_invoices(open: u64) -> String {
    match open {
        0 => "no invoices".into(),
        1 => {
            "1 invoice; if it was paid since, muxd restore --void-open keeps it from being paid again".into()
        }
        _ => format!(
            "{open} invoices; if any was paid since, muxd restore --void-open keeps it from being paid again"
        ),
    }
}

fn to_json(summary: &BackupSummary) -> Value {
    let header = &summary.header;
    let counts: serde_json::Map<String, Value> = summary
        .state
        .invoice_counts()
        .into_iter()
        .map(|(state, count)| (format!("{state:?}").to_lowercase(), count.into()))
        .collect();
    value!({
        "cluster_name": header.label.cluster_name,
        "cluster_id": hex::encode(header.cluster_id),
        "network": header.label.network,
        "pub_key": header.label.node_pubkey,
        "version": header.label.version,
        "replica": header.replica,
        "taken_at_ms": header.taken_at_ms,
        "index": header.at.index,
        "term": header.at.term,
        "log_time_ms": header.log_time_ms,
        "feature_level": header.feature_level,
        "state_hash": hex::encode(header.state_hash),
        "archive_records": summary.records,
        "invoices": counts,
        "unresolved_htlcs": unresolved(summary),
        "bytes": summary.bytes,
    })
}

fn unresolved(summary: &BackupSummary) -> usize {
    let state = &summary.state;
    state.front_nodes().map(|front| state.unresolved_htlcs(&front.node).count()).sum()
}

/// `muxcli restore accept`
pub(super) async fn accept(client: &mut Client, as_json: bool) -> Result<String, Failure> {
    let request = client.request(AcceptRestorationRequest {});
    let answer = client.cluster().accept_restoration(request).await.map_err(Failure::of_write)?;
    let given_up = answer.into_inner().given_up;
    if as_json {
        return Ok(json(&value!({ "given_up": given_up })));
    }
    let mut text = format!("decided without LND's word on {} HTLCs:\n", given_up.len());
    for htlc in given_up {
        text.push_str(&htlc);
        text.push('\n');
    }
    Ok(text)
}
