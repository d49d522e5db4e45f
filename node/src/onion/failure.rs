use super::tlv::write_bigsize;
use mux_raft::types::{BlockHeight, Msat};

const PERM: u16 = 0x4000;
const NODE: u16 = 0x2000;

/// What the virtual node tells a payer (BOLT 4, "Failure Messages").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureMessage {
    /// Unknown hash, wrong secret, wrong amount, expired, paid, too few blocks: payers cannot tell which.
    IncorrectOrUnknownPaymentDetails {
        /// Amount of the HTLC.
        htlc_msat: Msat,
        /// Our height; payers with a lower one wait.
        height: BlockHeight,
    },
    /// The rest of the payment did not arrive in time.
    MppTimeout,
    /// The HTLC's expiry is below what the onion says.
    FinalIncorrectCltvExpiry {
        /// Expiry of the HTLC.
        cltv_expiry: BlockHeight,
    },
    /// The HTLC's amount is below what the onion says.
    FinalIncorrectHtlcAmount {
        /// Amount of the HTLC.
        htlc_msat: Msat,
    },
    /// The payload cannot be understood.
    InvalidOnionPayload {
        /// Type of the offending record.
        tlv_type: u64,
        /// Where it begins.
        offset: u16,
    },
    /// We are asked to forward, and have nobody to forward to.
    UnknownNextPeer,
    /// Something is wrong here, for now.
    TemporaryNodeFailure,
}

impl FailureMessage {
    /// BOLT 4's code with its flags.
    #[must_use]
    pub fn code(&self) -> u16 {
        match self {
            Self::TemporaryNodeFailure => NODE | 2,
            Self::UnknownNextPeer => PERM | 10,
            Self::IncorrectOrUnknownPaymentDetails { .. } => PERM | 15,
            Self::FinalIncorrectCltvExpiry { .. } => 18,
            Self::FinalIncorrectHtlcAmount { .. } => 19,
            Self::InvalidOnionPayload { .. } => PERM | 22,
            Self::MppTimeout => 23,
        }
    }

    /// Code and data, as they are put into the packet. At most [`Self::BYTES_MAX`].
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.code().to_be_bytes().to_vec();
        match self {
            Self::TemporaryNodeFailure | Self::UnknownNextPeer | Self::MppTimeout => {}
            Self::IncorrectOrUnknownPaymentDetails { htlc_msat, height } => {
                out.extend_from_slice(&htlc_msat.0.to_be_bytes());
                out.extend_from_slice(&height.to_be_bytes());
            }
            Self::FinalIncorrectCltvExpiry { cltv_expiry } => {
                out.extend_from_slice(&cltv_expiry.to_be_bytes());
            }
            Self::FinalIncorrectHtlcAmount { htlc_msat } => {
                out.extend_from_slice(&htlc_msat.0.to_be_bytes());
            }
            Self::InvalidOnionPayload { tlv_type, offset } => {
                write_bigsize(&mut out, *tlv_type);
                out.extend_from_slice(&offset.to_be_bytes());
            }
        }
        out
    }

    /// Longest encoding: code, amount and height.
    pub const BYTES_MAX: usize = 2 + 8 + 4;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_data_are_those_of_bolt_4() {
        for (message, expected) in [
            (
                FailureMessage::IncorrectOrUnknownPaymentDetails { htlc_msat: Msat(100), height: 800_000 },
                "400f0000000000000064000c3500",
            ),
            (FailureMessage::MppTimeout, "0017"),
            (FailureMessage::FinalIncorrectCltvExpiry { cltv_expiry: 800_000 }, "0012000c3500"),
            (FailureMessage::FinalIncorrectHtlcAmount { htlc_msat: Msat(100) }, "00130000000000000064"),
            (FailureMessage::InvalidOnionPayload { tlv_type: 2, offset: 0 }, "4016020000"),
            (
                FailureMessage::InvalidOnionPayload { tlv_type: 5_482_373_486, offset: 9 },
                "4016ff0000000146c6616e0009",
            ),
            (FailureMessage::UnknownNextPeer, "400a"),
            (FailureMessage::TemporaryNodeFailure, "2002"),
        ] {
            assert_eq!(hex::encode(message.encode()), expected);
            assert!(message.encode().len() <= FailureMessage::BYTES_MAX);
        }
    }
}
