use mux_raft::types::NodePubkey;
use std::path::PathBuf;
use tonic::{Code, Status};

/// Why LND could not be used. Split by who must act: [`LndError::Refused`] needs an operator, the others
/// pass, or are LND's routine.
#[derive(Debug, thiserror::Error)]
pub enum LndError {
    /// LND is there, but must not be used as it is.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// No connection.
    #[error("cannot reach {endpoint}: {reason}")]
    Unreachable {
        /// `host:port`.
        endpoint: String,
        /// The transport's words.
        reason: String,
    },
    /// LND runs but serves no RPCs yet (starting, locked, or a standby of its own leader election).
    #[error("{endpoint} is {state}; waiting for it to become active")]
    NotActive {
        /// `host:port`.
        endpoint: String,
        /// LND's `WalletState`.
        state: &'static str,
    },
    /// No answer in time.
    #[error("LND did not answer {call} within {deadline_ms} ms")]
    Deadline {
        /// The RPC.
        call: &'static str,
        /// How long it was given.
        deadline_ms: u64,
    },
    /// LND answered with an error.
    #[error("{call}: {code:?}: {message}")]
    Rpc {
        /// The RPC.
        call: &'static str,
        /// gRPC code; LND uses `Unknown` for most.
        code: Code,
        /// LND's words.
        message: String,
    },
}

/// Why a front node must not be used, and what to change about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Another node answers.
    #[error(
        "the node at {endpoint} is {actual}, not {expected}: correct the pubkey or the endpoint in the configuration"
    )]
    WrongPubkey {
        /// `host:port`.
        endpoint: String,
        /// Configured.
        expected: NodePubkey,
        /// What it says it is.
        actual: String,
    },
    /// It is on another chain.
    #[error("the node runs on {actual}, this cluster on {expected}: use a node of the cluster's network")]
    WrongNetwork {
        /// The cluster's.
        expected: String,
        /// The node's.
        actual: String,
    },
    /// It would lose money in a force-close (on-chain re-offers are dropped after one block).
    #[error(
        "LND {actual} cannot be used safely: upgrade it to 0.20.2 or later of the 0.20 line, or to 0.21.1 or later"
    )]
    Version {
        /// As it reports it.
        actual: String,
    },
    /// Held HTLCs would be resumed whenever a link is down.
    #[error("LND runs without --requireinterceptor: add it to the node's flags and restart the node")]
    InterceptorNotRequired,
    /// Nobody could tell how HTLCs ended.
    #[error(
        "LND runs without --store-final-htlc-resolutions: add it to the node's flags and restart the node"
    )]
    ResolutionsNotStored,
    /// The certificate file cannot be used.
    #[error("certificate file {path}: {reason}: point tls_cert at the node's own tls.cert")]
    CertificateFile {
        /// Configured.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The certificate presented is not the pinned one.
    #[error(
        "the certificate that {endpoint} presents is not the one in {path}: copy the node's current tls.cert there"
    )]
    Certificate {
        /// `host:port`.
        endpoint: String,
        /// The pin.
        path: PathBuf,
    },
    /// The macaroon file cannot be used.
    #[error("macaroon file {path}: {reason}: point macaroon at one baked on this node")]
    MacaroonFile {
        /// Configured.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// LND does not accept the macaroon, or not for this call.
    #[error(
        "LND refuses the macaroon for {call} ({reason}): bake one on this node with the permissions in the manual"
    )]
    Macaroon {
        /// The RPC.
        call: &'static str,
        /// LND's words.
        reason: String,
    },
}

/// LND's words for a second client on the interceptor.
const SLOT_TAKEN: &str = "interceptor already exists";

/// Its words while it is a standby, locked or starting.
const NOT_SERVING: [&str; 4] = [
    "waiting to start",
    "wallet locked",
    "wallet not created",
    "the RPC server is in the process of starting up",
];

/// Its words for macaroons it does not take; the code is mostly `Unknown`.
const BAD_MACAROON: [&str; 5] = [
    "expected 1 macaroon",
    "verification failed",
    "cannot get macaroon",
    "permission denied",
    "cannot determine data source", // from an unreadable macaroon
];

impl LndError {
    /// Sorts a status that LND (or the transport) answered `call` with.
    #[must_use]
    pub fn from_status(call: &'static str, endpoint: &str, status: &Status) -> Self {
        let message = status.message();
        if BAD_MACAROON.iter().any(|words| message.contains(words)) || status.code() == Code::Unauthenticated
        {
            return Refusal::Macaroon { call, reason: message.to_owned() }.into();
        }
        if NOT_SERVING.iter().any(|words| message.contains(words)) {
            return Self::NotActive { endpoint: endpoint.to_owned(), state: "not serving RPCs" };
        }
        Self::Rpc { call, code: status.code(), message: message.to_owned() }
    }

    /// Another client holds the interceptor slot.
    #[must_use]
    pub fn is_slot_taken(&self) -> bool {
        matches!(self, Self::Rpc { message, .. } if message.contains(SLOT_TAKEN))
    }

    /// There is no such thing, by LND's word.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Rpc { code: Code::NotFound, .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_macaroon_is_known_by_its_text_although_the_code_is_unknown() {
        for text in
            ["verification failed: signature mismatch", "expected 1 macaroon, got 0", "permission denied"]
        {
            let error = LndError::from_status("GetInfo", "a:1", &Status::unknown(text));
            assert!(matches!(error, LndError::Refused(Refusal::Macaroon { .. })), "{text}: {error:?}");
        }
    }

    #[test]
    fn a_standby_and_a_taken_slot_are_not_for_the_operator() {
        let standby = Status::unknown("waiting to start, RPC services not available");
        assert!(matches!(LndError::from_status("GetInfo", "a:1", &standby), LndError::NotActive { .. }));
        let taken = Status::unknown("interceptor already exists");
        assert!(LndError::from_status("HtlcInterceptor", "a:1", &taken).is_slot_taken());
        assert!(LndError::from_status("LookupHtlcResolution", "a:1", &Status::not_found("")).is_not_found());
    }
}
