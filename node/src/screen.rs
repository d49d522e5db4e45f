//! What can be said about an intercepted HTLC without any state: is it for us, does its onion make sense,
//! is it backed by what really arrived, is its payment secret genuine. Any replica says the same, without
//! consensus.
//!
//! LND checks none of this for an intercepted HTLC: outgoing amount and expiry are only the payer's claim.
//! So [`screen`] demands `incoming ≥ outgoing + fee` and `incoming expiry ≥ outgoing expiry + delta` of the
//! policy that the invoice announced, and that the onion asks for no more than the outgoing side has.
//!
//! **Voices.** An onion that cannot be opened: `INVALID_ONION_*`, by the front node. Everything else that
//! is definitely wrong: a failure encrypted as the virtual node. Unknown hash, wrong secret, missing
//! secret, zero amounts, spontaneous payments and a front node's hop that was paid too little all give the
//! same `incorrect_or_unknown_payment_details`. (For the last one BOLT 4 has `fee_insufficient` and
//! `incorrect_cltv_expiry`, which only the front node could say, and LND's interceptor does not let it;
//! a payer that follows the hint never gets there.)
//!
//! Nothing here is a verdict of the log. An HTLC that the log knows is answered from there, with
//! [`answer_for`], and never screened again.

mod answer;
mod htlc;
mod judge;

pub use answer::{Failure, FrontNodeCode, answer_for, answer_recorded};
pub use htlc::{InterceptedHtlc, MalformedRequest};
pub use judge::{RejectCause, Screened, screen};
