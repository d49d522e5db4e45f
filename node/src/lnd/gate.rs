//! Whether a node that answers may be used as a front node.
//!
//! Everything here loses money or freezes payments if it is wrong, so it is checked at every connect and
//! every time a stream is opened, and refused with the change that an operator has to make.

use super::error::Refusal;
use mux_proto::lnrpc::GetInfoResponse;
use mux_raft::types::NodePubkey;
use std::str::FromStr;

/// The first release of the 0.20 line that keeps on-chain re-offers.
const MINIMUM: NodeVersion = NodeVersion { major: 0, minor: 20, patch: 2 };

/// Greater than the minimum, but branched off before the fix.
const EXCLUDED: NodeVersion = NodeVersion { major: 0, minor: 21, patch: 0 };

/// The numbers of an LND release, e.g. of `0.21.1-beta commit=v0.21.1-beta`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeVersion {
    /// 0 so far.
    pub major: u32,
    /// The line.
    pub minor: u32,
    /// The release of the line.
    pub patch: u32,
}

/// Text that does not start with three numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a version")]
pub struct ParseVersionError;

impl FromStr for NodeVersion {
    type Err = ParseVersionError;

    fn from_str(text: &str) -> Result<Self, ParseVersionError> {
        let text = text.trim().trim_start_matches('v');
        let numbers = text.split(['-', ' ', '+']).next().unwrap_or_default();
        let mut parts = numbers.split('.').map(|part| part.parse().map_err(|_| ParseVersionError));
        let mut next = || parts.next().unwrap_or(Err(ParseVersionError));
        Ok(Self { major: next()?, minor: next()?, patch: next()? })
    }
}

impl NodeVersion {
    /// Whether this release keeps HTLCs that go on chain while they are held.
    #[must_use]
    pub fn is_safe(self) -> bool {
        self >= MINIMUM && self != EXCLUDED
    }
}

/// Lets a node through, or says what must be changed.
///
/// # Errors
/// The first [`Refusal`] that applies.
pub fn check(
    info: &GetInfoResponse,
    expected: &NodePubkey,
    network: &str,
    endpoint: &str,
) -> Result<(), Refusal> {
    if info.identity_pubkey.parse::<NodePubkey>().as_ref() != Ok(expected) {
        return Err(Refusal::WrongPubkey {
            endpoint: endpoint.to_owned(),
            expected: *expected,
            actual: info.identity_pubkey.clone(),
        });
    }
    let actual = info.chains.first().map_or("no chain at all", |chain| chain.network.as_str());
    if actual != network {
        return Err(Refusal::WrongNetwork { expected: network.to_owned(), actual: actual.to_owned() });
    }
    if !info.version.parse::<NodeVersion>().is_ok_and(NodeVersion::is_safe) {
        return Err(Refusal::Version { actual: info.version.clone() });
    }
    if !info.require_htlc_interceptor {
        return Err(Refusal::InterceptorNotRequired);
    }
    if !info.store_final_htlc_resolutions {
        return Err(Refusal::ResolutionsNotStored);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use mux_proto::lnrpc::Chain;

    const NODE: NodePubkey = NodePubkey([2; 33]);

    fn good() -> GetInfoResponse {
        GetInfoResponse {
            identity_pubkey: NODE.to_string(),
            version: "0.21.1-beta commit=v0.21.1-beta".into(),
            chains: vec![Chain { network: "regtest".into(), ..Chain::default() }],
            require_htlc_interceptor: true,
            store_final_htlc_resolutions: true,
            ..GetInfoResponse::default()
        }
    }

    fn refusal(change: impl FnOnce(&mut GetInfoResponse)) -> Option<Refusal> {
        let mut info = good();
        change(&mut info);
        check(&info, &NODE, "regtest", "a:1").err()
    }

    #[test]
    fn a_node_that_is_as_it_must_be_passes() {
        assert_eq!(refusal(|_| ()), None);
    }

    #[test]
    fn each_wrong_trait_is_refused() {
        let other = NodePubkey([3; 33]).to_string();
        assert!(matches!(refusal(|i| i.identity_pubkey = other), Some(Refusal::WrongPubkey { .. })));
        assert!(matches!(refusal(|i| i.identity_pubkey.clear()), Some(Refusal::WrongPubkey { .. })));
        assert!(matches!(refusal(|i| i.chains.clear()), Some(Refusal::WrongNetwork { .. })));
        assert!(matches!(
            refusal(|i| i.chains[0].network = "mainnet".into()),
            Some(Refusal::WrongNetwork { .. })
        ));
        assert_eq!(refusal(|i| i.require_htlc_interceptor = false), Some(Refusal::InterceptorNotRequired));
        assert_eq!(refusal(|i| i.store_final_htlc_resolutions = false), Some(Refusal::ResolutionsNotStored));
    }

    #[test]
    fn releases_that_drop_on_chain_offers_are_refused() {
        for version in ["0.20.1-beta", "0.19.3-beta commit=x", "0.21.0-beta commit=v0.21.0-beta", "", "beta"]
        {
            let refused = refusal(|i| i.version = version.into());
            assert!(matches!(refused, Some(Refusal::Version { .. })), "{version}");
        }
        for version in ["0.20.2-beta", "0.20.3-beta", "0.21.1-beta", "0.21.99-beta", "v1.0.0"] {
            assert_eq!(refusal(|i| i.version = version.into()), None, "{version}");
        }
    }
}
