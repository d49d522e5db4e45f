use super::*;
use crate::config::{Config, Endpoint, FrontNode};
use crate::keys::Network;
use std::os::unix::fs::PermissionsExt as _;

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn plan(dir: &Path) -> ClusterPlan {
    let mut plan = ClusterPlan::loopback(dir.join("cluster"), 3);
    plan.name = "shop".into();
    plan.network = Network::Signet;
    plan.hosts = vec!["mux.example".into()];
    plan.replicas[1].zone = "b".into();
    plan.settings =
        vec![("raft.election_min_ms".into(), "600".into()), ("raft.election_max_ms".into(), "900".into())];
    plan
}

#[test]
fn what_is_written_is_a_configuration_that_is_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let mut plan = plan(dir.path());
    let cert = dir.path().join("alice \"1\".cert");
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["alice".to_owned()]).unwrap();
    std::fs::write(&cert, params.self_signed(&key).unwrap().pem()).unwrap();
    plan.front_nodes = vec![FrontNode {
        pubkey: "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798".parse().unwrap(),
        alias: "alice".into(),
        endpoints: vec![Endpoint { address: "127.0.0.1:1".into(), tls_cert: cert.clone() }],
        zone: "b".into(),
        macaroon: cert,
        fee_base_msat: 1,
        fee_ppm: 2,
        cltv_delta: 90,
    }];
    let written = write_cluster(&plan).unwrap();
    for (replica, files) in plan.replicas.iter().zip(&written.replicas) {
        let config = Config::load(&files.config, &[]).unwrap();
        assert_eq!(config.cluster.name, "shop");
        assert_eq!(config.cluster.network, Network::Signet);
        assert_eq!(config.cluster.replica_id, replica.id);
        assert_eq!(config.cluster.zones.into_iter().collect::<Vec<_>>(), [(2, "b".to_owned())]);
        assert_eq!(config.cluster.initial_members.len(), 3);
        assert_eq!(config.raft.election_min_ms, 600);
        assert_eq!(config.raft.listen, replica.raft_listen);
        assert_eq!(config.raft.data_dir, files.data_dir);
        assert_eq!(config.api.listen, replica.api_listen);
        assert_eq!(config.front_nodes, plan.front_nodes);
        let text = std::fs::read_to_string(&files.config).unwrap();
        let comments = crate::config::EXAMPLE.lines().filter(|line| line.starts_with('#'));
        assert!(comments.into_iter().all(|comment| text.contains(comment)), "it is commented");
    }
    let seeds: Vec<_> =
        written.replicas.iter().map(|files| std::fs::read(files.dir.join("seed")).unwrap()).collect();
    assert!(seeds.iter().all(|seed| *seed == std::fs::read(&written.seed).unwrap()));
}

#[test]
fn secrets_are_for_their_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let written = write_cluster(&plan(dir.path())).unwrap();
    assert_eq!(mode(&written.dir), 0o700);
    for secret in [&written.seed, &written.ca_key, &written.admin_macaroon] {
        assert_eq!(mode(secret), 0o600, "{}", secret.display());
    }
    for name in ["seed", "raft.key", "api.key", "admin.macaroon"] {
        assert_eq!(mode(&written.replicas[0].dir.join(name)), 0o600, "{name}");
    }
    assert!(
        !next_steps(&plan(dir.path()), &written).contains(&std::fs::read_to_string(&written.seed).unwrap())
    );
}

#[test]
fn nothing_is_ever_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(dir.path());
    let written = write_cluster(&plan).unwrap();
    let seed = std::fs::read(&written.seed).unwrap();
    assert!(matches!(write_cluster(&plan), Err(InitError::NotEmpty(_))));
    assert_eq!(std::fs::read(&written.seed).unwrap(), seed);
    let other = ClusterPlan { dir: dir.path().join("other"), ..plan };
    assert_ne!(
        std::fs::read(write_cluster(&other).unwrap().seed).unwrap(),
        seed,
        "every cluster has its own"
    );
}

#[test]
fn an_impossible_plan_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let mut plan = plan(dir.path());
    plan.replicas[1].raft_address = plan.replicas[0].raft_address.clone();
    assert!(matches!(write_cluster(&plan), Err(InitError::Plan(_))));
    plan.replicas[1].raft_address = "127.0.0.1:9".into();
    plan.settings = vec![("raft.no_such_key".into(), "1".into())];
    assert!(matches!(write_cluster(&plan), Err(InitError::Plan(_))));
    assert!(!plan.dir.exists());
}

#[test]
fn one_more_replica_gets_what_the_others_have_and_its_own_number() {
    let dir = tempfile::tempdir().unwrap();
    let mut plan = plan(dir.path());
    plan.front_nodes = vec![FrontNode {
        pubkey: "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798".parse().unwrap(),
        alias: "alice".into(),
        endpoints: vec![Endpoint { address: "127.0.0.1:1".into(), tls_cert: "alice.cert".into() }],
        zone: "b".into(),
        macaroon: "alice.macaroon".into(),
        fee_base_msat: 1,
        fee_ppm: 2,
        cltv_delta: 90,
    }];
    let written = write_cluster(&plan).unwrap();
    let api = std::fs::read(&written.api_cert).unwrap();
    std::fs::write(written.replicas[0].dir.join("alice.cert"), &api).unwrap();
    std::fs::write(written.replicas[0].dir.join("alice.macaroon"), "m").unwrap();
    let replica = |id: u16| ReplicaPlan {
        zone: "d".into(),
        ..ClusterPlan::loopback(plan.dir.clone(), id).replicas.pop().unwrap()
    };
    let add = |replica: ReplicaPlan| {
        add_replica(&AddReplica { dir: plan.dir.clone(), like: None, replica, hosts: Vec::new() })
    };
    let added = add(replica(4)).unwrap();
    let config = Config::load(&added.files.config, &[]).unwrap();
    let first = Config::load(&written.replicas[0].config, &[]).unwrap();
    assert!(config.cluster.join && config.cluster.replica_id == 4);
    assert_eq!(config.cluster.initial_members, first.cluster.initial_members);
    assert_eq!(config.cluster.zones.get(&4).map(String::as_str), Some("d"));
    assert_eq!(config.raft.listen.port(), 7_404);
    assert_eq!(config.api.listen.port(), 10_012);
    assert_eq!(config.metrics.listen.port(), 9_104);
    assert_eq!(config.raft.data_dir, added.files.data_dir);
    assert_eq!(config.raft.election_min_ms, 600);
    assert_eq!(config.front_nodes[0].macaroon, added.files.dir.join("alice.macaroon"));
    assert!(!added.own_api_cert && std::fs::read(added.files.dir.join("api.pem")).unwrap() == api);
    for name in ["seed", "raft.key", "api.key", "admin.macaroon"] {
        assert_eq!(mode(&added.files.dir.join(name)), 0o600, "{name}");
    }
    let again = add(replica(4)).unwrap_err();
    assert!(matches!(again, InitError::Taken(_)), "nothing is overwritten: {again}");
    assert!(again.to_string().contains("--id") && !again.to_string().contains("--dir"), "{again}");
    assert!(matches!(add(replica(2)), Err(InitError::Plan(_))), "a number is never used again");
    let elsewhere = ReplicaPlan { raft_address: "zone-d.example:7401".into(), ..replica(5) };
    let added = add(elsewhere).unwrap();
    assert!(added.own_api_cert, "the others' certificate does not name its host");
    assert!(next_steps_of_added(&added).contains("member add 5 zone-d.example:7401"));
    Config::load(&added.files.config, &[]).unwrap();
}

#[test]
fn a_replica_for_a_cluster_that_got_another_name_is_issued_by_the_same_authority() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(dir.path());
    let written = write_cluster(&plan).unwrap();
    // As an operator does it who restores a backup.
    let like = written.replicas[0].config.clone();
    let text = std::fs::read_to_string(&like).unwrap();
    let renamed = text.replacen(&format!("name = \"{}\"", plan.name), "name = \"restored\"", 1);
    assert_ne!(renamed, text);
    std::fs::write(&like, renamed).unwrap();
    let replica = ClusterPlan::loopback(plan.dir.clone(), 4).replicas.pop().unwrap();
    let add = AddReplica { dir: plan.dir.clone(), like: Some(like), replica, hosts: Vec::new() };
    let added = add_replica(&add).unwrap();
    assert_eq!(Config::load(&added.files.config, &[]).unwrap().cluster.name, "restored");
}
