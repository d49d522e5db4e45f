//! What a connection does to calls when it breaks in the wrong moment.
//!
//! Within a connection nothing is lost, doubled or overtaken: TCP sees to that. But whoever loses a connection does not
//! know what of its calls was heard: an answer may have been lost that says so ([`Conditions::lose`]), and what was sent
//! may still be on its way, and be heard after what was sent again, or later, over the next connection
//! ([`Conditions::stray`]).

use super::Inner;
use crate::sim::host::HostId;
use crate::sim::net::conditions::Conditions;
use crate::sim::net::packet::{ConnectionId, Content, End, Packet};
use crate::sim::random;
use crate::sim::time::SimTime;
use rand::rngs::StdRng;
use std::time::Duration;

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It arrives.
    Arrives,
    /// It does not, and its connection breaks.
    Lost,
    /// It arrives so much later, and its caller has lost the connection.
    Strays(Duration),
}

impl Fate {
    pub(super) fn draw(conditions: &Conditions, rng: &mut StdRng, packet: &Packet) -> Self {
        // Nobody waits for the answer to a copy, and nobody sends one that could stray.
        if packet.stream != packet.stream.original() {
            return Self::Arrives;
        }
        match (packet.to, &packet.content) {
            (End::Client, Content::Data(_)) if random::chance(rng, conditions.lose) => Self::Lost,
            // A stream's message; or the end of a unary request, without which it is not heard at all.
            (End::Server, Content::Data(_) | Content::Finished) if random::chance(rng, conditions.stray) => {
                Self::Strays(random::time_in(rng, &conditions.stray_ms))
            }
            _ => Self::Arrives,
        }
    }
}

/// Something that strays.
#[derive(Debug)]
pub(super) struct Stray {
    connection: ConnectionId,
    /// The caller, and who is called.
    between: (HostId, HostId),
    /// Connections above this were asked for later.
    last_connection: u64,
    arrives: SimTime,
    /// Something that was sent later has arrived.
    overtaken: bool,
}

impl Inner {
    /// An answer would have arrived at a moment, and is lost: both ends learn that the connection is gone.
    pub(super) fn lose_answer(&mut self, id: ConnectionId, at: SimTime, arrives: SimTime) {
        let waits = self.connections.get(&id).filter(|connection| connection.is_open(End::Client));
        let Some([client, server]) = waits.map(|connection| connection.hosts) else { return };
        self.traffic.answers_lost += 1;
        self.traffic.lost += 1;
        self.trace.event(at, server.0, format_args!("an answer to {client:?} is lost, with its connection"));
        self.lose(id, End::Client, arrives, "connection reset: an answer is lost");
        self.tell_lost(id, End::Server, at, "connection reset: an answer is lost");
    }

    /// A request arrives `longer` after it would have; its caller loses the connection.
    pub(super) fn stray(
        &mut self,
        between: (HostId, HostId),
        packet: Packet,
        at: SimTime,
        (arrives, longer): (SimTime, Duration),
    ) {
        let (from, to) = between;
        let (connection, late) = (packet.connection, arrives + longer);
        self.trace.event(at, from.0, format_args!("a request to {to:?} strays, for {longer:?}"));
        self.strays.push(Stray {
            connection,
            between,
            last_connection: self.sequence,
            arrives: late,
            overtaken: false,
        });
        self.put(to, late, packet);
        // The other end finds out by itself.
        self.lose(connection, End::Client, arrives, "connection reset: a request strays");
    }

    /// Something arrives.
    pub(super) fn look_for_overtaken(&mut self, at: SimTime, packet: &Packet) {
        if self.strays.is_empty() || packet.to != End::Server {
            return;
        }
        let Some(connection) = self.connections.get(&packet.connection) else { return };
        let between: (HostId, HostId) = connection.hosts.into();
        let asks = matches!(packet.content, Content::Data(_) | Content::Finished);
        let mut overtaken = 0;
        self.strays.retain_mut(|stray| {
            if stray.connection == packet.connection && stray.arrives == at {
                overtaken += u64::from(stray.overtaken);
                return false;
            }
            stray.overtaken |=
                asks && stray.between == between && packet.connection.0 > stray.last_connection;
            true
        });
        self.traffic.overtaken += overtaken;
    }

    /// What was dropped on its way, because its host was down.
    pub(super) fn forget_strays(&mut self) {
        let now = self.now;
        self.strays.retain(|stray| stray.arrives >= now);
    }
}
