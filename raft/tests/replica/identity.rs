use crate::cluster::{Authority, CLUSTER_ID, Cluster};
use mux_proto::mux::raft::v1::leader_gateway_client::LeaderGatewayClient;
use mux_proto::mux::raft::v1::raft_transport_client::RaftTransportClient;
use mux_proto::mux::raft::v1::{AppendRequest, ClockRequest, Header, Vote, VoteRequest};
use mux_raft::consensus::Consensus as _;
use mux_raft::replica::{StartError, TlsPaths};
use mux_raft::types::ReplicaId;
use std::time::Duration;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Status};

fn header(cluster_id: [u8; 32], source: ReplicaId, target: ReplicaId) -> Option<Header> {
    Some(Header { cluster_id: cluster_id.to_vec().into(), source, target })
}

/// Connects to a replica as somebody with these files.
fn connect(cluster: &Cluster, target: ReplicaId, files: &TlsPaths, with_certificate: bool) -> Channel {
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
