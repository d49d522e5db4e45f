use super::packet::{ConnectionId, Content, End, Packet, StreamId};
use mux_proto::mux::raft::v1 as pb;
use mux_raft::types::ReplicaId;
use prost::Message as _;
use std::collections::BTreeMap;

/// Where votes are asked for.
const VOTE: &str = "/mux.raft.v1.RaftTransport/Vote";
/// gRPC's own bytes before a message.
const PREFIX: usize = 5;

/// Who voted for whom, as it was said on the wire: what a replica has said it may not forget, whatever happens to it.
#[derive(Debug, Default)]
pub(super) struct Votes {
    /// Calls for a vote, and what they asked for once that is known.
    calls: BTreeMap<(ConnectionId, StreamId), Option<Asked>>,
    /// By voter and term: the candidate.
    given: BTreeMap<(ReplicaId, u64), ReplicaId>,
    /// Votes that were given twice.
    doubles: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    voter: ReplicaId,
    candidate: ReplicaId,
    term: u64,
}

impl Asked {
    /// By what a body says.
    fn read(body: &[u8]) -> Option<Self> {
        let request = pb::VoteRequest::decode(body.get(PREFIX..)?).ok()?;
        let (header, vote) = (request.header?, request.vote?);
        Some(Self { voter: header.target, candidate: header.source, term: vote.term })
    }
}

impl Votes {
    /// Something leaves a host.
    pub(super) fn see(&mut self, packet: &Packet) {
        let call = (packet.connection, packet.stream.original());
        match (&packet.content, packet.to) {
            (Content::Request(head), End::Server) if head.uri.path() == VOTE => {
                self.calls.insert(call, None);
            }
            (Content::Data(bytes), End::Server) => {
                let Some(known) = self.calls.get_mut(&call) else { return };
                let Some(asked) = Asked::read(bytes) else { return };
                *known = Some(asked);
                // Who asks has voted for itself.
                self.note(asked.candidate, asked);
            }
            (Content::Data(bytes), End::Client) => {
                let Some(Some(asked)) = self.calls.get(&call).copied() else { return };
                let answer = bytes.get(PREFIX..).and_then(|bytes| pb::VoteResponse::decode(bytes).ok());
                if answer.is_some_and(|answer| answer.granted) {
                    self.note(asked.voter, asked);
                }
            }
            _ => {}
        }
    }

    fn note(&mut self, voter: ReplicaId, Asked { candidate, term, .. }: Asked) {
        let first = *self.given.entry((voter, term)).or_insert(candidate);
        if first != candidate {
            let text = format!("replica {voter} voted for {first} and for {candidate}, both in term {term}");
            self.doubles.push(text);
        }
    }

    /// What was wrong since this was asked last.
    pub(super) fn take_doubles(&mut self) -> Vec<String> {
        std::mem::take(&mut self.doubles)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::{BufMut as _, Bytes, BytesMut};

    fn framed(message: &impl prost::Message) -> Content {
        let mut bytes = BytesMut::new();
        bytes.put_u8(0);
        bytes.put_u32(u32::try_from(message.encoded_len()).unwrap());
        bytes.extend_from_slice(&message.encode_to_vec());
        Content::Data(Bytes::from(bytes))
    }

    /// One call for a vote and its answer.
    fn election(votes: &mut Votes, call: u32, (candidate, term): (u64, u64), (voter, granted): (u64, bool)) {
        let packet =
            |to, content| Packet { connection: ConnectionId(1), to, stream: StreamId(call), content };
        let (head, ()) = http::Request::post(VOTE).body(()).unwrap().into_parts();
        let header = Some(pb::Header { source: candidate, target: voter, ..pb::Header::default() });
        let vote = Some(pb::Vote { term, node_id: candidate, committed: false });
        let asks = pb::VoteRequest { header, vote, ..pb::VoteRequest::default() };
        let answers = pb::VoteResponse { granted, ..pb::VoteResponse::default() };
        votes.see(&packet(End::Server, Content::Request(Box::new(head))));
        votes.see(&packet(End::Server, framed(&asks)));
        votes.see(&packet(End::Client, framed(&answers)));
    }

    #[test]
    fn two_votes_of_one_replica_in_one_term_are_noticed() {
        let mut votes = Votes::default();
        election(&mut votes, 1, (1, 7), (3, true));
        election(&mut votes, 2, (1, 7), (3, true));
        election(&mut votes, 3, (2, 7), (3, false));
        election(&mut votes, 4, (2, 8), (3, true));
        assert_eq!(votes.take_doubles(), Vec::<String>::new());
        election(&mut votes, 5, (2, 7), (3, true));
        assert_eq!(votes.take_doubles(), ["replica 3 voted for 1 and for 2, both in term 7"]);
        // A candidate's own vote counts.
        election(&mut votes, 6, (3, 8), (1, false));
        assert_eq!(votes.take_doubles(), ["replica 3 voted for 2 and for 3, both in term 8"]);
    }
}
