use super::*;
use crate::lnd::EndpointConfig;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use mux_raft::machine::model::FrontNodePolicy;
use mux_raft::network::tls_incoming;
use mux_raft::types::NodePubkey;
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use std::collections::VecDeque;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_stream::StreamExt as _;

/// Certificate and key, PEM.
type Pair = (String, String);

struct Rig {
    dir: TempDir,
    reloader: Reloader,
    api: ServerTls,
    /// What reading the files for the other replicas comes to, in turn; at last nothing is new.
    raft: Arc<Mutex<VecDeque<Result<bool, String>>>>,
    /// Whose end is watched.
    ending: Arc<Mutex<Vec<CertificateFile>>>,
    recorder: PrometheusRecorder,
    metrics: PrometheusHandle,
}

fn pair() -> Pair {
    let key = rcgen::KeyPair::generate().unwrap();
    let cert = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key);
    (cert.unwrap().pem(), key.serialize_pem())
}

impl Rig {
    /// With these in the files, and an LND's certificate and macaroon beside them.
    fn new((cert, key): &Pair) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for (name, content) in
            [("api.pem", cert), ("api.key", key), ("lnd.cert", &pair().0), ("macaroon", &"one".into())]
        {
            std::fs::write(at(name), content).unwrap();
        }
        let api = ServerTls::new(cert.as_bytes(), key.as_bytes(), None).unwrap();
        let raft = Arc::<Mutex<VecDeque<_>>>::default();
        let front = FrontNodeConfig {
            node: NodePubkey([2; 33]),
            alias: "alice".into(),
            endpoints: vec![EndpointConfig { address: "lnd:10009".into(), tls_cert: at("lnd.cert").into() }],
            macaroon: at("macaroon"),
            zone: String::new(),
            policy: FrontNodePolicy { scid: 1, fee_base_msat: 0, fee_ppm: 0, cltv_delta: 80 },
        };
        let ending = vec![CertificateFile { name: "api".into(), source: at("api.pem").into() }];
        let ending = Arc::new(Mutex::new(ending));
        let watched = Arc::clone(&ending);
        let outcomes = Arc::clone(&raft);
        let reloader = Reloader::new(Exchangeable {
            api: api.clone(),
            api_cert: at("api.pem"),
            api_key: at("api.key"),
            raft: Box::new(move || outcomes.lock().pop_front().unwrap_or(Ok(false))),
            front_nodes: Box::new(move || vec![front.clone()]),
            ending: Box::new(move || watched.lock().clone()),
        });
        let recorder = PrometheusBuilder::new().build_recorder();
        let metrics = recorder.handle();
        Self { dir, reloader, api, raft, ending, recorder, metrics }
    }

    fn write(&self, name: &str, content: &str) {
        std::fs::write(self.dir.path().join(name), content).unwrap();
    }

    /// Looks, and tells how much was ever put to use, and how much could not be.
    fn look(&mut self) -> (u64, u64) {
        metrics::with_local_recorder(&self.recorder, || self.reloader.look());
        (self.value("reloads_total"), self.value("reload_failures_total"))
    }

    /// Of a metric, named without its prefix: the catalogue's tests look for those that are written.
    fn value(&self, name: &str) -> u64 {
        let (name, page) = (["mux", name].join("_"), self.metrics.render());
        let line = page.lines().find_map(|line| line.strip_prefix(&name)?.rsplit_once(' '));
        line.map_or(0, |(_, value)| value.parse().unwrap())
    }

    /// Whether a new connection is shown this certificate.
    async fn shows(&self, (cert, _): &Pair) -> bool {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut incoming = tls_incoming(listener, self.api.clone(), Duration::from_secs(20));
        tokio::spawn(async move { while incoming.next().await.is_some() {} });
        let config = PinnedCertificates::from_pem(cert.as_bytes()).unwrap().client_config().unwrap();
        let tcp = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, tcp).await.is_ok()
    }
}

#[tokio::test]
async fn a_pair_is_used_when_both_files_fit_and_what_cannot_be_used_is_told_once_and_changes_nothing() {
    let (old, new) = (pair(), pair());
    let mut rig = Rig::new(&old);
    assert_eq!(rig.look(), (0, 0), "what was read at the start is no news");
    rig.write("api.pem", &new.0);
    assert_eq!(rig.look(), (0, 1), "the certificate came first: the key does not fit");
    assert_eq!(rig.look(), (0, 1), "told already");
    assert!(rig.shows(&old).await, "what was in use stays in use");
    rig.write("api.key", &new.1);
    assert_eq!(rig.look(), (1, 1));
    assert!(rig.shows(&new).await && !rig.shows(&old).await);
    assert_eq!(rig.look(), (1, 1), "nothing is new");
    for broken in ["", "no certificate"] {
        rig.write("api.pem", broken);
        rig.look();
        assert!(rig.shows(&new).await, "{broken:?}");
    }
    std::fs::remove_file(rig.dir.path().join("api.pem")).unwrap();
    assert_eq!(rig.look(), (1, 4));
    rig.write("api.pem", &new.0);
    assert_eq!(rig.look(), (2, 4));
}

#[tokio::test]
async fn what_was_exchanged_between_the_start_and_the_first_look_is_used() {
    let (old, new) = (pair(), pair());
    let mut rig = Rig::new(&old);
    rig.write("api.pem", &new.0);
    rig.write("api.key", &new.1);
    rig.look();
    assert!(rig.shows(&new).await);
}

#[tokio::test]
async fn a_symlink_that_is_swapped_is_an_exchange() {
    let (old, new) = (pair(), pair());
    let mut rig = Rig::new(&old);
    let dir = rig.dir.path().to_owned();
    for (version, pair) in [("v1", &old), ("v2", &new)] {
        std::fs::create_dir(dir.join(version)).unwrap();
        std::fs::write(dir.join(version).join("api.pem"), &pair.0).unwrap();
        std::fs::write(dir.join(version).join("api.key"), &pair.1).unwrap();
    }
    // As Kubernetes does: files point into a directory, which is exchanged as a whole.
    std::os::unix::fs::symlink("v1", dir.join("..data")).unwrap();
    for file in ["api.pem", "api.key"] {
        std::fs::remove_file(dir.join(file)).unwrap();
        std::os::unix::fs::symlink(format!("..data/{file}"), dir.join(file)).unwrap();
    }
    assert_eq!(rig.look(), (0, 0));
    std::os::unix::fs::symlink("v2", dir.join("..new")).unwrap();
    std::fs::rename(dir.join("..new"), dir.join("..data")).unwrap();
    assert_eq!(rig.look(), (1, 0));
    assert!(rig.shows(&new).await);
}

#[test]
fn what_the_replicas_show_each_other_is_told_once_for_each_change() {
    let mut rig = Rig::new(&pair());
    rig.look();
    let broken = || Err("raft.pem: not a certificate".to_owned());
    rig.raft.lock().extend([Ok(true), broken(), broken(), Err("raft.pem: gone".into()), Ok(false), broken()]);
    let told: Vec<_> = (0..6).map(|_| rig.look()).collect();
    assert_eq!(told, [(1, 0), (1, 1), (1, 1), (1, 2), (1, 2), (1, 3)]);
}

#[test]
fn a_mistake_in_a_front_nodes_files_shows_before_the_link_needs_them() {
    let mut rig = Rig::new(&pair());
    assert_eq!(rig.look(), (0, 0));
    rig.write("lnd.cert", &pair().0);
    rig.write("macaroon", "two");
    assert_eq!(rig.look(), (2, 0), "both are new");
    rig.write("lnd.cert", "no certificate");
    rig.write("macaroon", "");
    assert_eq!(rig.look(), (2, 2));
    assert_eq!(rig.look(), (2, 2), "told already");
    rig.write("lnd.cert", &pair().0);
    rig.write("macaroon", "three");
    assert_eq!(rig.look(), (4, 2));
}

#[test]
fn the_date_on_which_a_certificate_ends_follows_an_exchange() {
    let old = pair();
    let mut rig = Rig::new(&old);
    rig.look();
    let end = |rig: &Rig| rig.value("certificate_expiry_timestamp_seconds");
    let before = end(&rig);
    assert!(before > 0);
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2035, 1, 1);
    rig.write("api.pem", &params.self_signed(&key).unwrap().pem());
    rig.write("api.key", &key.serialize_pem());
    rig.look();
    assert_eq!(end(&rig), 2_051_222_400);
    assert_ne!(before, 2_051_222_400);
}

#[test]
fn the_certificate_of_a_front_node_that_is_added_is_watched_from_the_next_look_on() {
    let mut rig = Rig::new(&pair());
    rig.look();
    let series = "certificate=\"lnd-carol\"";
    assert!(!rig.metrics.render().contains(series));
    // As `front-node add` brings it: no file changes.
    let carol = CertificateFile { name: "lnd-carol".into(), source: CertificateSource::Log(pair().0) };
    rig.ending.lock().push(carol);
    assert_eq!(rig.look(), (0, 0), "nothing is reloaded");
    assert!(rig.metrics.render().contains(series), "{}", rig.metrics.render());
}

#[test]
fn the_certificate_of_a_front_node_that_was_removed_alarms_nobody() {
    let mut rig = Rig::new(&pair());
    let carol = CertificateFile { name: "lnd-carol".into(), source: CertificateSource::Log(pair().0) };
    rig.ending.lock().push(carol.clone());
    rig.look();
    let shown = |rig: &Rig| -> f64 {
        let page = rig.metrics.render();
        let line = page.lines().find(|line| line.contains("certificate=\"lnd-carol\"")).unwrap();
        line.rsplit_once(' ').unwrap().1.parse().unwrap()
    };
    let end = shown(&rig);
    assert!(end.is_finite() && end > 0.0);
    rig.ending.lock().pop();
    rig.look();
    assert_eq!(shown(&rig), f64::INFINITY, "as if it never ended");
    assert!(
        rig.value("certificate_expiry_timestamp_seconds{certificate=\"api\"}") > 0,
        "the others are watched"
    );
    rig.ending.lock().push(carol);
    rig.look();
    assert_eq!(shown(&rig), end, "it came back");
}
