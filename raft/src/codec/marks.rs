use super::{CodecError, open, seal};
use crate::replica::raft::{LogId, Vote, log_id, vote};
use crate::types::LogIndex;

/// `term u64 | index u64 | CRC-32C u32`, or the CRC of nothing for no entry.
pub(crate) fn encode_log_id(id: Option<LogId>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(20);
    if let Some(id) = id {
        bytes.extend_from_slice(&id.leader_id.term.to_le_bytes());
        bytes.extend_from_slice(&id.index.to_le_bytes());
    }
    seal(&mut bytes);
    bytes
}

/// See [`encode_log_id`].
pub(crate) fn decode_log_id(bytes: &[u8]) -> Result<Option<LogId>, CodecError> {
    let content = open(bytes)?;
    if content.is_empty() {
        return Ok(None);
    }
    let (term, rest) = content.split_first_chunk::<8>().ok_or(CodecError::Truncated(bytes.len()))?;
    let index = <[u8; 8]>::try_from(rest).map_err(|_| CodecError::Malformed("log id"))?;
    Ok(Some(log_id(u64::from_le_bytes(*term), u64::from_le_bytes(index))))
}

/// `term u64 | replica u64 | committed u8 | CRC-32C u32`.
pub(crate) fn encode_vote(vote: &Vote) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(21);
    bytes.extend_from_slice(&vote.leader_id.term.to_le_bytes());
    bytes.extend_from_slice(&vote.leader_id.voted_for.to_le_bytes());
    bytes.push(u8::from(vote.committed));
    seal(&mut bytes);
    bytes
}

/// See [`encode_vote`].
pub(crate) fn decode_vote(bytes: &[u8]) -> Result<Vote, CodecError> {
    let content = open(bytes)?;
    let truncated = CodecError::Truncated(bytes.len());
    let (term, rest) = content.split_first_chunk::<8>().ok_or_else(|| truncated.clone())?;
    let (replica, rest) = rest.split_first_chunk::<8>().ok_or(truncated)?;
    let committed = match rest {
        [0] => false,
        [1] => true,
        _ => return Err(CodecError::Malformed("vote")),
    };
    Ok(vote(u64::from_le_bytes(*term), u64::from_le_bytes(*replica), committed))
}

/// `index u64 | CRC-32C u32`, or the CRC of nothing for none.
pub(crate) fn encode_index(index: Option<LogIndex>) -> Vec<u8> {
    let mut bytes = index.map_or_else(Vec::new, |index| index.to_le_bytes().to_vec());
    seal(&mut bytes);
    bytes
}

/// See [`encode_index`].
pub(crate) fn decode_index(bytes: &[u8]) -> Result<Option<LogIndex>, CodecError> {
    match open(bytes)? {
        [] => Ok(None),
        index => {
            let index = <[u8; 8]>::try_from(index).map_err(|_| CodecError::Malformed("index"))?;
            Ok(Some(u64::from_le_bytes(index)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn votes_and_log_ids_round_trip_and_notice_damage() {
        for id in [None, Some(log_id(3, 0)), Some(log_id(u64::MAX, 9))] {
            assert_eq!(decode_log_id(&encode_log_id(id)), Ok(id));
        }
        for index in [None, Some(0), Some(u64::MAX)] {
            assert_eq!(decode_index(&encode_index(index)), Ok(index));
        }
        for original in [vote(0, 0, false), vote(7, 3, true)] {
            let bytes = encode_vote(&original);
            assert_eq!(decode_vote(&bytes), Ok(original));
            for at in 0..bytes.len() {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1;
                assert!(decode_vote(&damaged).is_err(), "byte {at}");
            }
        }
    }
}
