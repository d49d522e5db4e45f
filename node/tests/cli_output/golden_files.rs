use crate::server::{Server, Setup};
use crate::{assert_golden, muxcli, text};
use mux_raft::machine::command::FinalOutcome;

/// Three invoices: paid, held, open.
async fn shop() -> (Server, Vec<String>) {
    let server = Server::start(Setup { front_nodes: 2, ..Setup::default() }).await;
    let mut hashes = Vec::new();
    for (amount, what) in [("2500sat", "tea"), ("1.5sat", "one sweet"), ("0sat", "a gift")] {
        let output = muxcli(&server, &["invoice", "add", amount, "-d", what, "--json"]).await;
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        hashes.push(json["hash"].as_str().unwrap().to_owned());
        let request = json["payment_request"].as_str().unwrap();
        match what {
            "tea" => {
                server.offer(1, 1, request, 2_000_000, 2_500_000);
                server.offer(2, 1, request, 500_000, 2_500_000);
            }
            "one sweet" => {
                server.offer(1, 2, request, 1_500, 1_500);
            }
            _ => {}
        }
    }
    let output = muxcli(&server, &["invoice", "settle", &hashes[0]]).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    server.finish(1, 1, FinalOutcome::Settled);
    server.finish(2, 1, FinalOutcome::Settled);
    (server, hashes)
}

#[tokio::test]
async fn output_is_as_agreed() {
    let (server, hashes) = shop().await;
    let [paid, held, _] = [&hashes[0], &hashes[1], &hashes[2]];
    let cases: Vec<(&str, Vec<&str>)> = vec![
        ("status.txt", vec!["status"]),
        ("status.json", vec!["status", "--json"]),
        ("settings.txt", vec!["settings"]),
        ("settings_changed.json", vec!["settings", "--margin-blocks", "7", "--json"]),
        ("invoice_list.txt", vec!["invoice", "list"]),
        ("invoice_list_held.json", vec!["invoice", "list", "--state", "accepted", "--json"]),
        ("invoice_list_none.txt", vec!["invoice", "list", "--state", "expired"]),
        ("invoice_show_paid.txt", vec!["invoice", "show", paid]),
        ("invoice_show_paid.json", vec!["invoice", "show", paid, "--json"]),
        ("invoice_show_held.txt", vec!["invoice", "show", held]),
        ("invoice_watch.txt", vec!["invoice", "watch", paid]),
        ("invoice_watch.json", vec!["invoice", "watch", paid, "--json"]),
        ("htlc_list.txt", vec!["htlc", "list"]),
        ("htlc_list_unresolved.json", vec!["htlc", "list", "--unresolved", "--json"]),
        ("invoice_add.txt", vec!["invoice", "add", "1sat", "--expiry", "60"]),
        ("invoice_add_stateless.json", vec!["invoice", "add", "1sat", "--stateless", "--json"]),
        ("invoice_cancel.txt", vec!["invoice", "cancel", held]),
    ];
    for (name, arguments) in cases {
        assert_golden(name, &muxcli(&server, &arguments).await);
    }
}
