//! The interceptable switch: one client, the held set, the event loop (htlcswitch/interceptable_switch.go,
//! htlcswitch/held_htlc_set.go).
//!
//! The loop takes one input at a time and sends to the client synchronously: while an offer waits for the
//! client to read, nothing else happens, neither auto-fail nor an answer.

use super::{
    Core, Rejected,
    answer::{self, Action},
    failure::{Code, Failure},
    htlc::{AnswerEntry, CLTV_INTERCEPT_DELTA, CLTV_REJECT_DELTA, HtlcKey, Resolution, Stage},
    input::StreamId,
    memory::{LoopInput, Slot},
    output::{Output, StreamError},
};
use mux_proto::{lndsim::v1::Power, routerrpc::ForwardHtlcInterceptResponse};
use rand::seq::SliceRandom as _;

impl Core {
    pub(super) fn stream_opened(&mut self, stream: StreamId) -> Result<(), Rejected> {
        if self.mem.slot.is_some() {
            self.counters.refused = self.counters.refused.saturating_add(1);
            return Err(Rejected::SlotTaken);
        }
        self.counters.accepted = self.counters.accepted.saturating_add(1);
        self.mem.slot = Some(Slot { stream, registered: false, broken: false, dead: false });
        self.mem.queue.push_back(LoopInput::Register(stream));
        Ok(())
    }

    pub(super) fn stream_sent(&mut self, stream: StreamId) {
        if self.slot_of(stream).is_some() {
            self.mem.sending = false;
        }
    }

    pub(super) fn stream_answer(&mut self, stream: StreamId, response: Box<ForwardHtlcInterceptResponse>) {
        if self.slot_of(stream).is_some_and(|slot| !slot.broken && !slot.dead) {
            self.mem.queue.push_back(LoopInput::Answer(stream, response));
        }
    }

    pub(super) fn stream_closed(&mut self, stream: StreamId) {
        if self.slot_of(stream).is_some_and(|slot| !slot.dead) {
            self.break_slot(stream);
        }
    }

    /// The stream is over, and the node knows it.
    pub(super) fn break_slot(&mut self, stream: StreamId) {
        let Some(slot) = self.slot_of(stream) else { return };
        if !std::mem::replace(&mut slot.broken, true) {
            self.mem.sending = false;
            self.mem.queue.push_back(LoopInput::Detach(stream));
        }
    }

    fn slot_of(&mut self, stream: StreamId) -> Option<&mut Slot> {
        self.mem.slot.as_mut().filter(|slot| slot.stream == stream)
    }

    /// Lets the event loop go on until it has nothing to do or waits for the client.
    pub(super) fn run_loop(&mut self) {
        while self.mem.power == Power::ServerActive && !self.mem.sending {
            if let Some(key) = self.mem.to_send.pop_front() {
                self.send_offer(key);
            } else if let Some(input) = self.mem.queue.pop_front() {
                self.process(input);
            } else {
                return;
            }
        }
    }

    fn send_offer(&mut self, key: HtlcKey) {
        let (Some(slot), Some(on_chain)) = (self.mem.slot, self.mem.held.get(&key).copied()) else { return };
        let Some(htlc) = self.htlc_mut(key) else { return };
        if slot.broken || !slot.registered {
            return;
        }
        htlc.progress.offers = htlc.progress.offers.saturating_add(1);
        let offer = Box::new(htlc.offer(on_chain));
        self.counters.offers = self.counters.offers.saturating_add(1);
        if !slot.dead {
            self.mem.sending = true;
            self.outputs.push(Output::Offer(slot.stream, offer));
        }
    }

    fn process(&mut self, input: LoopInput) {
        match input {
            LoopInput::Register(stream) => self.register(stream),
            LoopInput::Detach(stream) => self.detach(stream),
            LoopInput::Intercept { key, replay } => self.intercept(key, replay),
            LoopInput::InterceptOnChain(key) => self.intercept_on_chain(key),
            LoopInput::Block(height) => self.loop_block(height),
            LoopInput::Answer(stream, response) => self.answer(stream, &response),
        }
    }

    /// Everything held is offered again, in the order of a Go map: none.
    fn register(&mut self, stream: StreamId) {
        let Some(slot) = self.slot_of(stream) else { return };
        slot.registered = true;
        let mut keys: Vec<HtlcKey> = self.mem.held.keys().copied().collect();
        if !self.db.settings.ordered_replay {
            keys.shuffle(&mut self.rng);
        }
        self.mem.to_send.extend(keys);
    }

    fn detach(&mut self, stream: StreamId) {
        if self.slot_of(stream).is_none() {
            return;
        }
        self.mem.slot = None;
        if self.db.settings.require_interceptor {
            return;
        }
        let off_chain: Vec<HtlcKey> =
            self.mem.held.iter().filter(|(_, on_chain)| !**on_chain).map(|(key, _)| *key).collect();
        for key in off_chain {
            self.mem.held.remove(&key);
            self.forward(key, 0);
            self.trim(key);
        }
    }

    /// An HTLC comes up the link. The expiry check comes first, even for one that is held already: a peer
    /// that reconnects in an HTLC's last blocks fails it behind the client's back, and its entry stays.
    fn intercept(&mut self, key: HtlcKey, replay: bool) {
        let Some(htlc) = self.db.htlcs.get(&key) else { return };
        if htlc.progress.stage != Stage::Locked || self.mem.mailbox.contains_key(&key) {
            return;
        }
        let expiry = htlc.terms.incoming_expiry;
        if i32::try_from(expiry.saturating_sub(CLTV_REJECT_DELTA)).is_err() {
            return self.fail_locally(key, Code::ExpiryTooFar);
        }
        if expiry < self.mem.loop_height.saturating_add(CLTV_INTERCEPT_DELTA) {
            return self.fail_locally(key, Code::ExpiryTooSoon);
        }
        if self.mem.held.contains_key(&key) {
            return;
        }
        let connected = self.mem.slot.is_some_and(|slot| slot.registered);
        if connected {
            self.mem.held.insert(key, false);
            self.mem.to_send.push_back(key);
        } else if !self.db.settings.require_interceptor {
            self.forward(key, 0);
        } else if replay {
            self.mem.held.insert(key, false);
        } else {
            self.fail_locally(key, Code::TemporaryChannelFailure);
        }
    }

    /// The resolver offers an HTLC output: replaces what is held, without any check.
    fn intercept_on_chain(&mut self, key: HtlcKey) {
        let Some(htlc) = self.db.htlcs.get(&key) else { return };
        let Stage::OnChain(output) = &htlc.progress.stage else { return };
        if output.claim.is_some() || self.mem.held.insert(key, true) == Some(true) {
            return;
        }
        if self.mem.slot.is_some_and(|slot| slot.registered) {
            self.mem.to_send.push_back(key);
        }
    }

    /// Fails what comes too close to its expiry, silently, and forgets what expired on chain.
    fn loop_block(&mut self, height: u32) {
        self.mem.loop_height = height;
        let due = |(key, on_chain): (&HtlcKey, &bool)| {
            let htlc = self.db.htlcs.get(key)?;
            let deadline = if *on_chain { htlc.terms.incoming_expiry } else { htlc.auto_fail_height() };
            (deadline <= height).then_some((*key, *on_chain))
        };
        let due: Vec<(HtlcKey, bool)> = self.mem.held.iter().filter_map(due).collect();
        for (key, on_chain) in due {
            self.mem.held.remove(&key);
            if !on_chain {
                self.fail_locally(key, Code::TemporaryChannelFailure);
            }
            self.trim(key);
        }
    }

    fn answer(&mut self, stream: StreamId, response: &ForwardHtlcInterceptResponse) {
        if self.slot_of(stream).is_none_or(|slot| slot.broken || slot.dead) {
            return;
        }
        let on_chain = answer::key(response).is_some_and(|key| self.mem.held.get(&key) == Some(&true));
        let result = answer::parse(response).and_then(|(key, action)| {
            self.watch_verdict(key, &action);
            self.resolve(key, action)
        });
        self.note_answer(response, on_chain, result.as_ref().err());
        match result {
            Ok(()) => self.outputs.push(Output::AnswerTaken(stream)),
            Err(error) => {
                self.counters.killed = self.counters.killed.saturating_add(1);
                self.last_kill.clone_from(&error.text);
                self.outputs.push(Output::CloseStream(stream, error));
                self.break_slot(stream);
            }
        }
    }

    fn resolve(&mut self, key: HtlcKey, action: Action) -> Result<(), StreamError> {
        let on_chain = *self
            .mem
            .held
            .get(&key)
            .ok_or_else(|| StreamError::unknown(format!("forward does not exist: {key}")))?;
        match action {
            Action::Settle(preimage) => {
                let hash = self.db.htlcs.get(&key).map(|htlc| htlc.terms.payment_hash);
                if hash != Some(preimage.payment_hash()) {
                    return Err(StreamError::unknown("preimage does not match hash"));
                }
                if on_chain {
                    self.learn_preimage(&preimage);
                } else {
                    self.mailbox_add(key, Resolution::Settle(preimage))?;
                }
            }
            Action::Fail(_) if on_chain => {
                return Err(StreamError::unknown("cannot fail held htlc in the on-chain flow"));
            }
            Action::Fail(failure) => self.mailbox_add(key, Resolution::Fail(failure))?,
            Action::Resume { .. } if on_chain => {
                return Err(StreamError::unknown("cannot resume held htlc in the on-chain flow"));
            }
            Action::Resume { out_amount_msat } => self.forward(key, out_amount_msat),
        }
        self.mem.held.remove(&key);
        self.trim(key);
        Ok(())
    }

    /// The node fails an HTLC by itself. A failure that finds an answer in the mailbox already is dropped,
    /// as LND drops it with a log line.
    pub(super) fn fail_locally(&mut self, key: HtlcKey, code: Code) {
        drop(self.mailbox_add(key, Resolution::Fail(Failure::FrontNode(code))));
    }

    /// What a correct client never does: it takes back an answer that may have had an effect. A FAIL or
    /// RESUME that was lost in a crash had none, and the HTLC may be judged anew.
    fn watch_verdict(&mut self, key: HtlcKey, action: &Action) {
        let Some(htlc) = self.db.htlcs.get(&key) else { return };
        let on_chain = self.mem.held.get(&key) == Some(&true);
        let taken = |entry: &&AnswerEntry| entry.error.is_empty();
        let before = htlc.progress.answers.iter().rev().find(taken).map_or("", |entry| entry.action.as_str());
        let (now, taken_back) = match action {
            Action::Settle(_) => {
                ("SETTLE", on_chain && before == "FAIL" || htlc.progress.forwarded.is_some())
            }
            Action::Fail(_) => ("FAIL", before == "SETTLE" || htlc.progress.forwarded.is_some()),
            Action::Resume { .. } => ("RESUME", before == "SETTLE"),
        };
        if taken_back {
            let text = format!("{key}: answered {before}, then {now}");
            self.complain(text);
        }
    }

    fn note_answer(
        &mut self,
        response: &ForwardHtlcInterceptResponse,
        on_chain: bool,
        error: Option<&StreamError>,
    ) {
        let entry = AnswerEntry {
            action: answer::action_name(response),
            unix_ms: self.now_ms,
            error: error.map(|error| error.text.clone()).unwrap_or_default(),
            on_chain,
        };
        if let Some(htlc) = answer::key(response).and_then(|key| self.htlc_mut(key)) {
            htlc.progress.answers.push(entry);
        }
    }
}
