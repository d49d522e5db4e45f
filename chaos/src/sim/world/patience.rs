//! That no set is failed before its time is over, by the log's own time.

use mux_raft::machine::State;
use mux_raft::machine::model::{DetailsCause, Event, EventKind, FailReason, Settings, TemporaryCause};
use mux_raft::types::{LogTimeMs, PaymentHash};
use std::collections::BTreeMap;

/// When the sets under way began, and were accepted. Of a set that lost a part and waits for another, both moments stay: it
/// is judged too mildly.
#[derive(Debug, Default)]
pub(super) struct Patience(BTreeMap<PaymentHash, Times>);

#[derive(Debug, Default)]
struct Times {
    joined_ms: LogTimeMs,
    accepted_ms: Option<LogTimeMs>,
}

impl Patience {
    /// What is wrong with the end that the events of this state tell of.
    pub(super) fn look_at(&mut self, state: &State, news: &[Event]) -> Vec<String> {
        news.iter().filter_map(|event| self.see(event, state.settings())).collect()
    }

    fn see(&mut self, event: &Event, settings: &Settings) -> Option<String> {
        let (hash, now_ms) = (event.hash, event.time_ms);
        match &event.kind {
            EventKind::HtlcJoined { .. } => {
                self.0.entry(hash).or_insert(Times { joined_ms: now_ms, accepted_ms: None });
                None
            }
            EventKind::Accepted { .. } => {
                let times = self.0.entry(hash).or_default();
                times.accepted_ms = Some(now_ms);
                None
            }
            EventKind::SetFailed { reason, .. } => {
                let times = self.0.remove(&hash)?;
                let (since_ms, least_ms, what) = match reason {
                    FailReason::MppTimeout => (times.joined_ms, settings.mpp_timeout_ms, "incomplete"),
                    FailReason::IncorrectDetails { cause: DetailsCause::AcceptTimeout, .. }
                    | FailReason::Temporary { cause: TemporaryCause::GateClosed } => {
                        (times.accepted_ms?, settings.accept_timeout_ms, "accepted")
                    }
                    _ => return None,
                };
                let waited_ms = now_ms.saturating_sub(since_ms);
                (waited_ms < least_ms).then(|| {
                    format!("the {what} set of {hash} was failed after {waited_ms} ms: it has {least_ms}")
                })
            }
            EventKind::Settling { .. } => {
                self.0.remove(&hash);
                None
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mux_raft::machine::model::InvoiceState;
    use mux_raft::types::{CircuitKey, Msat, NodePubkey, SetId};

    const HASH: PaymentHash = PaymentHash([7; 32]);

    fn event(time_ms: LogTimeMs, kind: EventKind) -> Event {
        Event { sequence: 1, time_ms, hash: HASH, state: InvoiceState::Open, kind }
    }

    fn joined(time_ms: LogTimeMs) -> Event {
        let key = CircuitKey { node: NodePubkey([2; 33]), chan_id: 1, htlc_id: 1 };
        event(time_ms, EventKind::HtlcJoined { key, amount_msat: Msat(1) })
    }

    fn accepted(time_ms: LogTimeMs) -> Event {
        event(time_ms, EventKind::Accepted { set_id: SetId([1; 32]), amount_msat: Msat(1) })
    }

    fn failed(time_ms: LogTimeMs, reason: FailReason) -> Event {
        event(time_ms, EventKind::SetFailed { reason, amount_msat: Msat(1) })
    }

    #[test]
    fn a_set_that_is_failed_before_its_time_is_noticed() {
        let settings = Settings { mpp_timeout_ms: 8_000, accept_timeout_ms: 12_000, ..Settings::default() };
        let mpp = FailReason::MppTimeout;
        let gate = FailReason::Temporary { cause: TemporaryCause::GateClosed };
        let on_chain = FailReason::IncorrectDetails { height: 9, cause: DetailsCause::OnChain };
        let unheard = FailReason::IncorrectDetails { height: 9, cause: DetailsCause::AcceptTimeout };
        for (events, wrong) in [
            (vec![joined(1_000), joined(8_999), failed(9_000, mpp)], false),
            (vec![joined(1_000), failed(8_999, mpp)], true),
            (vec![joined(1_000), accepted(4_000), failed(16_000, gate)], false),
            (vec![joined(1_000), accepted(4_000), failed(15_999, gate)], true),
            (vec![joined(1_000), accepted(4_000), failed(15_999, unheard)], true),
            (vec![joined(1_000), accepted(4_000), failed(4_001, on_chain)], false),
            // A second attempt has its own time.
            (vec![joined(1_000), failed(9_000, mpp), joined(9_500), failed(17_000, mpp)], true),
            (vec![failed(1_000, mpp)], false),
        ] {
            let mut patience = Patience::default();
            let found: Vec<String> =
                events.iter().filter_map(|event| patience.see(event, &settings)).collect();
            assert_eq!(!found.is_empty(), wrong, "{events:?}: {found:?}");
        }
    }
}
