use super::packet::{ConnectionId, Content, End, Packet, StreamId};
use crate::sim::host::HostId;
use crate::sim::time::SimTime;
use mux_proto::routerrpc::{ForwardHtlcInterceptResponse, ResolveHoldForwardAction};
use mux_raft::types::PaymentHash;
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// Where LND offers HTLCs and hears what becomes of them.
const INTERCEPTOR: &str = "/routerrpc.Router/HtlcInterceptor";
/// gRPC's own bytes before a message: a flag and the length.
const PREFIX: usize = 5;

/// What replicas said to LND nodes, as it was said on the wire.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// Who opened a stream, and when.
    streams: BTreeMap<(ConnectionId, StreamId), (HostId, SimTime)>,
    fails: Vec<FailSent>,
    settles: Vec<SettleSent>,
}

/// A replica failed an HTLC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sim) struct FailSent {
    pub(in crate::sim) by: HostId,
    /// When the stream was opened on which it did.
    pub(in crate::sim) opened: SimTime,
}

/// A replica settled an HTLC: from then on the preimage is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sim) struct SettleSent {
    pub(in crate::sim) by: HostId,
    /// Of the preimage that it sent.
    pub(in crate::sim) hash: PaymentHash,
}

impl Answers {
    /// Something leaves a host.
    pub(super) fn see(&mut self, from: HostId, at: SimTime, packet: &Packet) {
        if packet.to != End::Server {
            return;
        }
        let call = (packet.connection, packet.stream.original());
        match &packet.content {
            Content::Request(head) if head.uri.path() == INTERCEPTOR => {
                // There is one on a connection at a time.
                self.streams.retain(|(connection, _), _| *connection != packet.connection);
                self.streams.insert(call, (from, at));
            }
            Content::Data(bytes) => {
                let Some((by, opened)) = self.streams.get(&call).copied() else { return };
                for answer in
                    messages(bytes).filter_map(|bytes| ForwardHtlcInterceptResponse::decode(bytes).ok())
                {
                    match answer.action() {
                        ResolveHoldForwardAction::Fail => self.fails.push(FailSent { by, opened }),
                        ResolveHoldForwardAction::Settle => {
                            let hash = PaymentHash(Sha256::digest(&answer.preimage).into());
                            self.settles.push(SettleSent { by, hash });
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }

    /// Since this was asked last.
    pub(super) fn take_settles(&mut self) -> Vec<SettleSent> {
        std::mem::take(&mut self.settles)
    }

    /// Since this was asked last.
    pub(super) fn take_fails(&mut self) -> Vec<FailSent> {
        std::mem::take(&mut self.fails)
    }
}

/// A frame has whole messages, one after the other.
fn messages(mut frame: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (prefix, rest) = frame.split_at_checked(PREFIX)?;
        let length = u32::from_be_bytes(*prefix.last_chunk()?);
        let (message, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        frame = rest;
        Some(message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::{BufMut as _, Bytes, BytesMut};

    fn packet(connection: u64, to: End, content: Content) -> Packet {
        Packet { connection: ConnectionId(connection), to, stream: StreamId(1), content }
    }

    fn opens(path: &str) -> Content {
        let (head, ()) = http::Request::post(path).body(()).unwrap().into_parts();
        Content::Request(Box::new(head))
    }

    fn says(actions: &[ResolveHoldForwardAction]) -> Content {
        let mut frame = BytesMut::new();
        for action in actions {
            let message = ForwardHtlcInterceptResponse {
                action: (*action).into(),
                preimage: vec![7; 32].into(),
                ..ForwardHtlcInterceptResponse::default()
            };
            frame.put_u8(0);
            frame.put_u32(u32::try_from(message.encoded_len()).unwrap());
            frame.extend_from_slice(&message.encode_to_vec());
        }
        Content::Data(Bytes::from(frame))
    }

    #[test]
    fn what_is_failed_and_settled_is_told_with_the_stream_on_which_it_was() {
        use ResolveHoldForwardAction::{Fail, Resume, Settle};
        let (replica, at) = (HostId(2), SimTime::from_ms);
        let mut answers = Answers::default();
        answers.see(replica, at(10), &packet(1, End::Server, opens(INTERCEPTOR)));
        answers.see(HostId(3), at(11), &packet(2, End::Server, opens("/lnrpc.Lightning/GetInfo")));
        answers.see(replica, at(12), &packet(1, End::Server, says(&[Settle, Resume])));
        answers.see(HostId(3), at(13), &packet(2, End::Server, says(&[Fail])));
        answers.see(HostId(9), at(14), &packet(1, End::Client, says(&[Fail])));
        assert_eq!(answers.take_fails(), []);
        let hash = PaymentHash(Sha256::digest([7; 32]).into());
        assert_eq!(answers.take_settles(), [SettleSent { by: replica, hash }]);
        assert_eq!(answers.take_settles(), [], "told once");
        answers.see(replica, at(20), &packet(1, End::Server, says(&[Resume, Fail, Settle, Fail])));
        let expected = FailSent { by: replica, opened: at(10) };
        assert_eq!(answers.take_fails(), [expected, expected]);
        assert_eq!(answers.take_fails(), [], "told once");
        answers.see(replica, at(30), &packet(1, End::Server, opens(INTERCEPTOR)));
        answers.see(replica, at(31), &packet(1, End::Server, says(&[Fail])));
        assert_eq!(answers.take_fails(), [FailSent { by: replica, opened: at(30) }]);
    }
}
