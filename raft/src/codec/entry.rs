use super::{CodecError, LoggedCommand, open, seal};
use crate::replica::raft::{Entry, LogId, log_id};
use bytes::Bytes;
use openraft::{BasicNode, EntryPayload, Membership};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The version of the layout below.
const VERSION: u8 = 1;
/// version, kind, term, index.
const HEADER_BYTES: usize = 1 + 1 + 8 + 8;
const CRC_BYTES: usize = 4;

const BLANK: u8 = 0;
const COMMAND: u8 = 1;
const MEMBERSHIP: u8 = 2;

/// Members as they stand in entries and snapshots.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredMembers {
    /// One set of voters, or two while a change is under way.
    voters: Vec<BTreeSet<u64>>,
    /// Everybody, learners included: id → address.
    nodes: BTreeMap<u64, String>,
}

impl From<&Membership<u64, BasicNode>> for StoredMembers {
    fn from(membership: &Membership<u64, BasicNode>) -> Self {
        Self {
            voters: membership.get_joint_config().clone(),
            nodes: membership.nodes().map(|(id, node)| (*id, node.addr.clone())).collect(),
        }
    }
}

impl TryFrom<StoredMembers> for Membership<u64, BasicNode> {
    type Error = CodecError;

    fn try_from(stored: StoredMembers) -> Result<Self, CodecError> {
        let nodes: BTreeMap<u64, BasicNode> =
            stored.nodes.into_iter().map(|(id, addr)| (id, BasicNode { addr })).collect();
        if stored.voters.is_empty() && nodes.is_empty() {
            return Ok(Self::default());
        }
        Self::new(stored.voters, nodes).map_err(|_| CodecError::Malformed("membership"))
    }
}

/// `version u8 | kind u8 | term u64 | index u64 | payload | CRC-32C u32`, integers little-endian.
pub(crate) fn encode(entry: &Entry) -> Result<Bytes, CodecError> {
    let (kind, payload) = match &entry.payload {
        EntryPayload::Blank => (BLANK, Bytes::new()),
        EntryPayload::Normal(command) => (COMMAND, command.bytes().clone()),
        EntryPayload::Membership(membership) => {
            let stored = StoredMembers::from(membership);
            let bytes = postcard::to_stdvec(&stored).map_err(|_| CodecError::Malformed("membership"))?;
            (MEMBERSHIP, Bytes::from(bytes))
        }
    };
    let mut bytes = Vec::with_capacity(HEADER_BYTES.saturating_add(payload.len()).saturating_add(CRC_BYTES));
    bytes.extend_from_slice(&[VERSION, kind]);
    bytes.extend_from_slice(&entry.log_id.leader_id.term.to_le_bytes());
    bytes.extend_from_slice(&entry.log_id.index.to_le_bytes());
    bytes.extend_from_slice(&payload);
    seal(&mut bytes);
    Ok(bytes.into())
}

/// Checks and decodes an entry; a command inside stays encoded.
pub(crate) fn decode(bytes: &Bytes) -> Result<Entry, CodecError> {
    let content = open(bytes)?;
    let truncated = CodecError::Truncated(bytes.len());
    let ([version, kind], rest) = content.split_first_chunk::<2>().ok_or_else(|| truncated.clone())?;
    if *version != VERSION {
        return Err(CodecError::Format(u16::from(*version)));
    }
    let (term, rest) = rest.split_first_chunk::<8>().ok_or_else(|| truncated.clone())?;
    let (index, payload) = rest.split_first_chunk::<8>().ok_or(truncated)?;
    let log_id: LogId = log_id(u64::from_le_bytes(*term), u64::from_le_bytes(*index));
    let payload = match *kind {
        BLANK => EntryPayload::Blank,
        COMMAND => EntryPayload::Normal(LoggedCommand::from_bytes(bytes.slice_ref(payload))),
        MEMBERSHIP => {
            let stored: StoredMembers =
                postcard::from_bytes(payload).map_err(|_| CodecError::Malformed("membership"))?;
            EntryPayload::Membership(stored.try_into()?)
        }
        _ => return Err(CodecError::Malformed("entry kind")),
    };
    Ok(Entry { log_id, payload })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::command::COMMAND_FORMAT;
    use crate::machine::{Command, Envelope};
    use proptest::prelude::*;

    fn tick(format: u16) -> Envelope {
        Envelope { format, time_ms: 7, request_id: None, command: Command::Tick }
    }

    fn entries() -> Vec<Entry> {
        let members = Membership::new(
            vec![BTreeSet::from([1, 2]), BTreeSet::from([2, 3])],
            [1, 2, 3, 4]
                .map(|id| (id, BasicNode::new(format!("host-{id}:1"))))
                .into_iter()
                .collect::<BTreeMap<_, _>>(),
        )
        .unwrap();
        vec![
            Entry { log_id: log_id(1, 0), payload: EntryPayload::Membership(members) },
            Entry { log_id: log_id(2, 1), payload: EntryPayload::Blank },
            Entry {
                log_id: log_id(u64::MAX, u64::MAX),
                payload: EntryPayload::Normal(LoggedCommand::new(tick(COMMAND_FORMAT)).unwrap()),
            },
        ]
    }

    #[test]
    fn entries_round_trip() {
        for entry in entries() {
            assert_eq!(decode(&encode(&entry).unwrap()).unwrap(), entry);
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        for entry in entries() {
            let bytes = encode(&entry).unwrap();
            for bit in 0..bytes.len() * 8 {
                let mut damaged = bytes.to_vec();
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert!(decode(&damaged.into()).is_err(), "bit {bit} of {entry}");
            }
        }
    }

    #[test]
    fn a_command_of_a_later_format_is_stored_but_not_decoded() {
        let command = LoggedCommand::new(tick(COMMAND_FORMAT + 1)).unwrap();
        let entry = Entry { log_id: log_id(1, 1), payload: EntryPayload::Normal(command) };
        let EntryPayload::Normal(read) = decode(&encode(&entry).unwrap()).unwrap().payload else {
            panic!("not a command");
        };
        assert_eq!(read.decode(), Err(CodecError::Format(COMMAND_FORMAT + 1)));
    }

    #[test]
    fn trailing_bytes_make_a_command_malformed() {
        let mut bytes = postcard::to_stdvec(&tick(COMMAND_FORMAT)).unwrap();
        bytes.push(0);
        let command = LoggedCommand::from_bytes(bytes.into());
        assert_eq!(command.decode(), Err(CodecError::Malformed("command")));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = decode(&Bytes::from(bytes.clone()));
            let mut sealed = bytes;
            seal(&mut sealed);
            let _ = decode(&Bytes::from(sealed.clone()));
            let _ = LoggedCommand::from_bytes(sealed.into()).decode();
        }
    }
}
