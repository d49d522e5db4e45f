use crate::server::{Server, Setup, front_node};
use crate::{assert_golden, muxcli, text};
use mux_raft::machine::command::{Command, FinalOutcome};
use muxd::api::DrainReport;

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

/// A front node on an address where nobody listens.
fn add_carol(cert: &str) -> Vec<String> {
    let node = front_node(9).to_string();
    let arguments = ["front-node", "add", &node, "--alias", "carol", "--endpoint", "127.0.0.1:1"];
    let access = ["--lnd-cert", cert, "--lnd-macaroon", "carol.macaroon", "--zone", "a", "--fee-ppm", "5"];
    arguments.iter().chain(&access).map(ToString::to_string).collect()
}

#[tokio::test]
async fn a_front_node_that_cannot_be_used_is_not_added() {
    let (server, _) = shop().await;
    server.run(Command::raise_feature_level());
    std::fs::write(server.files.replicas[0].dir.join("carol.macaroon"), "m").unwrap();
    let add = add_carol(server.files.api_cert.to_str().unwrap());
    let output = muxcli(&server, &add.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("cannot use this node") && said.contains("--no-check"), "{said}");
    let held = muxcli(&server, &["front-node", "remove", "n1"]).await;
    assert_eq!(held.status.code(), Some(1), "it holds an HTLC");
    assert!(text(&held.stderr).contains("--force"), "{}", text(&held.stderr));
    let forced = muxcli(&server, &["front-node", "remove", "n1", "--force"]).await;
    assert!(forced.status.success(), "{}", text(&forced.stderr));
    let listed = text(&muxcli(&server, &["front-node", "list"]).await.stdout);
    assert!(!listed.contains("n1") && listed.contains("n2") && !listed.contains("carol"), "{listed}");
}

#[tokio::test]
async fn output_is_as_agreed() {
    let (server, hashes) = shop().await;
    server.run(Command::raise_feature_level());
    let cert = server.files.api_cert.to_str().unwrap();
    let add = add_carol(cert);
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
        ("settings_keep.txt", vec!["settings", "--keep-finished", "30"]),
        ("settings_keep_forever.json", vec!["settings", "--keep-finished", "forever", "--json"]),
        ("front_node_list.txt", vec!["front-node", "list"]),
        ("front_node_add.txt", add.iter().map(String::as_str).chain(["--no-check"]).collect()),
        ("front_node_disable.txt", vec!["front-node", "disable", "carol"]),
        ("front_node_list.json", vec!["front-node", "list", "--json"]),
        ("front_node_enable.txt", vec!["front-node", "enable", "carol"]),
        ("front_node_remove.txt", vec!["front-node", "remove", "carol"]),
    ];
    for (name, arguments) in cases {
        assert_golden(name, &muxcli(&server, &arguments).await);
    }
}

#[tokio::test]
async fn members_are_shown_and_changed_as_agreed() {
    let server = Server::start(Setup::default()).await;
    server.run(Command::raise_feature_level());
    let cases: Vec<(&str, Vec<&str>)> = vec![
        ("member_add_learner.txt", vec!["member", "add", "2", "b.example:7401", "--learner"]),
        ("member_promote.txt", vec!["member", "promote", "2"]),
        ("member_add.json", vec!["member", "add", "3", "c.example:7401", "--json"]),
        ("member_list.txt", vec!["member", "list"]),
        ("member_list.json", vec!["member", "list", "--json"]),
        ("member_remove.json", vec!["member", "remove", "2", "--force", "--json"]),
        ("member_remove_learner.txt", vec!["member", "remove", "2"]),
    ];
    for (name, arguments) in cases {
        assert_golden(name, &muxcli(&server, &arguments).await);
    }
    let drained =
        tokio::spawn(server.drains(DrainReport { leader: Some(3), not_done: vec!["links".into()] }));
    let output = muxcli(&server, &["drain", "--timeout", "20", "--force"]).await;
    assert_golden("drain.txt", &output);
    assert!(text(&output.stderr).contains("warning: without replica 1 the cluster has no quorum"));
    assert!(text(&output.stderr).contains("not done: links"));
    assert_eq!(drained.await.unwrap().as_secs(), 20);
}
