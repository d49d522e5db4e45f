//! Links over real gRPC, against a scripted LND: what only a transport shows.

#![allow(clippy::unwrap_used, reason = "a test's support may panic like a test")]

mod link_support;

use link_support::payments::{CHANNEL, HEIGHT, SCID, TIME, TestScreener, foreign, hash, request};
use link_support::{ANSWERS_WINDOW_BYTES, FakeLnd, Listener, MACAROON, NODE, until};
use mux_proto::lnrpc::{Channel, Htlc, LookupHtlcResolutionResponse, WalletState};
use mux_proto::routerrpc::ResolveHoldForwardAction::{Resume, Settle};
use mux_raft::consensus::Consensus as _;
use mux_raft::local::{LocalConsensus, Weather};
use mux_raft::machine::Command;
use mux_raft::machine::model::{FrontNodeAccess, FrontNodeEndpoint, FrontNodePolicy, InvoiceState};
use muxd::link::{LinkPhase, LinkTiming, Links, LinksConfig};
use muxd::lnd::{EndpointConfig, FrontNodeConfig};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

struct Rig {
    lnd: FakeLnd,
    listener: Option<Listener>,
    log: Arc<LocalConsensus>,
    screener: Arc<TestScreener>,
    links: Links,
    dir: tempfile::TempDir,
}

async fn rig() -> Rig {
    let lnd = FakeLnd::new(HEIGHT);
    let dir = tempfile::tempdir().unwrap();
    let listener = lnd.listen(dir.path(), "tls.cert").await;
    let endpoints = vec![(listener.address.to_string(), "tls.cert")];
    start(lnd, Some(listener), dir, endpoints)
}

fn start(
    lnd: FakeLnd,
    listener: Option<Listener>,
    dir: tempfile::TempDir,
    endpoints: Vec<(String, &str)>,
) -> Rig {
    let macaroon = dir.path().join("macaroon");
    if !macaroon.exists() {
        std::fs::write(&macaroon, MACAROON).unwrap();
    }
    let endpoints = endpoints
        .into_iter()
        .map(|(address, cert)| EndpointConfig { address, tls_cert: dir.path().join(cert).into() })
        .collect();
    let config = LinksConfig {
        front_nodes: vec![FrontNodeConfig {
            node: NODE,
            alias: "fake".into(),
            endpoints,
            macaroon,
            zone: String::new(),
            policy: FrontNodePolicy { scid: SCID, fee_base_msat: 0, fee_ppm: 0, cltv_delta: 80 },
        }],
        network: "regtest".into(),
        timing: LinkTiming {
            quorum_patience: Duration::from_millis(300),
            degraded_after: Duration::from_secs(3),
            backoff_max: Duration::from_millis(200),
            ..LinkTiming::default()
        },
        ..LinksConfig::default()
    };
    let log = Arc::new(LocalConsensus::new(1, TIME));
    let screener = Arc::new(TestScreener::default());
    let links = Links::start(config, Arc::clone(&log) as _, Arc::clone(&screener) as _);
    Rig { lnd, listener, log, screener, links, dir }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // The end of a test that failed waits for the link that it holds up.
        self.screener.let_go();
    }
}

impl Rig {
    fn phase(&self) -> LinkPhase {
        self.links.status()[0].phase
    }

    fn error(&self) -> String {
        self.links.status()[0].last_error.clone().unwrap_or_default()
    }

    async fn until_phase(&self, phase: LinkPhase) {
        // The link may know that its stream is there a moment before LND's own task does.
        let streams = matches!(phase, LinkPhase::Up | LinkPhase::Degraded);
        until(&format!("{phase:?}"), || self.phase() == phase && (!streams || self.lnd.is_held())).await;
    }

    fn state_of(&self, payment: u8) -> Option<InvoiceState> {
        self.log.state().read(|state| state.invoice(&hash(payment)).map(|invoice| invoice.state))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_session_is_up_although_lnd_sends_no_headers_before_the_first_htlc() {
    let rig = rig().await;
    rig.until_phase(LinkPhase::Up).await;
    rig.lnd.offer(request(1, 0));
    until("settled", || rig.lnd.actions() == [(0, Settle)]).await;
    let answer = rig.lnd.script.lock().answers[0].clone();
    assert_eq!(&answer.preimage[..], [1; 32]);
    rig.links.stop().await;
    until("the slot is free", || !rig.lnd.is_held()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_slot_is_tried_again_until_it_is_free() {
    let lnd = FakeLnd::new(HEIGHT);
    lnd.script.lock().slot_taken = true;
    let dir = tempfile::tempdir().unwrap();
    let listener = lnd.listen(dir.path(), "tls.cert").await;
    let endpoints = vec![(listener.address.to_string(), "tls.cert")];
    let rig = start(lnd, Some(listener), dir, endpoints);
    until("several refusals", || rig.lnd.script.lock().streams_refused >= 3).await;
    // On a loaded machine a refusal can come after the answer to the probe: the slot is then taken as held
    // for a moment. It must not stay so.
    until("the refusal is understood, and no session is left of it", || {
        let front = rig.log.state().read(|state| state.front_node(&NODE).cloned());
        rig.phase() == LinkPhase::Opening && front.is_some_and(|front| front.session.is_none())
    })
    .await;
    rig.lnd.script.lock().slot_taken = false;
    rig.until_phase(LinkPhase::Up).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_lnd_ends_is_opened_again_and_replays_are_answered_again() {
    let rig = rig().await;
    rig.until_phase(LinkPhase::Up).await;
    rig.lnd.offer(request(1, 0));
    until("settled", || rig.lnd.actions().len() == 1).await;
    for round in 2..5 {
        rig.lnd.kill_stream();
        until("held again", || rig.lnd.is_held() && rig.phase() == LinkPhase::Up).await;
        rig.lnd.offer(request(1, 0));
        until("settled again", || rig.lnd.actions() == vec![(0, Settle); round]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_htlc_for_another_does_not_wait_until_it_is_known_what_lnd_it_is_and_ours_do() {
    let rig = rig().await;
    rig.until_phase(LinkPhase::Up).await;
    rig.lnd.script.lock().info_withheld = true;
    rig.lnd.kill_stream();
    until("opened again", || rig.lnd.script.lock().streams_opened == 2 && rig.lnd.is_held()).await;
    rig.lnd.offer(request(1, 0));
    rig.lnd.offer(foreign(1));
    until("it passes", || rig.lnd.actions() == [(1, Resume)]).await;
    assert_eq!(rig.phase(), LinkPhase::Opening);
    rig.lnd.script.lock().info_withheld = false;
    until("settled", || rig.lnd.actions() == [(1, Resume), (0, Settle)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_of_lnd_with_a_new_certificate_needs_no_restart() {
    let mut rig = rig().await;
    rig.until_phase(LinkPhase::Up).await;
    let address = rig.listener.take().unwrap().address;
    until("lost", || rig.phase() != LinkPhase::Up).await;
    rig.lnd.script.lock().offers = None;
    let (lnd, dir) = (rig.lnd.clone(), rig.dir.path().to_owned());
    let _listener = lnd.listen_at(&dir, "tls.cert", address).await;
    until("up again", || rig.lnd.is_held() && rig.phase() == LinkPhase::Up).await;
    rig.lnd.offer(request(1, 0));
    until("settled", || rig.lnd.actions() == [(0, Settle)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_of_lnd_is_as_good_and_the_next_one_is_asked_for_until_it_is_there() {
    let lnd = FakeLnd::new(HEIGHT);
    let dir = tempfile::tempdir().unwrap();
    let listener = lnd.listen_expired(dir.path(), "tls.cert").await;
    let address = listener.address;
    let mut rig = start(lnd.clone(), Some(listener), dir, vec![(address.to_string(), "tls.cert")]);
    rig.until_phase(LinkPhase::Up).await;
    // LND starts again with a certificate of its own making.
    drop(rig.listener.take());
    until("lost", || rig.phase() != LinkPhase::Up).await;
    lnd.script.lock().offers = None;
    let _renewed = lnd.listen_at(rig.dir.path(), "next.cert", address).await;
    rig.until_phase(LinkPhase::Refused).await;
    let (file, said) = (rig.dir.path().join("tls.cert"), rig.error());
    for part in [address.to_string(), file.display().to_string(), "copy the node's current tls.cert".into()] {
        assert!(said.contains(&part), "{part}: {said}");
    }
    assert!(!lnd.is_held());
    std::fs::copy(rig.dir.path().join("next.cert"), file).unwrap();
    until("up again", || rig.phase() == LinkPhase::Up && lnd.is_held()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_must_not_be_used_is_refused_with_what_to_change() {
    let rig = rig().await;
    rig.until_phase(LinkPhase::Up).await;
    rig.lnd.script.lock().info.require_htlc_interceptor = false;
    rig.until_phase(LinkPhase::Refused).await;
    assert!(rig.error().contains("--requireinterceptor"), "{}", rig.error());
    until("the stream is given up", || !rig.lnd.is_held()).await;
    rig.lnd.script.lock().info.require_htlc_interceptor = true;
    rig.until_phase(LinkPhase::Up).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_certificate_or_macaroon_is_refused_by_name() {
    let lnd = FakeLnd::new(HEIGHT);
    let dir = tempfile::tempdir().unwrap();
    let listener = lnd.listen(dir.path(), "tls.cert").await;
    let _other = lnd.listen(dir.path(), "other.cert").await;
    std::fs::write(dir.path().join("macaroon"), b"wrong").unwrap();
    let endpoints = vec![(listener.address.to_string(), "other.cert")];
    let rig = start(lnd, Some(listener), dir, endpoints);
    rig.until_phase(LinkPhase::Refused).await;
    assert!(rig.error().contains("other.cert"), "{}", rig.error());
    std::fs::copy(rig.dir.path().join("tls.cert"), rig.dir.path().join("other.cert")).unwrap();
    until("the macaroon's turn", || rig.error().contains("macaroon")).await;
    assert!(rig.error().contains("verification failed"), "{}", rig.error());
    std::fs::write(rig.dir.path().join("macaroon"), MACAROON).unwrap();
    rig.until_phase(LinkPhase::Up).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_endpoints_the_active_one_is_followed() {
    let (first, second) = (FakeLnd::new(HEIGHT), FakeLnd::new(HEIGHT));
    second.script.lock().wallet = WalletState::WaitingToStart;
    let dir = tempfile::tempdir().unwrap();
    let one = first.listen(dir.path(), "one.cert").await;
    let two = second.listen(dir.path(), "two.cert").await;
    let endpoints = vec![(two.address.to_string(), "two.cert"), (one.address.to_string(), "one.cert")];
    let rig = start(first.clone(), Some(one), dir, endpoints);
    until("the active one is held", || first.is_held() && rig.phase() == LinkPhase::Up).await;
    // LND fails over to its standby.
    first.script.lock().wallet = WalletState::WaitingToStart;
    first.kill_stream();
    second.script.lock().wallet = WalletState::ServerActive;
    until("the other one is held, alone", || {
        second.is_held() && !first.is_held() && rig.phase() == LinkPhase::Up
    })
    .await;
    drop(two);
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_htlcs_are_drained_whatever_becomes_of_the_answers() {
    const COUNT: u64 = 5_000;
    let rig = rig().await;
    rig.until_phase(LinkPhase::Up).await;
    for index in 0..COUNT {
        rig.lnd.offer(foreign(index));
    }
    until("all resumed", || rig.lnd.actions().len() == usize::try_from(COUNT).unwrap()).await;
    assert!(rig.lnd.actions().iter().all(|(_, action)| *action == Resume));
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_goes_on_while_lnd_reads_no_answers() {
    const COUNT: u64 = 3_000;
    let rig = rig().await;
    rig.until_phase(LinkPhase::Up).await;
    rig.lnd.script.lock().answers_unread = true;
    (0..COUNT).for_each(|index| rig.lnd.offer(foreign(index)));
    rig.lnd.offer(request(1, COUNT));
    // It came last: once it is decided, everything before it has been read.
    until("all are read", || rig.state_of(1) == Some(InvoiceState::Settling)).await;
    let streams = rig.lnd.script.lock().streams_opened;
    assert_eq!(streams, 1, "nothing had to be offered again");
    // An answer takes more than one byte.
    let taken = rig.lnd.actions().len();
    assert!(taken < usize::try_from(ANSWERS_WINDOW_BYTES).unwrap(), "{taken} answers went out: not held up");
    rig.lnd.script.lock().answers_unread = false;
    let all = usize::try_from(COUNT).unwrap() + 1;
    until("all are answered", || rig.lnd.actions().len() == all).await;
    let answered: BTreeMap<_, _> = rig.lnd.actions().into_iter().collect();
    assert_eq!(answered.len(), all, "each of them once");
    assert_eq!(answered[&COUNT], Settle);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_the_slot_is_freed_and_then_held_degraded() {
    let rig = rig().await;
    rig.until_phase(LinkPhase::Up).await;
    rig.lnd.offer(request(1, 0));
    until("settled", || rig.lnd.actions().len() == 1).await;
    rig.log.set_weather(Weather::NoQuorum);
    rig.lnd.offer(foreign(1));
    until("resumed", || rig.lnd.actions().contains(&(1, Resume))).await;
    rig.until_phase(LinkPhase::Yielding).await;
    until("the slot is free", || !rig.lnd.is_held()).await;
    rig.until_phase(LinkPhase::Degraded).await;
    rig.lnd.offer(foreign(2));
    rig.lnd.offer(request(2, 3));
    rig.lnd.offer(request(1, 0));
    until("what is safe is answered", || rig.lnd.actions().len() == 4).await;
    assert_eq!(rig.lnd.actions()[2..], [(2, Resume), (0, Settle)]);
    rig.log.set_weather(Weather::Fair);
    rig.until_phase(LinkPhase::Up).await;
    until("the held one is settled", || rig.lnd.actions().last() == Some(&(3, Settle))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_no_event_told_is_looked_up_at_the_next_connect() {
    let rig = rig().await;
    rig.until_phase(LinkPhase::Up).await;
    let pending = Htlc { incoming: true, htlc_index: 0, ..Htlc::default() };
    rig.lnd.script.lock().channels =
        vec![Channel { active: true, chan_id: CHANNEL, pending_htlcs: vec![pending], ..Channel::default() }];
    rig.lnd.offer(request(1, 0));
    until("settled", || rig.lnd.actions().len() == 1).await;
    assert_eq!(rig.state_of(1), Some(InvoiceState::Settling));
    {
        let mut script = rig.lnd.script.lock();
        script.channels[0].pending_htlcs.clear();
        script.records.insert((CHANNEL, 0), LookupHtlcResolutionResponse { settled: true, offchain: true });
    }
    rig.lnd.kill_stream();
    until("final", || rig.state_of(1) == Some(InvoiceState::Settled)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_removed_and_comes_back_is_served_once_its_former_link_has_ended() {
    let rig = rig().await;
    rig.until_phase(LinkPhase::Up).await;
    rig.screener.hold_up();
    rig.lnd.offer(request(1, 0));
    until("the link is held up", || rig.screener.was_asked()).await;
    rig.log.commit(Command::RemoveFrontNode { node: NODE, force: true }, None);
    until("it is gone", || rig.links.status().is_empty()).await;
    let listener = rig.listener.as_ref().unwrap();
    let endpoint = FrontNodeEndpoint {
        address: listener.address.to_string(),
        tls_cert: std::fs::read_to_string(&listener.cert).unwrap(),
    };
    let policy = FrontNodePolicy { scid: SCID, fee_base_msat: 0, fee_ppm: 0, cltv_delta: 80 };
    let access = FrontNodeAccess {
        endpoints: vec![endpoint],
        macaroon: rig.dir.path().join("macaroon").display().to_string(),
        zone: String::new(),
    };
    rig.log.commit(Command::PutFrontNodeAccess { node: NODE, alias: "fake".into(), policy, access }, None);
    until("it is back", || !rig.links.status().is_empty()).await;
    // Connecting takes milliseconds; a link that does not wait is in LND's way long before this.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(rig.phase(), LinkPhase::Disconnected, "the former link is still there");
    assert_eq!(rig.lnd.script.lock().streams_refused, 0);
    rig.screener.let_go();
    until("it is served again", || rig.phase() == LinkPhase::Up && rig.lnd.is_held()).await;
    rig.lnd.offer(request(2, 1));
    until("settled", || rig.lnd.actions().contains(&(1, Settle))).await;
}
