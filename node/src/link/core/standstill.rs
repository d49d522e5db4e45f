//! A process that stood still (stopped, swapped out, its machine asleep) does not know what LND said meanwhile: it is
//! still in the socket. A report or an offer at that moment would vouch for HTLCs that may be long gone, and open gates.
//! So LND is asked something first; what it said before its answer comes before it, and into the log before anything else.

use super::{LinkCore, MonoMs, Output};
use mux_raft::machine::State;

/// Something happens to a core at every tick, 20 times a second. Well below what the gate takes for news.
const STANDSTILL_MS: MonoMs = 1_000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Standstill {
    awake_at: MonoMs,
    /// The question that LND has not answered yet.
    asked: Option<u64>,
    /// It has; whatever ended by it may not be in the log yet.
    telling: bool,
}

impl Standstill {
    /// Another stream is another session, for which nothing was vouched yet.
    pub(super) fn stream_changed(&mut self) {
        self.asked = None;
        self.telling = false;
    }

    /// The log knows what LND said until now.
    pub(super) fn is_over(&self) -> bool {
        self.asked.is_none() && !self.telling
    }
}

impl LinkCore {
    pub(super) fn notice_standstill(&mut self, state: &State, now: MonoMs) {
        self.standstill.telling &= self.has_untold_ends(state);
        let stood_ms = now.saturating_sub(std::mem::replace(&mut self.standstill.awake_at, now));
        if stood_ms < STANDSTILL_MS || self.stream.is_none() {
            return;
        }
        tracing::warn!(
            front_node = %self.config.node.short(), stood_ms,
            "this replica stood still: LND is heard before anything is said about it"
        );
        let number = self.fresh_id();
        self.standstill.asked = Some(number);
        self.outputs.push_back(Output::Hear { number });
    }

    /// LND answered, and everything that it had said before was told to the core.
    pub(crate) fn heard(&mut self, number: u64, state: &State, now: MonoMs) {
        if self.standstill.asked == Some(number) {
            self.standstill.asked = None;
            self.standstill.telling = true;
        }
        self.pump(state, now);
    }
}
