use super::conditions::KeepAlive;
use super::packet::{Content, End, Packet, StreamId};
use crate::sim::host::HostId;
use crate::sim::time::SimTime;
use std::collections::BTreeMap;
use std::time::Duration;

/// Streams whose last delivery is remembered before those that are over are forgotten.
const STREAMS_REMEMBERED: usize = 64;

/// What the network knows of a connection.
#[derive(Debug)]
pub(super) struct Connection {
    /// By [`End::index`].
    pub(super) hosts: [HostId; 2],
    /// Whether an end has it still.
    pub(super) open: [bool; 2],
    /// Each end's.
    pub(super) keep_alive: [KeepAlive; 2],
    /// Since when nothing can make the round trip, and how long each end waits.
    pub(super) silent: Option<(SimTime, [Duration; 2])>,
    /// What was sent last, and when it arrives.
    last: BTreeMap<(End, StreamId), Last>,
    /// Requests of which there is one message at most so far, for those that shall arrive twice.
    pub(super) requests: BTreeMap<StreamId, Vec<Packet>>,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    sent: SimTime,
    arrives: SimTime,
}

impl Connection {
    pub(super) fn new(client: HostId, server: HostId, keep_alive: [KeepAlive; 2]) -> Self {
        Self {
            hosts: [client, server],
            open: [true; 2],
            keep_alive,
            silent: None,
            last: BTreeMap::new(),
            requests: BTreeMap::new(),
        }
    }

    pub(super) fn host(&self, end: End) -> HostId {
        self.hosts[end.index()]
    }

    pub(super) fn is_open(&self, end: End) -> bool {
        self.open[end.index()]
    }

    pub(super) fn close(&mut self, end: End) {
        self.open[end.index()] = false;
    }

    /// When a packet arrives that would on its own at `alone`: not before what was sent before it on its stream, and
    /// together with what was sent in the same moment.
    pub(super) fn arrival(
        &mut self,
        (to, stream): (End, StreamId),
        now: SimTime,
        alone: impl FnOnce() -> SimTime,
    ) -> SimTime {
        let last = self.last.get(&(to, stream)).copied();
        let arrives = match last {
            Some(last) if last.sent == now => last.arrives,
            Some(last) => alone().max(last.arrives),
            None => alone(),
        };
        if self.last.len() >= STREAMS_REMEMBERED {
            self.last.retain(|_, last| last.arrives >= now);
        }
        self.last.insert((to, stream), Last { sent: now, arrives });
        arrives
    }

    /// The packets of a request that consists of one message, once it is whole, as they arrive for a second time if `draw`
    /// says so. Nothing before, and for all others.
    pub(super) fn second_arrival(&mut self, packet: &Packet, draw: impl FnOnce() -> bool) -> Vec<Packet> {
        if packet.to != End::Server || packet.stream == StreamId::NONE {
            return Vec::new();
        }
        let known = self.requests.get_mut(&packet.stream);
        match (&packet.content, known) {
            (Content::Request(_), _) => {
                self.requests.insert(packet.stream, vec![packet.clone()]);
            }
            (Content::Data(_), Some(packets)) if packets.len() == 1 => packets.push(packet.clone()),
            (Content::Finished, Some(packets)) if packets.len() == 2 => {
                let mut whole = self.requests.remove(&packet.stream).unwrap_or_default();
                if draw() {
                    whole.push(packet.clone());
                    whole.iter_mut().for_each(|packet| packet.stream = packet.stream.copy());
                    return whole;
                }
            }
            (Content::Credit(_), _) => {}
            _ => drop(self.requests.remove(&packet.stream)),
        }
        Vec::new()
    }
}
