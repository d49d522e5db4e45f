//! Starting, stopping, crashing.

use super::{
    Core, Rejected, Reply,
    memory::{Memory, Timer},
    output::{Output, StreamError},
};
use mux_proto::{
    lndsim::v1::{self as ctl, Power},
    lnrpc::WalletState,
};

impl Core {
    /// The present start-up state.
    #[must_use]
    pub fn power(&self) -> Power {
        self.mem.power
    }

    /// The same as LND tells it; `None` while the node is down.
    #[must_use]
    pub fn wallet_state(&self) -> Option<WalletState> {
        match self.mem.power {
            Power::Unspecified | Power::Down => None,
            Power::WaitingToStart => Some(WalletState::WaitingToStart),
            Power::Locked => Some(WalletState::Locked),
            Power::Unlocked => Some(WalletState::Unlocked),
            Power::RpcActive => Some(WalletState::RpcActive),
            Power::ServerActive => Some(WalletState::ServerActive),
        }
    }

    pub(super) fn restart(&mut self, request: &ctl::RestartRequest) -> Result<Reply, Rejected> {
        if request.phases.iter().any(|phase| phase.power() == Power::Unspecified) {
            return Err(Rejected::Invalid("a phase needs a power".to_owned()));
        }
        if request.graceful
            && let Some(slot) = self.mem.slot.filter(|slot| !slot.broken)
        {
            let error = StreamError::unknown("switch shutting down");
            self.outputs.push(Output::CloseStream(slot.stream, error));
        }
        self.crash(request.graceful);
        if request.peers_stay_offline {
            let ids: Vec<u64> = self.db.channels.keys().copied().collect();
            for chan_id in ids {
                if let Some(channel) = self.channel_mut(chan_id) {
                    channel.stays_away = true;
                }
            }
        }
        let phases = request.phases.iter().map(|phase| (phase.power(), phase.duration_ms));
        self.mem.plan = phases.chain([(Power::ServerActive, 0)]).collect();
        self.next_phase();
        Ok(Reply::Done)
    }

    pub(super) fn next_phase(&mut self) {
        if let Some((power, duration_ms)) = self.mem.plan.pop_front() {
            self.enter(power);
            if !self.mem.plan.is_empty() {
                self.mem.schedule(self.now_ms.saturating_add(duration_ms), Timer::NextPhase);
            }
        }
    }

    /// Into any state from any other; back to an earlier one is a crash.
    pub(super) fn set_power(&mut self, power: Power) -> Result<Reply, Rejected> {
        if power == Power::Unspecified {
            return Err(Rejected::Invalid("no power given".to_owned()));
        }
        if (power as i32) < (self.mem.power as i32) {
            self.crash(false);
        }
        self.mem.plan.clear();
        self.enter(power);
        Ok(Reply::Done)
    }

    fn enter(&mut self, power: Power) {
        let before = std::mem::replace(&mut self.mem.power, power);
        if before == power {
            return;
        }
        if (before == Power::Down) != (power == Power::Down) {
            self.outputs.push(Output::Listening(power != Power::Down));
        }
        if let Some(state) = self.wallet_state() {
            self.outputs.push(Output::WalletState(state));
        }
        if power == Power::ServerActive {
            self.server_started();
        }
    }

    /// Memory is lost, connections are cut, what was not signed never happened.
    fn crash(&mut self, gracefully: bool) {
        let ids: Vec<u64> = self.db.channels.keys().copied().collect();
        for chan_id in ids {
            self.unsend(chan_id);
            if let Some(channel) = self.channel_mut(chan_id) {
                channel.online = false;
            }
        }
        self.outputs.push(Output::ResetConnections { of: None, gracefully });
        let timers_total = self.mem.timers_total;
        self.mem = Memory::new(Power::Down);
        self.mem.timers_total = timers_total;
        self.outputs.push(Output::Listening(false));
    }

    /// The event loop runs: outputs on chain are offered, downstream results come in again, and the peers
    /// that did not leave on purpose reconnect.
    fn server_started(&mut self) {
        self.mem.loop_height = self.db.chain.height();
        self.resume_on_chain();
        let live: Vec<_> = self.db.live.iter().copied().collect();
        live.into_iter().for_each(|key| self.redeliver(key));
        let ids: Vec<u64> = self.db.channels.values().filter(|c| !c.stays_away).map(|c| c.chan_id).collect();
        for chan_id in ids {
            if let Some(channel) = self.channel_mut(chan_id) {
                channel.online = false;
            }
            self.unsend(chan_id);
            self.peer_online(chan_id);
        }
    }
}
