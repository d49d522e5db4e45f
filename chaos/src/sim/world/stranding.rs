//! A peer that takes preimages and signs nothing: in time, the cluster has to send LND on chain for its money.
//!
//! Blocks come until it must, as fast as nobody is in danger who is not stranded.

use super::World;
use super::blocks::STORM_EVERY;
use super::lnd_faults::LndEnd;
use crate::lndsim::core::Command;
use crate::sim::coverage::Condition;
use crate::sim::lnd::{LndHost, Running};
use mux_proto::lndsim::v1::{ChannelEntry, HtlcEntry, OpenChannelRequest, Stage, channel_entry::Status};
use rand::Rng as _;
use std::collections::BTreeSet;

/// Blocks before the first expiry of all to which the chain jumps: the cluster gives up nothing for want of that many.
const SAFE: u32 = 45;
/// Then blocks come one by one until so many are left. LND would act when 16 are, and the cluster is to when there are
/// [`MARGIN`] more.
const LEFT: u32 = 27;
/// `links.rescue_margin_blocks` in runs with this fault.
pub(super) const MARGIN: u32 = 12;

/// Who is stranded.
#[derive(Debug, Default)]
pub(super) struct Stranding {
    at: Option<usize>,
    /// Channels with settled HTLCs that do not become final.
    channels: BTreeSet<u64>,
    /// Channels that the simulation closed.
    closed: BTreeSet<u64>,
}

impl Stranding {
    /// The simulation closes a channel.
    pub(super) fn closes(&mut self, chan_id: u64) {
        self.closed.insert(chan_id);
    }

    /// Everybody signs again.
    pub(super) fn end(&mut self) {
        self.at = None;
        self.channels.clear();
    }
}

impl World {
    /// From now on the peers of this node sign nothing.
    pub(super) fn strand(&mut self, at: usize) -> bool {
        if self.stranding.at.is_some() {
            return false;
        }
        self.stranding.at = Some(at);
        let limit = if self.faults.rng().random_bool(0.5) { Stage::Sent } else { Stage::Signed };
        self.limit(at, limit);
        let time = self.faults.time(10_000..=25_000);
        self.faults.lnd_ends_in(self.now, time, LndEnd::Sign(at));
        true
    }

    /// Brings the moment nearer in which the cluster must act.
    pub(super) fn go_on_stranding(&mut self) {
        let Some(at) = self.stranding.at.filter(|_| self.now.is_multiple_of(STORM_EVERY)) else { return };
        let Some(node) = self.lnds[at].running() else { return };
        // What one that is down has to settle would be over when it is back.
        if self.lnds.iter().any(|lnd| !lnd.is_up()) {
            return;
        }
        let stranded: Vec<HtlcEntry> = open(&node).filter(is_stranded).collect();
        self.stranding.channels.extend(stranded.iter().map(|htlc| htlc.chan_id));
        self.look_for_rescued(at, &node);
        // On chain dust is lost, and nobody can promise anything of it.
        if stranded.iter().any(|htlc| htlc.dust) {
            self.stranding.end();
            return self.limit(at, Stage::Final);
        }
        if stranded.is_empty() {
            return;
        }
        let expiries =
            self.lnds.iter().filter_map(LndHost::running).flat_map(|node| open(&node).collect::<Vec<_>>());
        let Some(first) = expiries.map(|htlc| htlc.incoming_expiry).min() else { return };
        match first.saturating_sub(self.chain.height()) {
            left if left > SAFE => self.find_blocks(left - SAFE),
            left if left > LEFT => self.find_blocks(1),
            _ => {}
        }
    }

    /// Whether the cluster has closed a channel. Another takes its place.
    fn look_for_rescued(&mut self, at: usize, node: &Running) {
        let gone = |channel: &&ChannelEntry| {
            channel.status() != Status::Open && self.stranding.channels.contains(&channel.chan_id)
        };
        let gone: Vec<u64> =
            node.state().channels.iter().filter(gone).map(|channel| channel.chan_id).collect();
        for chan_id in gone {
            self.stranding.channels.remove(&chan_id);
            if self.stranding.closed.insert(chan_id) {
                self.trace.event(self.now, self.lnds[at].column(), format_args!("closes {chan_id}: rescued"));
                self.coverage.met(Condition::Rescued);
                self.lnds[at].command(Command::OpenChannel(OpenChannelRequest::default()));
            }
        }
    }
}

fn open(node: &Running) -> impl Iterator<Item = HtlcEntry> + use<> {
    node.ledger().htlcs.into_iter().filter(|htlc| htlc.r#final.is_none() && htlc.stage() != Stage::Vanished)
}

/// Its payer has the preimage, or is about to, and LND has nothing but a promise.
fn is_stranded(htlc: &HtlcEntry) -> bool {
    matches!(htlc.stage(), Stage::Sent | Stage::Signed)
        && htlc.answers.iter().any(|answer| answer.action == "SETTLE" && answer.error.is_empty())
}
