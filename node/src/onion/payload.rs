//! The payload that a payer leaves for the last hop.

use super::tlv::{Record, Records, truncated};
use mux_raft::types::{BlockHeight, Msat, PaymentSecret};

const AMT_TO_FORWARD: u64 = 2;
const OUTGOING_CLTV: u64 = 4;
const PAYMENT_DATA: u64 = 8;
const AMP: u64 = 14;
const PAYMENT_METADATA: u64 = 16;
const KEYSEND_PREIMAGE: u64 = 5_482_373_484;

/// Types from here on are anybody's to use.
const CUSTOM_TYPES_FROM: u64 = 65_536;

/// What the onion says to the last hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinalPayload {
    /// `amt_to_forward`: the least that this HTLC shall bring.
    pub amt_to_forward: Msat,
    /// `outgoing_cltv_value`: the lowest expiry that this HTLC shall have.
    pub outgoing_cltv: BlockHeight,
    /// Secret and total; every payment to an invoice of ours has it.
    pub payment_data: Option<PaymentData>,
    /// Echo of the invoice's metadata; ours have none.
    pub payment_metadata: Option<Vec<u8>>,
    /// The payer brings the preimage along (spontaneous payment).
    pub has_keysend_preimage: bool,
    /// A part of an atomic multi-path payment.
    pub has_amp: bool,
    /// Odd records of other types.
    pub custom: Vec<(u64, Vec<u8>)>,
}

/// BOLT 4 `payment_data`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentData {
    /// From the invoice, if it is genuine.
    pub secret: PaymentSecret,
    /// Sum of all parts, as the payer says.
    pub total_msat: Msat,
}

/// A payload that BOLT 1 or BOLT 4 does not allow: `invalid_onion_payload`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("onion payload: {fault}, type {tlv_type} at offset {offset}")]
pub struct PayloadError {
    /// Type of the offending record, 0 if it has none.
    pub tlv_type: u64,
    /// Offset in the decrypted hop payloads at which it begins (the length prefix is at 0).
    pub offset: u16,
    /// What is wrong.
    pub fault: PayloadFault,
}

/// What is wrong with a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PayloadFault {
    /// Something ends too early, or says that it is longer than what is there.
    #[error("wrong length")]
    Length,
    /// A BigSize that is not in its shortest form.
    #[error("integer not minimally encoded")]
    Encoding,
    /// Types must increase strictly.
    #[error("types out of order")]
    Order,
    /// An even type that we do not know, or not at this place.
    #[error("required record not understood")]
    UnknownEven,
    /// The value is not of its type's form.
    #[error("malformed value")]
    Value,
    /// A record that must be there is not.
    #[error("record missing")]
    Missing,
}

impl FinalPayload {
    /// Reads a payload. `base` is its offset in the decrypted hop payloads.
    pub(super) fn parse(payload: &[u8], base: usize) -> Result<Self, PayloadError> {
        let mut amt_to_forward = None;
        let mut outgoing_cltv = None;
        let mut read = Self {
            amt_to_forward: Msat::ZERO,
            outgoing_cltv: 0,
            payment_data: None,
            payment_metadata: None,
            has_keysend_preimage: false,
            has_amp: false,
            custom: Vec::new(),
        };
        let mut records = Records::new(payload, base);
        while let Some(record) = records.next()? {
            match record.tlv_type {
                AMT_TO_FORWARD => amt_to_forward = Some(Msat(record.truncated(8)?)),
                OUTGOING_CLTV => outgoing_cltv = Some(block_height(&record)?),
                PAYMENT_DATA => read.payment_data = Some(payment_data(&record)?),
                AMP => read.has_amp = true,
                PAYMENT_METADATA => read.payment_metadata = Some(record.value.to_vec()),
                KEYSEND_PREIMAGE => read.has_keysend_preimage = true,
                // Blinded paths (10, 12, 18) are among these: the virtual node never hands one out.
                even if even % 2 == 0 => return Err(record.error(PayloadFault::UnknownEven)),
                custom if custom >= CUSTOM_TYPES_FROM => {
                    read.custom.push((custom, record.value.to_vec()));
                }
                _odd => {}
            }
        }
        let missing = |tlv_type| PayloadError { tlv_type, offset: 0, fault: PayloadFault::Missing };
        read.amt_to_forward = amt_to_forward.ok_or_else(|| missing(AMT_TO_FORWARD))?;
        read.outgoing_cltv = outgoing_cltv.ok_or_else(|| missing(OUTGOING_CLTV))?;
        Ok(read)
    }
}

pub(super) fn block_height(record: &Record<'_>) -> Result<BlockHeight, PayloadError> {
    BlockHeight::try_from(record.truncated(4)?).map_err(|_| record.error(PayloadFault::Value))
}

fn payment_data(record: &Record<'_>) -> Result<PaymentData, PayloadError> {
    let (secret, total) =
        record.value.split_at_checked(32).ok_or_else(|| record.error(PayloadFault::Value))?;
    let mut bytes = [0; 32];
    bytes.copy_from_slice(secret);
    let total = truncated(total, 8).ok_or_else(|| record.error(PayloadFault::Value))?;
    Ok(PaymentData { secret: PaymentSecret(bytes), total_msat: Msat(total) })
}

#[cfg(test)]
mod tests {
    use super::super::tlv::write_record;
    use super::*;
    use proptest::prelude::*;

    fn parse(records: &[(u64, &[u8])]) -> Result<FinalPayload, PayloadError> {
        let mut bytes = Vec::new();
        for (tlv_type, value) in records {
            write_record(&mut bytes, *tlv_type, value);
        }
        FinalPayload::parse(&bytes, 1)
    }

    fn error(tlv_type: u64, offset: u16, fault: PayloadFault) -> Result<FinalPayload, PayloadError> {
        Err(PayloadError { tlv_type, offset, fault })
    }

    const AMT: (u64, &[u8]) = (2, &[0x27, 0x10]);
    const CLTV: (u64, &[u8]) = (4, &[0x03, 0xe8]);

    #[test]
    fn a_plain_invoice_payment_is_read_in_full() {
        let data = [vec![7; 32], vec![0x27, 0x10]].concat();
        let read = parse(&[AMT, CLTV, (8, &data), (16, &[1, 2]), (17, &[]), (65_537, &[3])]).unwrap();
        assert_eq!(
            read,
            FinalPayload {
                amt_to_forward: Msat(10_000),
                outgoing_cltv: 1000,
                payment_data: Some(PaymentData { secret: PaymentSecret([7; 32]), total_msat: Msat(10_000) }),
                payment_metadata: Some(vec![1, 2]),
                has_keysend_preimage: false,
                has_amp: false,
                custom: vec![(65_537, vec![3])],
            }
        );
    }

    #[test]
    fn keysend_and_amp_are_recognised() {
        assert!(parse(&[AMT, CLTV, (5_482_373_484, &[1; 32])]).unwrap().has_keysend_preimage);
        assert!(parse(&[AMT, CLTV, (14, &[1; 65])]).unwrap().has_amp);
    }

    #[test]
    fn missing_amount_or_expiry_is_named() {
        assert_eq!(parse(&[CLTV]), error(2, 0, PayloadFault::Missing));
        assert_eq!(parse(&[AMT]), error(4, 0, PayloadFault::Missing));
    }

    #[test]
    fn an_unknown_even_type_is_named_with_its_offset() {
        for tlv_type in [6, 10, 12, 18, 20, 252, 65_536, 5_482_373_486] {
            assert_eq!(
                parse(&[AMT, CLTV, (tlv_type, &[1])]),
                error(tlv_type, 9, PayloadFault::UnknownEven),
                "{tlv_type}"
            );
        }
    }

    #[test]
    fn order_and_duplicates_are_refused() {
        assert_eq!(parse(&[CLTV, AMT]), error(2, 5, PayloadFault::Order));
        assert_eq!(parse(&[AMT, AMT, CLTV]), error(2, 5, PayloadFault::Order));
    }

    #[test]
    fn values_must_have_their_form() {
        for (records, tlv_type) in [
            (vec![(2, [0, 1].as_slice()), CLTV], 2),
            (vec![(2, [1; 9].as_slice()), CLTV], 2),
            (vec![AMT, (4, [0].as_slice())], 4),
            (vec![AMT, (4, [1; 5].as_slice())], 4),
            (vec![AMT, CLTV, (8, [1; 31].as_slice())], 8),
            (vec![AMT, CLTV, (8, [1; 41].as_slice())], 8),
            (vec![AMT, CLTV, (8, [0; 33].as_slice())], 8),
        ] {
            let error = parse(&records).unwrap_err();
            assert_eq!((error.tlv_type, error.fault), (tlv_type, PayloadFault::Value));
        }
    }

    #[test]
    fn truncated_records_are_refused() {
        for bytes in [&[2_u8][..], &[2, 3, 1], &[2, 0xfd], &[0xfd, 0], &[2, 0xff, 0xff, 0xff]] {
            let error = FinalPayload::parse(bytes, 1).unwrap_err();
            assert_eq!((error.fault, error.offset), (PayloadFault::Length, 1), "{bytes:?}");
        }
        let not_minimal = FinalPayload::parse(&[0xfd, 0, 2, 1, 1], 1).unwrap_err();
        assert_eq!(not_minimal.fault, PayloadFault::Encoding);
    }

    #[test]
    fn the_secret_does_not_print() {
        let data = [vec![0xab; 32], vec![1]].concat();
        let text = format!("{:?}", parse(&[AMT, CLTV, (8, &data)]).unwrap());
        assert!(!text.contains("171") && !text.contains("abab"), "{text}");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, base in 0..2000_usize) {
            let _ = FinalPayload::parse(&bytes, base);
        }

        #[test]
        fn no_records_panic(records: Vec<(u8, Vec<u8>)>) {
            let mut bytes = Vec::new();
            for (tlv_type, value) in &records {
                write_record(&mut bytes, u64::from(*tlv_type), value);
            }
            let _ = FinalPayload::parse(&bytes, 1);
        }
    }
}
