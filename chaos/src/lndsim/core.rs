//! The node as a state machine: `handle(input, now) -> outputs`.
//!
//! Pure and synchronous. Time comes in with each input, randomness from a seed, so that the same inputs
//! give the same outputs and the whole can run under a simulated clock and network. Three parts:
//!
//! * what survives a crash ([`Record`]s rebuild it): flags, chain, channels, HTLCs, final resolutions, the
//!   witness cache, and the simulation's own ledger;
//! * memory, which does not: mailbox, held set, the interceptor's slot, the event loop's queue;
//! * LND's event loop (`switch`): one step at a time, and a client that does not read stops it, auto-fail
//!   and answers included (htlcswitch/interceptable_switch.go).

mod answer;
mod blocks;
mod chain;
mod channel;
mod commands;
mod failure;
mod forward;
mod htlc;
mod input;
mod ledger;
mod link;
mod memory;
mod onchain;
mod output;
mod power;
mod record;
mod settings;
mod switch;
mod views;

#[cfg(test)]
mod tests;

pub use chain::Chain;
pub use channel::Channel;
pub use failure::{Code, Failure};
pub use htlc::{FinalResolution, HtlcKey, Outcome, Resolution};
pub use input::{Command, Input, StreamId};
pub use output::{Handled, Output, Rejected, Reply, StreamError, StreamErrorCode};
pub use record::Record;
pub use settings::Settings;
pub use views::NoResolution;

use channel::Status;
use htlc::Htlc;
use memory::{Memory, Timer};
use mux_proto::lndsim::v1::Power;
use mux_raft::types::{PaymentHash, Preimage};
use rand::{SeedableRng as _, rngs::StdRng};
use std::collections::{BTreeMap, BTreeSet};

/// What survives a crash of the node.
struct Database {
    settings: Settings,
    chain: Chain,
    channels: BTreeMap<u64, Channel>,
    htlcs: BTreeMap<HtlcKey, Htlc>,
    /// HTLCs that are not over; an index.
    live: BTreeSet<HtlcKey>,
    witness: BTreeMap<PaymentHash, Preimage>,
    outcomes: Vec<Outcome>,
    complaints: Vec<String>,
}

/// What changed in this step and must be written.
#[derive(Default)]
struct Dirty {
    settings: bool,
    chain: bool,
    channels: BTreeSet<u64>,
    htlcs: BTreeSet<HtlcKey>,
    records: Vec<Record>,
}

/// Numbers since the process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counters {
    accepted: u64,
    refused: u64,
    killed: u64,
    offers: u64,
}

/// The simulated node.
pub struct Core {
    db: Database,
    mem: Memory,
    dirty: Dirty,
    counters: Counters,
    last_kill: String,
    rng: StdRng,
    now_ms: u64,
    outputs: Vec<Output>,
}

impl Core {
    /// A node whose database holds `records`, not running yet; [`Command::SetWalletState`] or
    /// [`Command::Restart`] gets it up.
    ///
    /// `settings` and `height` count only if the records have none.
    #[must_use]
    pub fn start(settings: Settings, height: u32, records: Vec<Record>, seed: u64) -> Self {
        let chain = Chain::new(&settings.network, height);
        let db = Database {
            settings,
            chain,
            channels: BTreeMap::new(),
            htlcs: BTreeMap::new(),
            live: BTreeSet::new(),
            witness: BTreeMap::new(),
            outcomes: Vec::new(),
            complaints: Vec::new(),
        };
        let mut core = Self {
            db,
            mem: Memory::new(Power::Down),
            dirty: Dirty::default(),
            counters: Counters::default(),
            last_kill: String::new(),
            rng: StdRng::seed_from_u64(seed),
            now_ms: 0,
            outputs: Vec::new(),
        };
        for record in records {
            core.load(record);
        }
        core.db.channels.values_mut().for_each(|channel| channel.online = false);
        let keys: Vec<HtlcKey> = core.db.htlcs.keys().copied().collect();
        core.db.live =
            keys.iter().copied().filter(|key| !core.db.htlcs[key].progress.stage.is_over()).collect();
        keys.iter().for_each(|key| core.trim(*key));
        core
    }

    fn load(&mut self, record: Record) {
        match record {
            Record::Settings(settings) => self.db.settings = settings,
            Record::Chain(chain) => self.db.chain = chain,
            Record::Channel(channel) => drop(self.db.channels.insert(channel.chan_id, channel)),
            Record::HtlcAdded(terms) => drop(self.db.htlcs.insert(terms.key, Htlc::new(terms))),
            Record::HtlcProgress(key, progress) => {
                if let Some(htlc) = self.db.htlcs.get_mut(&key) {
                    htlc.progress = progress;
                }
            }
            Record::Witness(preimage) => {
                drop(self.db.witness.insert(preimage.payment_hash(), preimage));
            }
            Record::Outcome(outcome) => self.db.outcomes.push(outcome),
            Record::Complaint(text) => self.db.complaints.push(text),
        }
    }

    /// Records that rebuild the present database: a compacted journal.
    #[must_use]
    pub fn dump(&self) -> Vec<Record> {
        let db = &self.db;
        let mut records = vec![Record::Settings(db.settings.clone()), Record::Chain(db.chain.clone())];
        records.extend(db.channels.values().cloned().map(Record::Channel));
        for htlc in db.htlcs.values() {
            records.push(Record::HtlcAdded(htlc.terms.clone()));
            records.push(Record::HtlcProgress(htlc.terms.key, htlc.progress.clone()));
        }
        records.extend(db.witness.values().cloned().map(Record::Witness));
        records.extend(db.outcomes.iter().cloned().map(Record::Outcome));
        records.extend(db.complaints.iter().cloned().map(Record::Complaint));
        records
    }

    /// Carries out one input at a time (milliseconds since the Unix epoch; never runs backwards here).
    pub fn handle(&mut self, input: Input, now_ms: u64) -> Handled {
        self.now_ms = self.now_ms.max(now_ms);
        self.fire_timers();
        let reply = self.dispatch(input);
        self.run_loop();
        let mut outputs = self.take_records();
        outputs.append(&mut self.outputs);
        Handled { reply, outputs }
    }

    fn dispatch(&mut self, input: Input) -> Result<Reply, Rejected> {
        match input {
            Input::StreamOpened(stream) => self.stream_opened(stream)?,
            Input::StreamSent(stream) => self.stream_sent(stream),
            Input::StreamAnswer(stream, response) => self.stream_answer(stream, response),
            Input::StreamClosed(stream) => self.stream_closed(stream),
            Input::CloseChannel(request) => return self.close_channel(&request),
            Input::Tick => {}
            Input::Command(command) => return self.command(*command),
        }
        Ok(Reply::Done)
    }

    /// When [`Input::Tick`] is due at the latest, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.mem.timers.keys().next().map(|(at, _)| *at)
    }

    fn fire_timers(&mut self) {
        while let Some(entry) = self.mem.timers.first_entry()
            && entry.key().0 <= self.now_ms
        {
            match entry.remove() {
                Timer::Release(key) => self.release(key),
                Timer::SlotExpires(stream) => self.break_slot(stream),
                Timer::NextPhase => self.next_phase(),
            }
            self.run_loop();
        }
    }

    fn take_records(&mut self) -> Vec<Output> {
        let dirty = std::mem::take(&mut self.dirty);
        let mut records = Vec::new();
        if dirty.settings {
            records.push(Record::Settings(self.db.settings.clone()));
        }
        if dirty.chain {
            records.push(Record::Chain(self.db.chain.clone()));
        }
        let channels = dirty.channels.iter().filter_map(|id| self.db.channels.get(id));
        records.extend(channels.cloned().map(Record::Channel));
        records.extend(dirty.records);
        for key in &dirty.htlcs {
            if let Some(htlc) = self.db.htlcs.get(key) {
                records.push(Record::HtlcProgress(*key, htlc.progress.clone()));
            }
        }
        let mut outputs: Vec<Output> = records.into_iter().map(Output::Persist).collect();
        outputs.push(Output::Changed);
        outputs
    }

    /// The HTLC, to be changed and written.
    fn htlc_mut(&mut self, key: HtlcKey) -> Option<&mut Htlc> {
        let htlc = self.db.htlcs.get_mut(&key)?;
        self.dirty.htlcs.insert(key);
        Some(htlc)
    }

    /// The channel, to be changed and written.
    fn channel_mut(&mut self, chan_id: u64) -> Option<&mut Channel> {
        let channel = self.db.channels.get_mut(&chan_id)?;
        self.dirty.channels.insert(chan_id);
        Some(channel)
    }

    /// HTLCs of a channel that are not over, by index.
    fn live_of(&self, chan_id: u64) -> Vec<HtlcKey> {
        let first = HtlcKey { chan_id, htlc_id: 0 };
        let last = HtlcKey { chan_id, htlc_id: u64::MAX };
        self.db.live.range(first..=last).copied().collect()
    }

    /// Channels that a control means.
    fn channels_meant(&self, chan_id: u64) -> Result<Vec<u64>, Rejected> {
        if chan_id == 0 {
            return Ok(self.db.channels.keys().copied().collect());
        }
        self.db
            .channels
            .contains_key(&chan_id)
            .then(|| vec![chan_id])
            .ok_or_else(|| Rejected::NotFound(format!("no channel {chan_id}")))
    }

    fn complain(&mut self, text: String) {
        self.db.complaints.push(text.clone());
        self.dirty.records.push(Record::Complaint(text));
    }

    /// Drops what nobody can ask for any more.
    fn trim(&mut self, key: HtlcKey) {
        if self.mem.held.contains_key(&key) {
            return;
        }
        if let Some(htlc) = self.db.htlcs.get_mut(&key)
            && htlc.progress.stage.is_over()
        {
            htlc.terms.onion_blob = Vec::new();
        }
    }

    fn is_active(&self, chan_id: u64) -> bool {
        self.mem.power == Power::ServerActive
            && self.db.channels.get(&chan_id).is_some_and(Channel::is_active)
    }

    fn is_open(&self, chan_id: u64) -> bool {
        self.db.channels.get(&chan_id).is_some_and(|channel| channel.status == Status::Open)
    }
}
