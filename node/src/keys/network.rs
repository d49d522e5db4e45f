use std::{fmt, str::FromStr};

/// The chain that the cluster's channels live on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Network {
    /// Real money.
    Mainnet,
    /// The third test network.
    Testnet,
    /// The fourth; its invoices carry the third one's prefix.
    Testnet4,
    /// Test network with signed blocks.
    Signet,
    /// Local test chain.
    Regtest,
    /// btcd's local test chain.
    Simnet,
}

/// A name that is none of a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown network {0:?}: one of mainnet, testnet, testnet4, signet, regtest, simnet")]
pub struct UnknownNetwork(pub String);

impl Network {
    /// Its name as LND's `GetInfo.chains[].network` says it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Mainnet => "mainnet",
            Self::Testnet => "testnet",
            Self::Testnet4 => "testnet4",
            Self::Signet => "signet",
            Self::Regtest => "regtest",
            Self::Simnet => "simnet",
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Network {
    type Err = UnknownNetwork;

    fn from_str(text: &str) -> Result<Self, UnknownNetwork> {
        [Self::Mainnet, Self::Testnet, Self::Testnet4, Self::Signet, Self::Regtest, Self::Simnet]
            .into_iter()
            .find(|network| network.name() == text)
            .ok_or_else(|| UnknownNetwork(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_unknown_ones_are_named() {
        for name in ["mainnet", "testnet", "testnet4", "signet", "regtest", "simnet"] {
            assert_eq!(name.parse::<Network>().unwrap().to_string(), name);
        }
        let error = "bitcoin".parse::<Network>().unwrap_err().to_string();
        assert!(error.contains("\"bitcoin\"") && error.contains("mainnet"), "{error}");
    }
}
