//! What applying an entry answers.

use super::archive::NewRecord;
use super::model::{Event, InvoiceState, Verdict};
use crate::types::{CircuitKey, NodePubkey, PaymentHash, SessionId};
use serde::{Deserialize, Serialize};

/// The answer to a command. Deterministic, like everything else here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Done; nothing to say.
    Done,
    /// The session that [`super::Command::LinkUp`] opened.
    Session(SessionId),
    /// To [`super::Command::OfferHtlcs`]: one for each offer, in order.
    Offers(Vec<OfferReply>),
    /// To [`super::Command::AddInvoice`].
    InvoiceAdded {
        /// Its number.
        add_index: u64,
    },
    /// To [`super::Command::SettleInvoice`].
    Settle(SettleReply),
    /// To [`super::Command::HtlcFinals`]: the `(chan_id, htlc_id)` that the state does not know.
    UnknownHtlcs(Vec<(u64, u64)>),
    /// Nothing was changed.
    Rejected(Rejection),
}

/// To one offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OfferReply {
    /// Recorded; the verdict comes later.
    Held,
    /// The recorded verdict, old or new.
    Decided(Verdict),
    /// Not the current session: nothing changed; offer it again under the current one.
    Stale,
}

/// To a settle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SettleReply {
    /// Decided (now or before).
    Decided {
        /// Its number.
        decision_index: u64,
    },
    /// The gate is closed; the intent was kept (or not, as asked). Not decided.
    GateClosed,
}

/// Why a command changed nothing. The caller must act.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Rejection {
    /// A hash can be used once.
    #[error("an invoice with payment hash {0} already exists")]
    InvoiceExists(PaymentHash),
    /// No such invoice.
    #[error("no invoice with payment hash {0}")]
    UnknownInvoice(PaymentHash),
    /// No such set is accepted or decided.
    #[error("no such set for payment hash {0}")]
    UnknownSet(PaymentHash),
    /// The invoice's state does not allow it.
    #[error("the invoice is {0:?}")]
    WrongState(InvoiceState),
    /// The preimage does not match, or is missing, or was not asked for.
    #[error("{0}")]
    WrongPreimage(String),
    /// No such front node.
    #[error("no front node {0}")]
    UnknownFrontNode(NodePubkey),
    /// The proposer is not the front node's assigned owner.
    #[error("replica is not assigned to this front node")]
    NotAssigned,
    /// No such HTLC, or it is not one that needs an operator.
    #[error("HTLC {0} {1}")]
    Htlc(CircuitKey, String),
    /// The session is not the current one.
    #[error("stale session")]
    StaleSession,
    /// The command's content is not acceptable.
    #[error("{0}")]
    Invalid(String),
}

/// What applying one entry gives: the reply, and who might want to look. The wake-ups are hints only;
/// whoever acts on the state reads the state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// `None` for entries without a command.
    pub reply: Option<Reply>,
    /// Front nodes with HTLCs whose verdict was recorded, or whose link changed.
    pub nodes: Vec<NodePubkey>,
    /// Whether events were appended.
    pub events: bool,
    /// The events, for the operator's log.
    pub changes: Vec<Event>,
    /// What an operator must hear of. Every replica applying the entry sees the same.
    pub alarms: Vec<Alarm>,
    /// What left the state. The archive must hold it before anybody can read the new state.
    pub archived: Vec<NewRecord>,
}

/// Something that must not go unnoticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// LND says it settled an HTLC that the cluster never decided to settle. Kept for ever, see
    /// [`super::State::unexpected_settles`].
    SettledWithoutDecision(CircuitKey),
    /// An HTLC of a decided set is final and its money did not arrive.
    DecidedPartLost(CircuitKey),
    /// Nobody can tell how a decided HTLC ended; an operator must.
    Unconfirmed(CircuitKey),
    /// A final outcome contradicts the one that is recorded, which stands.
    ContradictingFinal(CircuitKey),
}
