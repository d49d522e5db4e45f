use super::super::screener::{Failure, ScreenContext};
use super::{HtlcId, MonoMs};
use mux_proto::routerrpc::ForwardHtlcInterceptRequest;
use mux_raft::machine::model::FailReason;
use mux_raft::machine::{Command, LogPosition};
use mux_raft::types::{BlockHeight, CircuitKey, NodePubkey, PaymentHash, PaymentSecret, Preimage};
use std::sync::Arc;
use tracing::Span;

/// What the core wants done.
#[derive(Debug)]
pub(crate) enum Output {
    /// Send this on the current stream.
    Send(Answer),
    /// Propose, and report the end under this id.
    Propose {
        /// For [`super::LinkCore::proposed`].
        id: u64,
        /// Of the HTLCs that it is made for.
        spans: Vec<Span>,
        /// What.
        command: Command,
    },
    /// Wait for a read barrier, and report for this stream.
    Barrier {
        /// For [`super::LinkCore::barrier`].
        stream: u64,
    },
    /// Ask LND something, and report its answer after all that it said before.
    Hear {
        /// For [`super::LinkCore::heard`].
        number: u64,
    },
    /// Ask LND whether these ended, and report under this number.
    LookUp {
        /// For [`super::LinkCore::looked_up`].
        number: u64,
        /// Which HTLCs.
        htlcs: Vec<HtlcId>,
    },
    /// Run the stateless checks, and report under this number.
    Screen {
        /// For [`super::LinkCore::screened`].
        number: u64,
        /// Which HTLC.
        htlc: HtlcId,
        /// As offered.
        request: Arc<ForwardHtlcInterceptRequest>,
        /// For the checks.
        context: ScreenContext,
        /// Of the HTLC.
        span: Span,
    },
    /// A decided HTLC is about to be lost: the preimage is out and LND does not get the money.
    Alarm {
        /// Which.
        key: CircuitKey,
        /// What it pays.
        hash: PaymentHash,
        /// When the payer may take it back.
        incoming_expiry: BlockHeight,
        /// Now.
        height: BlockHeight,
        /// It has no output on chain.
        is_dust: bool,
    },
    /// Force-close this channel, so that LND claims on chain.
    ForceClose {
        /// Which.
        chan_id: u64,
    },
}

/// One answer to LND.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Which HTLC.
    pub(crate) htlc: HtlcId,
    /// As offered.
    pub(crate) request: Arc<ForwardHtlcInterceptRequest>,
    /// What to do with it.
    pub(crate) action: Action,
    /// Since it was offered.
    pub(crate) waited_ms: MonoMs,
    /// What was applied here when it was given.
    pub(crate) at: LogPosition,
    /// From the offer to the answer.
    pub(crate) span: Span,
}

impl Answer {
    /// Which HTLC, in full.
    pub(crate) fn key(&self, node: &NodePubkey) -> CircuitKey {
        CircuitKey { node: *node, chan_id: self.htlc.chan_id, htlc_id: self.htlc.htlc_id }
    }
}

/// What is answered.
#[derive(Debug)]
pub(crate) enum Action {
    /// Not ours.
    Resume,
    /// By the recorded verdict.
    Settle {
        /// The invoice.
        hash: PaymentHash,
        /// Gives the preimage of an own invoice.
        secret: PaymentSecret,
        /// The preimage, where the log has it.
        preimage: Option<Preimage>,
    },
    /// By the recorded verdict.
    Fail(FailReason),
    /// By the stateless checks alone.
    Reject {
        /// How it sounds.
        failure: Failure,
        /// For operators.
        cause: &'static str,
    },
}

impl Action {
    /// Metric labels: action and reason.
    pub(crate) fn labels(&self) -> (&'static str, String) {
        match self {
            Self::Resume => ("resume", "foreign".into()),
            Self::Settle { .. } => ("settle", "settled".into()),
            Self::Fail(FailReason::MppTimeout) => ("fail", "mpp_timeout".into()),
            Self::Fail(FailReason::IncorrectDetails { cause, .. }) => ("fail", snake(&format!("{cause:?}"))),
            Self::Fail(FailReason::Temporary { cause }) => ("fail", snake(&format!("{cause:?}"))),
            Self::Reject { cause, .. } => ("reject", (*cause).into()),
        }
    }
}

/// `AlreadyPaid` → `already_paid`.
fn snake(name: &str) -> String {
    let mut text = String::with_capacity(name.len() + 4);
    for (at, letter) in name.chars().enumerate() {
        if letter.is_ascii_uppercase() && at > 0 {
            text.push('_');
        }
        text.push(letter.to_ascii_lowercase());
    }
    text
}
