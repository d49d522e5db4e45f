use crate::cluster::{Authority, CLUSTER_ID, Cluster, PATIENCE, eventually};
use mux_proto::mux::raft::v1::leader_gateway_client::LeaderGatewayClient;
use mux_proto::mux::raft::v1::raft_transport_client::RaftTransportClient;
use mux_proto::mux::raft::v1::{AppendRequest, ClockRequest, Header, Vote, VoteRequest};
use mux_raft::consensus::Consensus as _;
use mux_raft::replica::{Replica, StartError, TlsPaths};
use mux_raft::types::ReplicaId;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Status};

pub(crate) fn header(cluster_id: [u8; 32], source: ReplicaId, target: ReplicaId) -> Option<Header> {
    Some(Header { cluster_id: cluster_id.to_vec().into(), source, target, ..Header::default() })
}

/// Connects to a replica as somebody with these files.
pub(crate) fn connect(
    cluster: &Cluster,
    target: ReplicaId,
    files: &TlsPaths,
    with_certificate: bool,
) -> Channel {
    let read = |path: &std::path::Path| std::fs::read(path).unwrap();
    let mut tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(cluster.authority.pem()))
        .domain_name(format!("replica-{target}.mux"));
    if with_certificate {
        tls = tls.identity(Identity::from_pem(read(&files.cert), read(&files.key)));
    }
    Endpoint::from_shared(format!("https://{}", cluster.configs[&target].listen))
        .unwrap()
        .timeout(Duration::from_secs(10))
        .tls_config(tls)
        .unwrap()
        .connect_lazy()
}

async fn clock(channel: Channel, header: Option<Header>) -> Result<u64, Status> {
    let answer = LeaderGatewayClient::new(channel).clock(ClockRequest { header }).await?;
    Ok(answer.into_inner().wall_ms)
}

#[tokio::test(flavor = "multi_thread")]
async fn only_members_of_the_cluster_that_mean_this_replica_are_heard() {
    let cluster = Cluster::start(1).await;
    let of_two = cluster.authority.issue(&cluster.dir.path().join("two"), &["replica-2.mux".into()]);
    let channel = connect(&cluster, 1, &of_two, true);
    assert!(clock(channel.clone(), header(CLUSTER_ID, 2, 1)).await.unwrap() > 0);

    let refused = clock(channel.clone(), header([0xee; 32], 2, 1)).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(
        refused.message().contains("cluster c1c1c1c1") && refused.message().contains("eeeeeeee"),
        "names both: {}",
        refused.message()
    );

    let refused = clock(channel.clone(), header(CLUSTER_ID, 2, 7)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(refused.message(), "this is replica 1; the message is for replica 7");

    let refused = clock(channel.clone(), header(CLUSTER_ID, 3, 1)).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "replica 2 cannot speak as replica 3");

    let refused = clock(channel, None).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn raft_messages_for_another_cluster_are_refused_too() {
    let cluster = Cluster::start(1).await;
    cluster.leader().await;
    let term = cluster.status(1).term;
    let of_two = cluster.authority.issue(&cluster.dir.path().join("two"), &["replica-2.mux".into()]);
    let mut client = RaftTransportClient::new(connect(&cluster, 1, &of_two, true));
    let vote = Some(Vote { term: term + 100, node_id: 2, committed: true });
    let foreign = header([0xee; 32], 2, 1);
    let request = VoteRequest { header: foreign.clone(), vote, ..VoteRequest::default() };
    assert_eq!(client.vote(request.clone()).await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(client.pre_vote(request).await.unwrap_err().code(), Code::PermissionDenied);
    let append = AppendRequest { header: foreign, vote, ..AppendRequest::default() };
    assert_eq!(client.append(append.clone()).await.unwrap_err().code(), Code::PermissionDenied);
    let stream = client.stream_append(futures::stream::iter([append])).await.unwrap();
    assert_eq!(stream.into_inner().message().await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(cluster.status(1).term, term, "nothing of it had an effect");
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_another_authority_and_no_certificate_are_refused() {
    let cluster = Cluster::start(1).await;
    let foreign = Authority::new().issue(&cluster.dir.path().join("foreign"), &["replica-2.mux".into()]);
    for with_certificate in [true, false] {
        let channel = connect(&cluster, 1, &foreign, with_certificate);
        let refused = clock(channel, header(CLUSTER_ID, 2, 1)).await.unwrap_err();
        // TLS ends the connection; what the client makes of that differs. No handler has answered.
        let answered = [Code::PermissionDenied, Code::FailedPrecondition, Code::InvalidArgument, Code::Ok];
        assert!(
            !answered.contains(&refused.code()) && refused.code() != Code::DeadlineExceeded,
            "{refused:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_without_the_replicas_name_prevents_the_start() {
    let mut cluster = Cluster::prepare(1);
    let tls = cluster.authority.issue(&cluster.dir.path().join("other"), &["replica-2.mux".into()]);
    cluster.configs.get_mut(&1).unwrap().tls = tls;
    let error = cluster.try_start(1).await.unwrap_err();
    assert!(matches!(&error, StartError::Config(reason) if reason.contains("replica-1.mux")), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_serves_one_replica_of_one_cluster_at_a_time() {
    let mut cluster = Cluster::start(1).await;
    cluster.commit(1).await;
    cluster.configs.get_mut(&1).unwrap().listen = "127.0.0.1:0".parse().unwrap();
    let error = cluster.try_start(1).await.unwrap_err();
    assert!(matches!(error, StartError::Locked(_)), "{error}");
    cluster.stop(1).await;
    cluster.configs.get_mut(&1).unwrap().cluster_id = [0xee; 32];
    let error = cluster.try_start(1).await.unwrap_err();
    assert!(
        matches!(&error, StartError::WrongStore { reason, .. } if reason.contains("cluster c1c1c1c1")),
        "{error}"
    );
    cluster.configs.get_mut(&1).unwrap().cluster_id = CLUSTER_ID;
    cluster.start_one(1).await;
    cluster.replica(1).read_barrier().await.unwrap();
}

/// All enrolled, and their ends noted in the log.
async fn known_to_all(cluster: &Cluster) {
    eventually("the stores are known", || {
        cluster.running.values().all(|replica| {
            replica.state().read(|state| {
                (1..=3).all(|id| state.store_of(id).is_some() && state.log_end_of(id).is_some())
            })
        })
    })
    .await;
}

/// Why it stops.
pub(crate) async fn stops(replica: &Replica) -> String {
    // Some find out only when they next ask, which is every 10 s.
    tokio::time::timeout(PATIENCE * 2, replica.stopped()).await.expect("it goes on")
}

pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_replica_with_the_same_id_and_a_store_of_its_own_is_refused_and_stops() {
    let mut cluster = Cluster::start(3).await;
    cluster.leader().await;
    known_to_all(&cluster).await;
    let mut second = cluster.configs[&2].clone();
    second.data_dir = cluster.dir.path().join("second");
    second.listen = "127.0.0.1:0".parse().unwrap();
    let reason = stops(&Replica::start(second).await.unwrap()).await;
    assert!(
        reason.contains("replica id 2 is already used by another store")
            && reason.contains("a replica that lost its disk must join under a new id"),
        "{reason}"
    );
    // The right one was never disturbed.
    cluster.commit(2).await;
    cluster.stop(2).await;
    cluster.start_one(2).await;
    cluster.leader().await;
    cluster.commit(2).await;
    assert!((1..=3).all(|id| cluster.status(id).fatal.is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_new_replicas_with_one_id_the_cluster_takes_one_and_the_other_stops() {
    let mut cluster = Cluster::prepare(3);
    let mut second = cluster.configs[&2].clone();
    second.data_dir = cluster.dir.path().join("second");
    second.listen = "127.0.0.1:0".parse().unwrap();
    // Neither has ever spoken, and the cluster is not founded before both are there.
    cluster.start_one(2).await;
    let second = Replica::start(second).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    cluster.start_one(1).await;
    cluster.start_one(3).await;
    let reason = stops(&second).await;
    assert!(reason.contains("replica id 2 is already used by another store"), "{reason}");
    assert_eq!(second.state().read(|state| state.applied().index), 0, "it took part in nothing");
    second.shutdown().await;
    drop(second);
    known_to_all(&cluster).await;
    for id in 1..=3 {
        cluster.commit(id).await;
        assert_eq!(cluster.status(id).fatal, None);
    }
    cluster.converged().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_new_replicas_at_one_address_the_one_that_was_there_when_ids_were_bound_is_taken() {
    let mut cluster = Cluster::prepare(3);
    // The first one gave its vote, perhaps, and was gone with its disk before anybody knew it.
    cluster.start_one(1).await;
    cluster.start_one(2).await;
    cluster.stop(2).await;
    std::fs::remove_dir_all(&cluster.configs[&2].data_dir).unwrap();
    cluster.start_one(2).await;
    cluster.start_one(3).await;
    match tokio::time::timeout(Duration::from_secs(3), cluster.replica(2).stopped()).await {
        // The cluster was quicker to bind the id: then this one is another.
        Ok(reason) => {
            assert!(
                reason.contains("already used by another store") || reason.contains("lost its disk"),
                "{reason}"
            );
        }
        Err(_) => {
            known_to_all(&cluster).await;
            cluster.commit(2).await;
        }
    }
    cluster.leader_among(&[1, 3]).await;
    cluster.commit(1).await;
    cluster.commit(3).await;
    assert!([1, 3].iter().all(|id| cluster.status(*id).fatal.is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_in_the_place_of_another_is_not_given_entries() {
    let mut cluster = Cluster::start(3).await;
    known_to_all(&cluster).await;
    let leader = cluster.leader().await;
    let victim = cluster.follower().await;
    cluster.stop(victim).await;
    // At its address, under its id, and it asks nobody: the leader must find out.
    let mut second = cluster.configs[&victim].clone();
    second.data_dir = cluster.dir.path().join("second");
    second.initial_members = BTreeMap::new();
    let replica = Replica::start(second).await.unwrap();
    let reason = stops(&replica).await;
    assert!(reason.contains("is already used by another store"), "{reason}");
    assert_eq!(replica.state().read(|state| state.applied().index), 0, "it got nothing");
    replica.shutdown().await;
    drop(replica);
    cluster.commit(leader).await;
    cluster.start_one(victim).await;
    cluster.commit(victim).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_with_copies_of_one_data_directory_are_both_refused() {
    let mut cluster = Cluster::start(3).await;
    known_to_all(&cluster).await;
    let victim = cluster.follower().await;
    cluster.stop(victim).await;
    let mut second = cluster.configs[&victim].clone();
    second.data_dir = cluster.dir.path().join("second");
    second.listen = "127.0.0.1:0".parse().unwrap();
    copy(&cluster.configs[&victim].data_dir, &second.data_dir);
    // First the one that nobody sends entries: the other order makes it an older copy if it starts slowly.
    let other = Replica::start(second).await.unwrap();
    cluster.start_one(victim).await;
    let (first, second) = tokio::join!(stops(cluster.replica(victim)), stops(&other));
    for reason in [first, second] {
        assert!(reason.contains(&format!("two processes run as replica {victim}")), "{reason}");
    }
    other.shutdown().await;
    cluster.stop(victim).await;
    cluster.start_one(victim).await;
    cluster.commit(victim).await;
    cluster.leader().await;
}

/// The copy asks the others who it is, is refused and stops. They once took its word for the replica's own.
#[tokio::test(flavor = "multi_thread")]
async fn a_stale_copy_that_is_refused_does_no_harm_to_the_replica_itself() {
    let mut cluster = Cluster::start(3).await;
    known_to_all(&cluster).await;
    let victim = cluster.follower().await;
    cluster.commit(victim).await;
    cluster.stop(victim).await;
    let mut stale = cluster.configs[&victim].clone();
    stale.data_dir = cluster.dir.path().join("stale");
    stale.listen = "127.0.0.1:0".parse().unwrap();
    copy(&cluster.configs[&victim].data_dir, &stale.data_dir);
    cluster.start_one(victim).await;
    for _ in 0..20 {
        cluster.commit(victim).await;
    }
    let copy = Replica::start(stale).await.unwrap();
    let reason = stops(&copy).await;
    assert!(!reason.contains("two processes"), "{reason}");
    copy.shutdown().await;
    // Longer than what a former process's last message may take.
    let until = std::time::Instant::now() + std::time::Duration::from_secs(8);
    while std::time::Instant::now() < until {
        cluster.commit(victim).await;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!((1..=3).all(|id| cluster.status(id).fatal.is_none()));
}

/// What a replica with an older copy of its disk is told, in a cluster that the test first brings into some state.
async fn restored(cluster: &mut Cluster, victim: u64, meanwhile: impl AsyncFnOnce(&mut Cluster)) -> String {
    let (data, image) = (cluster.configs[&victim].data_dir.clone(), cluster.dir.path().join("image"));
    cluster.stop(victim).await;
    copy(&data, &image);
    cluster.start_one(victim).await;
    for _ in 0..5 {
        cluster.commit(victim).await;
    }
    meanwhile(cluster).await;
    cluster.stop(victim).await;
    std::fs::remove_dir_all(&data).unwrap();
    copy(&image, &data);
    cluster.start_one(victim).await;
    stops(cluster.replica(victim)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_of_its_own_disk_is_refused_by_the_leader_that_replicated_to_it() {
    let mut cluster = Cluster::start(3).await;
    cluster.leader().await;
    let victim = cluster.follower().await;
    let reason = restored(&mut cluster, victim, async |_| {}).await;
    assert!(reason.contains("the data directory is an older copy"), "{reason}");
    let others: Vec<u64> = (1..=3).filter(|id| *id != victim).collect();
    let leader = cluster.leader_among(&others).await;
    cluster.commit(leader).await;
    assert_eq!(cluster.status(leader).fatal, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_of_its_own_disk_is_refused_when_somebody_else_leads_meanwhile() {
    let mut cluster = Cluster::start(3).await;
    let victim = cluster.follower().await;
    let reason = restored(&mut cluster, victim, async |cluster| {
        // The one that knows best no longer leads when it is asked, and the new one never heard from the victim.
        cluster.stop(victim).await;
        let others: Vec<u64> = (1..=3).filter(|id| *id != victim).collect();
        let leader = cluster.leader_among(&others).await;
        let next = others.into_iter().find(|id| *id != leader).unwrap();
        cluster.replica(leader).transfer_leader(Some(next)).await.unwrap();
        cluster.start_one(victim).await;
    })
    .await;
    assert!(reason.contains("the data directory is an older copy"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_of_its_own_disk_is_refused_after_a_restart_of_all() {
    let mut cluster = Cluster::start(3).await;
    cluster.leader().await;
    known_to_all(&cluster).await;
    let reason = restored(&mut cluster, 2, async |cluster| {
        let end = cluster.commit(2).await.at;
        eventually("it is noted", || {
            [1, 3].iter().all(|id| {
                cluster
                    .replica(*id)
                    .state()
                    .read(|state| state.log_end_of(2).is_some_and(|noted| noted >= end))
            })
        })
        .await;
        cluster.stop_all().await;
        cluster.start_one(2).await;
        cluster.start_one(3).await;
    })
    .await;
    assert!(reason.contains("the data directory is an older copy"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_whole_cluster_is_not_held_up() {
    let mut cluster = Cluster::start(3).await;
    cluster.leader().await;
    known_to_all(&cluster).await;
    cluster.stop_all().await;
    // A majority is enough, one by one.
    cluster.start_one(3).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    cluster.start_one(1).await;
    let started = Instant::now();
    let leader = cluster.leader().await;
    cluster.commit(leader).await;
    // An election takes up to two seconds here, and votes may split; who waits for all three waits for ever.
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}
