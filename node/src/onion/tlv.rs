//! TLV streams, strictly as BOLT 1 has them.

use super::payload::{PayloadError, PayloadFault};

/// One record.
pub(super) struct Record<'a> {
    pub(super) tlv_type: u64,
    pub(super) value: &'a [u8],
    /// Of the record's first byte, as failures report it.
    pub(super) offset: u16,
}

impl Record<'_> {
    pub(super) fn error(&self, fault: PayloadFault) -> PayloadError {
        PayloadError { tlv_type: self.tlv_type, offset: self.offset, fault }
    }

    /// A truncated integer of at most `size` bytes that is the whole value.
    pub(super) fn truncated(&self, size: usize) -> Result<u64, PayloadError> {
        truncated(self.value, size).ok_or_else(|| self.error(PayloadFault::Value))
    }
}

/// Reads records one by one: types strictly increasing, everything minimally encoded.
pub(super) struct Records<'a> {
    rest: &'a [u8],
    /// Of the end of the stream.
    end: usize,
    last_type: Option<u64>,
}

impl<'a> Records<'a> {
    /// `base` is the offset of the stream's first byte.
    pub(super) fn new(stream: &'a [u8], base: usize) -> Self {
        Self { rest: stream, end: base.saturating_add(stream.len()), last_type: None }
    }

    pub(super) fn next(&mut self) -> Result<Option<Record<'a>>, PayloadError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let offset = u16::try_from(self.end - self.rest.len()).unwrap_or(u16::MAX);
        let tlv_type =
            read_bigsize(&mut self.rest).map_err(|fault| PayloadError { tlv_type: 0, offset, fault })?;
        let error = |fault| PayloadError { tlv_type, offset, fault };
        if self.last_type.is_some_and(|last| tlv_type <= last) {
            return Err(error(PayloadFault::Order));
        }
        self.last_type = Some(tlv_type);
        let length = read_bigsize(&mut self.rest).map_err(error)?;
        let length = usize::try_from(length).map_err(|_| error(PayloadFault::Length))?;
        if length > self.rest.len() {
            return Err(error(PayloadFault::Length));
        }
        let (value, rest) = self.rest.split_at(length);
        self.rest = rest;
        Ok(Some(Record { tlv_type, value, offset }))
    }
}

/// A minimally encoded BigSize, taken off the front.
pub(super) fn read_bigsize(input: &mut &[u8]) -> Result<u64, PayloadFault> {
    let (first, rest) = input.split_first().ok_or(PayloadFault::Length)?;
    let (size, least) = match first {
        0xfd => (2, 0xfd),
        0xfe => (4, 0x1_0000),
        0xff => (8, 0x1_0000_0000),
        small => {
            *input = rest;
            return Ok(u64::from(*small));
        }
    };
    if rest.len() < size {
        return Err(PayloadFault::Length);
    }
    let (bytes, rest) = rest.split_at(size);
    let value = big_endian(bytes);
    if value < least {
        return Err(PayloadFault::Encoding);
    }
    *input = rest;
    Ok(value)
}

/// Appends a BigSize.
pub(super) fn write_bigsize(out: &mut Vec<u8>, value: u64) {
    let bytes = value.to_be_bytes();
    match value {
        0..0xfd => out.push(bytes[7]),
        0xfd..0x1_0000 => {
            out.push(0xfd);
            out.extend_from_slice(&bytes[6..]);
        }
        0x1_0000..0x1_0000_0000 => {
            out.push(0xfe);
            out.extend_from_slice(&bytes[4..]);
        }
        _ => {
            out.push(0xff);
            out.extend_from_slice(&bytes);
        }
    }
}

/// Appends a record.
pub(super) fn write_record(out: &mut Vec<u8>, tlv_type: u64, value: &[u8]) {
    write_bigsize(out, tlv_type);
    write_bigsize(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// The bytes of a truncated integer: big-endian without leading zeros.
pub(super) fn truncated_bytes(value: u64) -> Vec<u8> {
    value.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect()
}

/// A truncated integer: at most `size` bytes, no leading zeros, empty for 0.
pub(super) fn truncated(bytes: &[u8], size: usize) -> Option<u64> {
    (bytes.len() <= size.min(8) && bytes.first() != Some(&0)).then(|| big_endian(bytes))
}

/// At most eight bytes.
fn big_endian(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> Result<(u64, usize), PayloadFault> {
        let mut input = bytes;
        read_bigsize(&mut input).map(|value| (value, bytes.len() - input.len()))
    }

    #[test]
    fn bigsize_accepts_only_the_shortest_form() {
        for (text, expected) in [
            ("00", Ok((0, 1))),
            ("fc", Ok((0xfc, 1))),
            ("fd00fd", Ok((0xfd, 3))),
            ("fdffff", Ok((0xffff, 3))),
            ("fe00010000", Ok((0x1_0000, 5))),
            ("feffffffff", Ok((0xffff_ffff, 5))),
            ("ff0000000100000000", Ok((0x1_0000_0000, 9))),
            ("ffffffffffffffffff", Ok((u64::MAX, 9))),
            ("fd00fc", Err(PayloadFault::Encoding)),
            ("fe0000ffff", Err(PayloadFault::Encoding)),
            ("ff00000000ffffffff", Err(PayloadFault::Encoding)),
            ("", Err(PayloadFault::Length)),
            ("fd00", Err(PayloadFault::Length)),
            ("feffff", Err(PayloadFault::Length)),
            ("ffffffffff", Err(PayloadFault::Length)),
        ] {
            assert_eq!(read(&hex::decode(text).unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn truncated_integers_have_no_leading_zeros() {
        assert_eq!(truncated(&[], 8), Some(0));
        assert_eq!(truncated(&[1], 8), Some(1));
        assert_eq!(truncated(&[1, 0], 4), Some(256));
        assert_eq!(truncated(&[0], 8), None);
        assert_eq!(truncated(&[0, 1], 8), None);
        assert_eq!(truncated(&[0xff; 8], 8), Some(u64::MAX));
        assert_eq!(truncated(&[0xff; 9], 8), None);
        assert_eq!(truncated(&[1; 5], 4), None);
    }

    proptest! {
        #[test]
        fn integers_round_trip(value: u64) {
            let mut bytes = Vec::new();
            write_bigsize(&mut bytes, value);
            prop_assert_eq!(read(&bytes), Ok((value, bytes.len())));
            prop_assert_eq!(truncated(&truncated_bytes(value), 8), Some(value));
        }

        #[test]
        fn any_bytes_end_in_records_or_an_error(bytes: Vec<u8>) {
            let mut records = Records::new(&bytes, 3);
            let mut last = None;
            while let Ok(Some(record)) = records.next() {
                prop_assert!(last < Some(record.tlv_type));
                last = Some(record.tlv_type);
            }
        }
    }
}
