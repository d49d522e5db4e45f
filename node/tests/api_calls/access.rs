use crate::server::{Server, Setup};
use mux_proto::lnmux::GetInfoRequest;
use mux_proto::lnmux::service_client::ServiceClient;
use mux_proto::mux::v1::cluster_service_client::ClusterServiceClient;
use mux_proto::mux::v1::invoice_service_client::InvoiceServiceClient;
use mux_proto::mux::v1::{GetStatusRequest, SubscribeEventsRequest};
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

#[tokio::test]
async fn no_service_answers_without_the_macaroon() {
    let server = Server::start(Setup::default()).await;
    let channel = server.channel().await;
    let status = ClusterServiceClient::new(channel.clone()).get_status(GetStatusRequest {}).await;
    assert_eq!(status.unwrap_err().code(), Code::Unauthenticated);
    let info = ServiceClient::new(channel.clone()).get_info(GetInfoRequest {}).await;
    assert_eq!(info.unwrap_err().code(), Code::Unauthenticated);
    let events =
        InvoiceServiceClient::new(channel.clone()).subscribe_events(SubscribeEventsRequest::default()).await;
    assert_eq!(events.unwrap_err().code(), Code::Unauthenticated);
    for wrong in ["", "00", "not hex", &"00".repeat(32), &"00".repeat(9_000)] {
        let mut request = Request::new(GetStatusRequest {});
        request.metadata_mut().insert("macaroon", wrong.parse().unwrap());
        let status = ClusterServiceClient::new(channel.clone()).get_status(request).await;
        assert!(status.is_err(), "{wrong:.20}");
    }
}

#[tokio::test]
async fn the_right_macaroon_opens_every_service() {
    let server = Server::start(Setup::default()).await;
    server.cluster().await.get_status(GetStatusRequest {}).await.unwrap();
    server.lnmux().await.get_info(GetInfoRequest {}).await.unwrap();
    server.invoices().await.list_invoices(mux_proto::mux::v1::ListInvoicesRequest::default()).await.unwrap();
}

#[tokio::test]
async fn plain_text_is_not_spoken() {
    let server = Server::start(Setup::default()).await;
    let plain = tonic::transport::Endpoint::from_shared(format!("http://{}", server.address)).unwrap();
    let answer = match plain.connect().await {
        Ok(channel) => ClusterServiceClient::new(channel).get_status(GetStatusRequest {}).await.map(|_| ()),
        Err(_) => return,
    };
    assert!(answer.is_err());
}

#[tokio::test]
async fn health_says_whether_the_replica_is_ready() {
    let server = Server::start(Setup::default()).await;
    let mut health = HealthClient::new(server.channel().await);
    for (ready, expected) in [(false, ServingStatus::NotServing), (true, ServingStatus::Serving)] {
        server.routes.set_ready(ready).await;
        for name in ["", "lnmux.Service", "mux.v1.InvoiceService", "mux.v1.ClusterService"] {
            let request = HealthCheckRequest { service: name.into() };
            let answer = health.check(request).await.unwrap().into_inner();
            assert_eq!(answer.status(), expected, "{name}");
        }
    }
}

#[tokio::test]
async fn reflection_lists_the_services() {
    let server = Server::start(Setup::default()).await;
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(server.channel().await);
    let answers = client.server_reflection_info(tokio_stream::iter([request])).await;
    let answer = answers.unwrap().into_inner().message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("{answer:?}")
    };
    let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    for name in ["lnmux.Service", "mux.v1.InvoiceService", "mux.v1.ClusterService", "grpc.health.v1.Health"] {
        assert!(names.contains(&name), "{names:?}");
    }
    assert!(!names.iter().any(|name| name.contains("raft")), "internals are not shown: {names:?}");
}
