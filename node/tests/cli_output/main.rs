//! What `muxcli` prints, by golden files, and how it exits.
//!
//! Hashes and keys differ from run to run and are replaced by their length. `UPDATE_GOLDEN=1` writes the
//! files anew; look at the difference before committing it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod exits;
mod golden_files;
#[path = "../api_calls/server.rs"]
mod server;

use server::Server;
use std::path::Path;
use std::process::{Command, Output};

/// Runs `muxcli` against the server.
async fn muxcli(server: &Server, arguments: &[&str]) -> Output {
    let mut command = bare(arguments);
    command.arg("--rpc").arg(server.address.to_string());
    command.arg("--tls-cert").arg(&server.files.api_cert);
    command.arg("--macaroon").arg(&server.files.admin_macaroon);
    run(command).await
}

/// Without any target.
fn bare(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muxcli"));
    for name in ["RPC", "TLS_CERT", "MACAROON", "CONFIG", "TIMEOUT"] {
        command.env_remove(format!("MUXCLI_{name}"));
    }
    command.args(arguments);
    command
}

/// Off the runtime's threads: the server lives on them.
async fn run(mut command: Command) -> Output {
    server::soon(tokio::task::spawn_blocking(move || command.output().unwrap())).await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Compares with the golden file.
fn assert_golden(name: &str, output: &Output) {
    assert!(output.status.success(), "{}", text(&output.stderr));
    let seen = without_chance(&text(&output.stdout));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli_output/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &seen).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(seen, golden, "differs from {}; UPDATE_GOLDEN=1 writes it anew", path.display());
}

/// Replaces runs of 16 and more hexadecimal digits by as many signs, and invoices and virtual scids by their kind.
fn without_chance(text: &str) -> String {
    let mut out = String::new();
    let mut word = String::new();
    for c in text.chars().chain(['\n']) {
        if c.is_ascii_alphanumeric() {
            word.push(c);
            continue;
        }
        if word.starts_with("lnbcrt") {
            out.push_str("<bolt11>");
        } else if word.len() >= 16
            && word.chars().all(|c| c.is_ascii_hexdigit())
            && word.contains(|c: char| !c.is_ascii_digit())
        {
            out.push_str(&"#".repeat(word.len()));
        } else if (19..=20).contains(&word.len()) && word.chars().all(|c| c.is_ascii_digit()) {
            out.push_str("<scid>");
        } else {
            out.push_str(&word);
        }
        word.clear();
        out.push(c);
    }
    out.pop();
    out
}
