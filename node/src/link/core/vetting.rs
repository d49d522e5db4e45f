//! Whether LND still has what it offers.
//!
//! LND's interceptor keeps an HTLC until it is answered or its blocks run short, also when the channel is closed
//! meanwhile and the HTLC ended with it (below dust there is not even an output to claim). On the next stream it is offered
//! again as if nothing had happened (`htlcswitch/interceptable_switch.go`). The log may have heard of the end and forgotten
//! it with the session, or never heard of the HTLC. What is offered on a channel that is not active is therefore looked up
//! before the log is told of it. (On an active one HTLCs end by themselves only when their blocks run short, which the log
//! knows.)

use super::{HtlcId, LinkCore, MonoMs, Output, REJECTED_RETRY_MS};
use mux_raft::machine::State;
use mux_raft::machine::command::FinalOutcome;
use std::collections::BTreeSet;

/// What is known of an offer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Vetting {
    /// Nothing.
    #[default]
    Open,
    /// LND was asked, under this number.
    Asked(u64),
    /// It has not ended.
    Passed,
}

/// What LND says of an HTLC that it offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LookedUp {
    /// There is no record of an end.
    Alive,
    /// It ended.
    Ended(FinalOutcome),
    /// It said nothing.
    Failed,
}

/// Whether an HTLC on this channel can have ended unnoticed.
pub(super) fn is_doubtful(active: Option<&BTreeSet<u64>>, chan_id: u64) -> bool {
    active.is_none_or(|active| !active.contains(&chan_id))
}

impl LinkCore {
    /// Asks LND about these.
    pub(super) fn look_up(&mut self, htlcs: Vec<HtlcId>) {
        if htlcs.is_empty() {
            return;
        }
        let number = self.fresh_id();
        let Some(stream) = &mut self.stream else { return };
        for htlc in &htlcs {
            if let Some(offer) = stream.offers.get_mut(htlc) {
                offer.vetting = Vetting::Asked(number);
            }
        }
        self.outputs.push_back(Output::LookUp { number, htlcs });
    }

    /// LND answered, or did not.
    pub(crate) fn looked_up(
        &mut self,
        number: u64,
        found: Vec<(HtlcId, LookedUp)>,
        state: &State,
        now: MonoMs,
    ) {
        for (htlc, found) in found {
            let offer = self.stream.as_mut().and_then(|stream| stream.offers.get_mut(&htlc));
            let Some(offer) = offer.filter(|offer| offer.vetting == Vetting::Asked(number)) else { continue };
            match found {
                LookedUp::Alive => offer.vetting = Vetting::Passed,
                LookedUp::Failed => {
                    offer.vetting = Vetting::Open;
                    offer.retry_at = now.saturating_add(REJECTED_RETRY_MS);
                }
                LookedUp::Ended(outcome) => {
                    tracing::warn!(
                        circuit_key = %self.key(htlc), ?outcome,
                        "LND offers an HTLC that it has ended: it is not counted"
                    );
                    self.forget(htlc);
                    self.final_known(htlc, outcome, state, now);
                }
            }
        }
        self.pump(state, now);
    }
}
