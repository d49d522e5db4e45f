use serde::{Deserialize, Serialize};

/// Who the node is and how it was started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Name, as in `GetInfo`.
    pub alias: String,
    /// What `GetInfo` says; hexadecimal, 33 bytes.
    pub identity_pubkey: String,
    /// `mainnet`, `testnet`, `signet`, `regtest` or `simnet`.
    pub network: String,
    /// As LND writes it, e.g. `0.21.2-beta commit=v0.21.2-beta`.
    pub version: String,
    /// `--requireinterceptor`.
    pub require_interceptor: bool,
    /// `--store-final-htlc-resolutions`.
    pub store_final_htlc_resolutions: bool,
    /// Replay held HTLCs by key instead of in random order.
    pub ordered_replay: bool,
    /// The interceptor is not read (back-pressure towards the client).
    pub reads_frozen: bool,
    /// Final events are recorded but not sent.
    pub final_events_dropped: bool,
}

impl Settings {
    /// A node with the flags the multiplexer demands.
    #[must_use]
    pub fn new(alias: &str, identity_pubkey: &str, network: &str) -> Self {
        Self {
            alias: alias.to_owned(),
            identity_pubkey: identity_pubkey.to_owned(),
            network: network.to_owned(),
            version: "0.21.2-beta commit=v0.21.2-beta".to_owned(),
            require_interceptor: true,
            store_final_htlc_resolutions: true,
            ordered_replay: false,
            reads_frozen: false,
            final_events_dropped: false,
        }
    }
}
