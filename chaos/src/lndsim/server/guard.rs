use mux_proto::lndsim::v1::Power;
use tonic::{Request, Status};

use super::node::Node;

/// What LND checks before any call but those of the State service: its start-up state
/// (rpcperms/interceptor.go), then the macaroon.
#[allow(clippy::result_large_err)] // tonic's own error type
pub(super) fn check<T>(node: &Node, request: &Request<T>, uri: &str) -> Result<(), Status> {
    match node.read(|core| core.power()) {
        Power::Unspecified | Power::Down => return Err(Status::unavailable("transport is closing")),
        Power::WaitingToStart => return Err(Status::unknown("waiting to start, RPC services not available")),
        Power::Locked => {
            return Err(Status::unknown("wallet locked, unlock it to enable full RPC access"));
        }
        Power::Unlocked => {
            return Err(Status::unknown(
                "the RPC server is in the process of starting up, but not yet ready to accept calls",
            ));
        }
        Power::RpcActive | Power::ServerActive => {}
    }
    node.macaroons.check(request.metadata(), uri)
}
