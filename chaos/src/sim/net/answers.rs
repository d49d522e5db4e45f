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
    resumes: Vec<HostId>,
    fails: Vec<FailSent>,
    settles: Vec<SettleSent>,
}

/// A replica failed an HTLC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sim) struct FailSent {
    pub(in crate::sim) by: HostId,
    /// The LND node's.
    pub(in crate::sim) at: HostId,
    /// Its channel and its number there.
    pub(in crate::sim) htlc: (u64, u64),
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
    /// Something leaves a host for another.
    pub(super) fn see(&mut self, (from, to): (HostId, HostId), at: SimTime, packet: &Packet) {
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
                        ResolveHoldForwardAction::Fail => {
                            let key = answer.incoming_circuit_key.unwrap_or_default();
                            let htlc = (key.chan_id, key.htlc_id);
                            self.fails.push(FailSent { by, at: to, htlc, opened });
                        }
                        ResolveHoldForwardAction::Resume => self.resumes.push(by),
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

    /// Who let an HTLC pass since this was asked last.
    pub(super) fn take_resumes(&mut self) -> Vec<HostId> {
        std::mem::take(&mut self.resumes)
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
    use mux_proto::routerrpc::CircuitKey;

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
                incoming_circuit_key: Some(CircuitKey { chan_id: 4, htlc_id: 5 }),
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
        let (replica, lnd, at) = (HostId(2), HostId(7), SimTime::from_ms);
        let mut answers = Answers::default();
        answers.see((replica, lnd), at(10), &packet(1, End::Server, opens(INTERCEPTOR)));
        answers.see((HostId(3), lnd), at(11), &packet(2, End::Server, opens("/lnrpc.Lightning/GetInfo")));
        answers.see((replica, lnd), at(12), &packet(1, End::Server, says(&[Settle, Resume])));
        answers.see((HostId(3), lnd), at(13), &packet(2, End::Server, says(&[Fail])));
        answers.see((HostId(9), replica), at(14), &packet(1, End::Client, says(&[Fail])));
        assert_eq!(answers.take_fails(), []);
        let hash = PaymentHash(Sha256::digest([7; 32]).into());
        assert_eq!(answers.take_settles(), [SettleSent { by: replica, hash }]);
        assert_eq!(answers.take_settles(), [], "told once");
        assert_eq!(answers.take_resumes(), [replica]);
        assert_eq!(answers.take_resumes(), [], "told once");
        answers.see((replica, lnd), at(20), &packet(1, End::Server, says(&[Resume, Fail, Settle, Fail])));
        let expected = FailSent { by: replica, at: lnd, htlc: (4, 5), opened: at(10) };
        assert_eq!(answers.take_fails(), [expected, expected]);
        assert_eq!(answers.take_fails(), [], "told once");
        answers.see((replica, lnd), at(30), &packet(1, End::Server, opens(INTERCEPTOR)));
        answers.see((replica, lnd), at(31), &packet(1, End::Server, says(&[Fail])));
        assert_eq!(answers.take_fails(), [FailSent { opened: at(30), ..expected }]);
    }
}
