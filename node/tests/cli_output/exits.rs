use crate::server::{Server, Setup};
use crate::{bare, muxcli, run, text};
use mux_raft::local::Weather;

/// Exit code and what was said on standard error.
async fn fails(server: &Server, arguments: &[&str]) -> (i32, String) {
    let output = muxcli(server, arguments).await;
    assert!(output.stdout.is_empty(), "failures go to standard error");
    (output.status.code().unwrap(), text(&output.stderr))
}

#[tokio::test]
async fn exit_codes_tell_what_to_do() {
    let server = Server::start(Setup::default()).await;
    let made = server.add(1_000).await;
    server.offer(1, 1, &made.payment_request, 1_000, 1_000);
    let hash = hex::encode(&made.hash);
    let unknown = "00".repeat(32);

    let (code, said) = fails(&server, &["invoice", "show", &unknown]).await;
    assert_eq!(code, 1, "refused: {said}");
    assert!(said.starts_with("muxcli: no invoice 0000"), "{said}");
    for wrong in [
        vec!["invoice", "add", "5"],
        vec!["invoice", "show", "abc"],
        vec!["invoice", "cancel"],
        vec!["nonsense"],
        vec!["htlc", "resolve", "settled"],
    ] {
        assert_eq!(fails(&server, &wrong).await.0, 2, "{wrong:?}");
    }
    server.consensus.set_weather(Weather::AnswerLost);
    let (code, said) = fails(&server, &["invoice", "settle", &hash, "--timeout", "1"]).await;
    assert_eq!(code, 3, "unknown: {said}");
    assert!(said.starts_with("muxcli: outcome unknown: "), "{said}");
    server.consensus.set_weather(Weather::NoQuorum);
    let (code, said) = fails(&server, &["invoice", "settle", &hash]).await;
    assert_eq!(code, 4, "unavailable: {said}");
    let (code, said) = fails(&server, &["invoice", "list"]).await;
    assert_eq!(code, 4, "{said}");
    let output = muxcli(&server, &["invoice", "list", "--stale"]).await;
    assert!(output.status.success(), "stale reads need no quorum");
}

#[tokio::test]
async fn a_replica_that_does_not_answer_is_passed_over() {
    let server = Server::start(Setup::default()).await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let target = |rpc: String| {
        let mut command = bare(&["status"]);
        command.arg("--rpc").arg(rpc);
        command.arg("--tls-cert").arg(&server.files.api_cert);
        command.arg("--macaroon").arg(&server.files.admin_macaroon);
        command
    };
    let output = run(target(free.to_string())).await;
    assert_eq!(output.status.code(), Some(4), "{}", text(&output.stderr));
    let output = run(target(format!("{free},{}", server.address))).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[tokio::test]
async fn the_replicas_own_configuration_says_how_to_reach_it() {
    let server = Server::start(Setup::default()).await;
    let mut command = bare(&["status", "--json"]);
    command.arg("--config").arg(&server.files.replicas[0].config);
    // The test's server listens elsewhere than configured; what is trusted and sent comes from the file.
    command.arg("--rpc").arg(server.address.to_string());
    let output = run(command).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    let output = run(bare(&["status"])).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--config"), "it says what is missing");
}

#[tokio::test]
async fn a_wrong_macaroon_and_a_wrong_certificate_are_refused() {
    let server = Server::start(Setup::default()).await;
    let other = Server::start(Setup::default()).await;
    let mut command = bare(&["status"]);
    command.arg("--rpc").arg(server.address.to_string());
    command.arg("--tls-cert").arg(&server.files.api_cert);
    command.arg("--macaroon").arg(&other.files.admin_macaroon);
    let output = run(command).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("not permitted"), "{}", text(&output.stderr));
    let mut command = bare(&["status"]);
    command.arg("--rpc").arg(server.address.to_string());
    command.arg("--tls-cert").arg(&other.files.api_cert);
    command.arg("--macaroon").arg(&server.files.admin_macaroon);
    let output = run(command).await;
    assert_eq!(output.status.code(), Some(4), "another server is not the cluster");
    assert!(text(&output.stderr).contains("certificate"), "{}", text(&output.stderr));
}

#[tokio::test]
async fn a_refused_change_of_members_says_what_to_do() {
    let server = Server::start(Setup::default()).await;
    server.run(mux_raft::machine::Command::raise_feature_level());
    for id in ["2", "3"] {
        let output = muxcli(&server, &["member", "add", id, &format!("{id}.example:1")]).await;
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains(&format!("replica {id} is 0 entries behind")));
    }
    for (arguments, code, expected) in [
        (vec!["member", "remove", "3"], 1, "add another replica first, or repeat with --force"),
        (vec!["member", "remove", "9"], 1, "replica 9 is not a member"),
        (vec!["member", "promote", "9"], 1, "add it first: muxcli member add 9 HOST:PORT"),
        (vec!["member", "add", "2", "elsewhere:1"], 1, "give the new one another id, such as 4"),
        (vec!["member", "add", "4", "2.example:1"], 1, "every replica has its own"),
        (vec!["member", "add", "4", "nowhere"], 1, "the host:port of its Raft listener"),
        (vec!["member", "add", "four", "h:1"], 2, "four"),
        (vec!["drain", "--timeout", "1"], 1, "a drain takes 5 to 3600 seconds"),
        // Nothing ends this server.
        (vec!["drain"], 4, "about to stop already"),
    ] {
        let (seen, said) = fails(&server, &arguments).await;
        assert!(seen == code && said.contains(expected), "{arguments:?}: {seen}: {said}");
    }
    let output = muxcli(&server, &["member", "remove", "3", "--force"]).await;
    assert!(text(&output.stderr).contains("warning: 2 of 2 voters answer, 2 are needed"));
    let (code, said) = fails(&server, &["member", "add", "3", "3.example:1"]).await;
    assert!(code == 1 && said.contains("replica 3 was removed, and an id never comes back"), "{said}");
    server.consensus.set_weather(Weather::NoQuorum);
    let (code, said) = fails(&server, &["drain"]).await;
    assert!(code == 4 && said.contains("repeat with --force"), "{said}");
    assert_eq!(fails(&server, &["member", "remove", "2"]).await.0, 4);
    let (code, said) = fails(&server, &["drain", "--rpc", "127.0.0.1:1"]).await;
    assert!(code == 2 && said.contains("names several: name that one alone"), "{said}");
}
