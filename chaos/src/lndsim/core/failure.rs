use mux_proto::lndsim::v1::{HtlcFailure, htlc_failure::Speaker};
use serde::{Deserialize, Serialize};

/// Why an HTLC failed, and in whose name: what goes back to the payer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failure {
    /// The node itself says so.
    FrontNode(Code),
    /// The interceptor gave the packet, 292 bytes, encrypted by the virtual node.
    VirtualNode(Vec<u8>),
    /// The peer behind a real outgoing channel says so.
    Downstream(Code),
    /// The peer in front says so: the channel went to chain and the HTLC with it.
    Upstream(Code),
}

/// BOLT 4 failure codes that the node or its peers use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Code {
    /// UPDATE|7.
    TemporaryChannelFailure,
    /// PERM|8.
    PermanentChannelFailure,
    /// PERM|10.
    UnknownNextPeer,
    /// UPDATE|14.
    ExpiryTooSoon,
    /// 21.
    ExpiryTooFar,
    /// BADONION|PERM|4.
    InvalidOnionVersion,
    /// BADONION|PERM|5.
    InvalidOnionHmac,
    /// BADONION|PERM|6.
    InvalidOnionKey,
}

impl Code {
    /// Number and name of BOLT 4.
    #[must_use]
    pub fn bolt4(self) -> (u32, &'static str) {
        match self {
            Self::TemporaryChannelFailure => (0x1007, "temporary_channel_failure"),
            Self::PermanentChannelFailure => (0x4008, "permanent_channel_failure"),
            Self::UnknownNextPeer => (0x400a, "unknown_next_peer"),
            Self::ExpiryTooSoon => (0x100e, "expiry_too_soon"),
            Self::ExpiryTooFar => (21, "expiry_too_far"),
            Self::InvalidOnionVersion => (0xc004, "invalid_onion_version"),
            Self::InvalidOnionHmac => (0xc005, "invalid_onion_hmac"),
            Self::InvalidOnionKey => (0xc006, "invalid_onion_key"),
        }
    }
}

impl From<&Failure> for HtlcFailure {
    fn from(failure: &Failure) -> Self {
        let (speaker, code, packet) = match failure {
            Failure::FrontNode(code) => (Speaker::FrontNode, Some(*code), Vec::new()),
            Failure::VirtualNode(packet) => (Speaker::VirtualNode, None, packet.clone()),
            Failure::Downstream(code) => (Speaker::Downstream, Some(*code), Vec::new()),
            Failure::Upstream(code) => (Speaker::Upstream, Some(*code), Vec::new()),
        };
        let (bolt4_code, name) = code.map_or((0, ""), Code::bolt4);
        Self { speaker: speaker.into(), bolt4_code, name: name.to_owned(), packet: packet.into() }
    }
}
