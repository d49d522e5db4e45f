use super::packet::{ConnectionId, Content, End, Packet, StreamId};
use crate::sim::host::HostId;
use crate::sim::lnd::FORWARD_CHANNEL;
use crate::sim::time::SimTime;
use mux_proto::routerrpc::{
    ForwardHtlcInterceptRequest, ForwardHtlcInterceptResponse, ResolveHoldForwardAction,
};
use mux_raft::types::PaymentHash;
use prost::Message;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::time::Duration;

/// Where LND offers HTLCs and hears what becomes of them.
const INTERCEPTOR: &str = "/routerrpc.Router/HtlcInterceptor";
/// gRPC's own bytes before a message: a flag and the length.
const PREFIX: usize = 5;

/// How long a replica that runs may keep an HTLC for somebody else, on a stream that it has.
const KEPT_MAX: Duration = Duration::from_secs(2);

/// What replicas said to LND nodes, as it was said on the wire.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// Who opened a stream, and when.
    streams: BTreeMap<(ConnectionId, StreamId), (HostId, SimTime)>,
    /// HTLCs for others that a replica has heard of on a connection, and for how long it ran since then.
    kept: BTreeMap<(ConnectionId, HtlcId), Duration>,
    resumes: Vec<HostId>,
    fails: Vec<FailSent>,
    settles: Vec<SettleSent>,
}

/// An HTLC's channel, and its number there.
type HtlcId = (u64, u64);

/// A replica failed an HTLC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sim) struct FailSent {
    pub(in crate::sim) by: HostId,
    /// The LND node's.
    pub(in crate::sim) at: HostId,
    /// Its channel and its number there.
    pub(in crate::sim) htlc: HtlcId,
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
                self.forget(packet.connection);
            }
            Content::Data(bytes) => {
                let Some((by, opened)) = self.streams.get(&call).copied() else { return };
                for answer in
                    messages(bytes).filter_map(|bytes| ForwardHtlcInterceptResponse::decode(bytes).ok())
                {
                    let key = answer.incoming_circuit_key.unwrap_or_default();
                    let htlc = (key.chan_id, key.htlc_id);
                    self.kept.remove(&(packet.connection, htlc));
                    match answer.action() {
                        ResolveHoldForwardAction::Fail => {
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
            Content::Finished | Content::Reset(_) => self.end(call),
            _ => {}
        }
    }

    /// Something has come to a host.
    pub(super) fn hear(&mut self, packet: &Packet) {
        let call = (packet.connection, packet.stream.original());
        if packet.to != End::Client || !self.streams.contains_key(&call) {
            return;
        }
        match &packet.content {
            Content::Data(bytes) => {
                let offers =
                    messages(bytes).filter_map(|bytes| ForwardHtlcInterceptRequest::decode(bytes).ok());
                for offer in offers.filter(passes) {
                    let key = offer.incoming_circuit_key.unwrap_or_default();
                    let kept = (packet.connection, (key.chan_id, key.htlc_id));
                    self.kept.entry(kept).or_default();
                }
            }
            Content::Trailers(_) | Content::Finished | Content::Reset(_) => self.end(call),
            _ => {}
        }
    }

    /// One end closes a stream: what it was offered on will be offered again, on the next.
    fn end(&mut self, call: (ConnectionId, StreamId)) {
        if self.streams.remove(&call).is_some() {
            self.forget(call.0);
        }
    }

    fn forget(&mut self, connection: ConnectionId) {
        self.kept.retain(|(other, _), _| *other != connection);
    }

    /// Time passes; `is_heard` tells whether whoever made a connection runs, if it has that connection still.
    /// Gives the HTLCs that were kept for too long, each once.
    pub(super) fn wait(
        &mut self,
        passed: Duration,
        is_heard: impl Fn(ConnectionId) -> Option<bool>,
    ) -> Vec<HtlcId> {
        let mut too_long = Vec::new();
        self.kept.retain(|(connection, htlc), waited| {
            let Some(runs) = is_heard(*connection) else { return false };
            *waited += if runs { passed } else { Duration::ZERO };
            if *waited > KEPT_MAX {
                too_long.push(*htlc);
            }
            *waited <= KEPT_MAX
        });
        too_long
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

/// Whether this is for somebody else, and waits for an answer: on chain LND does without one.
fn passes(offer: &ForwardHtlcInterceptRequest) -> bool {
    let off_chain = u32::try_from(offer.auto_fail_height)
        .is_ok_and(|height| height > 0 && height < offer.incoming_expiry);
    offer.outgoing_requested_chan_id == FORWARD_CHANNEL && off_chain
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

    /// As gRPC sends them, in one frame of HTTP/2.
    fn framed<M: Message>(sent: impl IntoIterator<Item = M>) -> Content {
        let mut frame = BytesMut::new();
        for message in sent {
            frame.put_u8(0);
            frame.put_u32(u32::try_from(message.encoded_len()).unwrap());
            frame.extend_from_slice(&message.encode_to_vec());
        }
        Content::Data(Bytes::from(frame))
    }

    fn answer(action: ResolveHoldForwardAction, htlc_id: u64) -> ForwardHtlcInterceptResponse {
        ForwardHtlcInterceptResponse {
            action: action.into(),
            preimage: vec![7; 32].into(),
            incoming_circuit_key: Some(CircuitKey { chan_id: 4, htlc_id }),
            ..ForwardHtlcInterceptResponse::default()
        }
    }

    fn says(actions: &[ResolveHoldForwardAction]) -> Content {
        framed(actions.iter().map(|action| answer(*action, 5)))
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

    fn offers(chan_ids: &[u64]) -> Content {
        framed((0..).zip(chan_ids).map(|(htlc_id, chan_id)| ForwardHtlcInterceptRequest {
            incoming_circuit_key: Some(CircuitKey { chan_id: 4, htlc_id }),
            outgoing_requested_chan_id: *chan_id,
            auto_fail_height: 90,
            incoming_expiry: if htlc_id == 2 { 90 } else { 100 },
            ..ForwardHtlcInterceptRequest::default()
        }))
    }

    #[test]
    fn what_a_replica_that_runs_does_not_let_pass_is_told() {
        let (replica, lnd) = (HostId(2), HostId(7));
        let almost = KEPT_MAX - Duration::from_millis(1);
        let begin = || {
            let mut answers = Answers::default();
            answers.see((replica, lnd), SimTime::ZERO, &packet(1, End::Server, opens(INTERCEPTOR)));
            // The second is the cluster's own, the third on chain.
            answers.hear(&packet(1, End::Client, offers(&[FORWARD_CHANNEL, 8, FORWARD_CHANNEL])));
            assert_eq!(answers.wait(almost, |_| Some(true)), []);
            answers
        };
        let mut answers = begin();
        assert_eq!(answers.wait(KEPT_MAX, |_| Some(false)), [], "it stands still");
        assert_eq!(answers.wait(Duration::from_millis(2), |_| Some(true)), [(4, 0)]);
        assert_eq!(answers.wait(KEPT_MAX, |_| Some(true)), [], "told once");

        let mut answers = begin();
        assert_eq!(answers.wait(Duration::ZERO, |_| None), [], "the connection is gone");
        assert_eq!(answers.wait(KEPT_MAX, |_| Some(true)), []);

        let lets_pass = |htlc_id| framed([answer(ResolveHoldForwardAction::Resume, htlc_id)]);
        let mut answers = begin();
        answers.see((replica, lnd), SimTime::ZERO, &packet(1, End::Server, lets_pass(5)));
        assert_eq!(answers.wait(KEPT_MAX, |_| Some(true)), [(4, 0)], "it let another one pass");
        answers = begin();
        answers.see((replica, lnd), SimTime::ZERO, &packet(1, End::Server, lets_pass(0)));
        assert_eq!(answers.wait(KEPT_MAX, |_| Some(true)), []);
    }
}
