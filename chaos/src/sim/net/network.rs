mod mishaps;

use super::answers::{Answers, FailSent, SettleSent};
use super::conditions::{Conditions, KeepAlive};
use super::connection::Connection;
use super::packet::{ConnectionId, Content, End, Packet, StreamId};
use super::votes::Votes;
use crate::sim::host::{Ending, HostId};
use crate::sim::random;
use crate::sim::time::SimTime;
use crate::sim::trace::Trace;
use mishaps::{Fate, Stray};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Everything between hosts. Clones share it. Told by the driver what time it is ([`Network::tick`]) and what is wrong.
#[derive(Clone, Debug)]
pub struct Network {
    inner: Arc<Mutex<Inner>>,
}

/// What passed, since the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Packets given to a host.
    pub delivered: u64,
    /// Packets that never arrived, with their connection.
    pub lost: u64,
    /// Requests that arrived twice.
    pub duplicated: u64,
    /// Answers that were lost, with their connection.
    pub answers_lost: u64,
    /// Requests that arrived after what the same caller had sent later, over another connection.
    pub overtaken: u64,
    /// Connections that were asked for.
    pub connects: u64,
    /// Connections that broke.
    pub broken: u64,
}

#[derive(Debug)]
struct Inner {
    now: SimTime,
    sequence: u64,
    rng: StdRng,
    trace: Trace,
    standard: Conditions,
    /// By (from, to).
    links: BTreeMap<(HostId, HostId), Link>,
    hosts: BTreeMap<HostId, Machine>,
    addresses: BTreeMap<Arc<str>, HostId>,
    connections: BTreeMap<ConnectionId, Connection>,
    traffic: Traffic,
    votes: Votes,
    answers: Answers,
    /// HTLCs for others that replicas kept.
    kept: Vec<(u64, u64)>,
    /// What is on its way although its caller has lost the connection.
    strays: Vec<Stray>,
}

/// One direction between two hosts.
#[derive(Debug, Default)]
struct Link {
    conditions: Option<Conditions>,
    /// Nothing passes; what was sent waits, as TCP would send it again and again.
    held: bool,
    waiting: Vec<Packet>,
    refuses: bool,
}

/// How often the network looks for connections that are gone. Nobody's patience is as short.
const KEEP_ALIVE_EVERY: Duration = Duration::from_millis(100);

/// A host as the network sees it.
#[derive(Debug, Default)]
struct Machine {
    /// Its process runs.
    up: bool,
    /// Its process stands still.
    paused: bool,
    /// Its operating system does not answer either.
    off: bool,
    inbox: BTreeMap<(SimTime, u64), Packet>,
}

impl Network {
    /// A network in which all is well.
    #[must_use]
    pub fn new(seed: u64, standard: Conditions, trace: Trace) -> Self {
        let inner = Inner {
            now: SimTime::ZERO,
            sequence: 0,
            rng: random::stream(seed, "network"),
            trace,
            standard,
            links: BTreeMap::new(),
            hosts: BTreeMap::new(),
            addresses: BTreeMap::new(),
            connections: BTreeMap::new(),
            traffic: Traffic::default(),
            votes: Votes::default(),
            answers: Answers::default(),
            kept: Vec::new(),
            strays: Vec::new(),
        };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    /// Says which host an address leads to, whether it runs or not.
    pub fn name(&self, address: &str, host: HostId) {
        self.inner.lock().addresses.insert(address.into(), host);
    }

    /// The driver is about to step all hosts until a moment: answers for those that are down, and breaks what was
    /// silent for too long.
    pub fn tick(&self, now: SimTime, until: SimTime) {
        let mut inner = self.inner.lock();
        inner.now = now;
        inner.answer_for_the_dead(until);
        inner.look_for_kept(until.since(now));
        if now.is_multiple_of(KEEP_ALIVE_EVERY) {
            inner.give_up_the_silent();
            inner.forget_strays();
            inner.connections.retain(|_, connection| connection.open != [false; 2]);
        }
    }

    /// What passed so far.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.inner.lock().traffic
    }

    /// Sets the conditions of one direction; `None`: as everywhere.
    pub fn set_conditions(&self, from: HostId, to: HostId, conditions: Option<Conditions>) {
        self.inner.lock().links.entry((from, to)).or_default().conditions = conditions;
    }

    /// From now on no answer is lost and no request strays, anywhere.
    pub fn calm(&self) {
        let mut inner = self.inner.lock();
        inner.standard.calm();
        inner.links.values_mut().filter_map(|link| link.conditions.as_mut()).for_each(Conditions::calm);
    }

    /// Nothing passes in this direction any more. What is on its way waits.
    pub fn hold(&self, from: HostId, to: HostId) {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        inner.links.entry((from, to)).or_default().held = true;
        let Some(machine) = inner.hosts.get_mut(&to) else { return };
        let waiting = &mut inner.links.entry((from, to)).or_default().waiting;
        // Who is told of a loss has lost its end already.
        let comes_by_it = |packet: &Packet| {
            let connection = inner.connections.get(&packet.connection);
            connection.is_some_and(|connection| connection.host(packet.to.other()) == from)
                && !matches!(packet.content, Content::Lost(_))
        };
        let held: Vec<_> =
            machine.inbox.iter().filter(|(_, packet)| comes_by_it(packet)).map(|(at, _)| *at).collect();
        waiting.extend(held.iter().filter_map(|at| machine.inbox.remove(at)));
    }

    /// Lets pass what waited and whatever follows.
    pub fn release(&self, from: HostId, to: HostId) {
        let mut inner = self.inner.lock();
        let now = inner.now;
        let link = inner.links.entry((from, to)).or_default();
        link.held = false;
        for packet in std::mem::take(&mut link.waiting) {
            inner.send(from, now, packet);
        }
    }

    /// Whether messages pass in this direction.
    #[must_use]
    pub fn passes(&self, from: HostId, to: HostId) -> bool {
        !self.inner.lock().is_held(from, to)
    }

    /// New connections in this direction are refused, or not any more.
    pub fn refuse(&self, from: HostId, to: HostId, refuses: bool) {
        self.inner.lock().links.entry((from, to)).or_default().refuses = refuses;
    }

    /// Breaks all connections between two hosts; returns how many.
    pub fn break_connections(&self, one: HostId, other: HostId) -> usize {
        let mut inner = self.inner.lock();
        let now = inner.now;
        let between =
            |connection: &Connection| connection.hosts == [one, other] || connection.hosts == [other, one];
        let broken: Vec<ConnectionId> =
            inner.connections.iter().filter(|(_, known)| between(known)).map(|(id, _)| *id).collect();
        for id in &broken {
            for end in [End::Client, End::Server] {
                inner.lose(*id, end, now, "connection reset");
            }
        }
        broken.len()
    }

    pub(in crate::sim) fn host_started(&self, host: HostId) {
        let mut inner = self.inner.lock();
        let now = inner.now;
        let machine = inner.hosts.entry(host).or_default();
        (machine.up, machine.paused, machine.off) = (true, false, false);
        // It knows nothing of the connections it had before, and says so to whoever uses one.
        for (id, end) in inner.ends_at(host) {
            inner.tell_lost(id, end.other(), now, "reset: unknown connection");
        }
    }

    pub(in crate::sim) fn host_ended(&self, host: HostId, how: Ending) {
        self.inner.lock().host_ended(host, how);
    }

    pub(in crate::sim) fn set_paused(&self, host: HostId, paused: bool) {
        self.inner.lock().hosts.entry(host).or_default().paused = paused;
    }

    /// What reaches a host before a moment, in order.
    pub(in crate::sim) fn take_due(&self, host: HostId, until: SimTime) -> Vec<(SimTime, Packet)> {
        let mut inner = self.inner.lock();
        let Some(machine) = inner.hosts.get_mut(&host) else { return Vec::new() };
        let later = machine.inbox.split_off(&(until, 0));
        let due = std::mem::replace(&mut machine.inbox, later);
        let mut taken = Vec::with_capacity(due.len());
        for ((at, _), packet) in due {
            let open =
                inner.connections.get(&packet.connection).is_some_and(|known| known.is_open(packet.to));
            if open || matches!(packet.content, Content::Lost(_)) {
                inner.traffic.delivered += 1;
                inner.look_for_overtaken(at, &packet);
                inner.answers.hear(&packet);
                taken.push((at, packet));
            } else {
                inner.traffic.lost += 1;
            }
        }
        taken
    }

    /// A client asks for a connection.
    pub(super) fn connect(
        &self,
        from: HostId,
        at: SimTime,
        address: &Arc<str>,
        keep_alive: [KeepAlive; 2],
    ) -> ConnectionId {
        let mut inner = self.inner.lock();
        inner.sequence += 1;
        inner.traffic.connects += 1;
        let id = ConnectionId(inner.sequence);
        // An address that nobody has leads to the caller itself, who refuses.
        let to = inner.addresses.get(address).copied().unwrap_or(from);
        inner.connections.insert(id, Connection::new(from, to, keep_alive));
        let content = Content::Connect(Arc::clone(address), from);
        let packet = Packet { connection: id, to: End::Server, stream: StreamId::NONE, content };
        inner.send(from, at, packet);
        id
    }

    /// Something leaves a host.
    pub(super) fn send(&self, from: HostId, at: SimTime, packet: Packet) {
        let mut inner = self.inner.lock();
        inner.votes.see(&packet);
        if let Some(to) =
            inner.connections.get(&packet.connection).map(|connection| connection.host(packet.to))
        {
            inner.answers.see((from, to), at, &packet);
        }
        inner.send(from, at, packet);
    }

    /// Votes that a replica gave to two candidates of one term, since this was asked last.
    #[must_use]
    pub fn take_double_votes(&self) -> Vec<String> {
        self.inner.lock().votes.take_doubles()
    }

    /// Replicas that let HTLCs pass since this was asked last.
    pub(in crate::sim) fn take_resumes(&self) -> Vec<HostId> {
        self.inner.lock().answers.take_resumes()
    }

    /// HTLCs for others, by channel and number there, that replicas did not let pass, since this was asked last.
    pub(in crate::sim) fn take_kept(&self) -> Vec<(u64, u64)> {
        std::mem::take(&mut self.inner.lock().kept)
    }

    /// HTLCs that replicas failed since this was asked last.
    pub(in crate::sim) fn take_fails(&self) -> Vec<FailSent> {
        self.inner.lock().answers.take_fails()
    }

    /// HTLCs that replicas settled since this was asked last.
    pub(in crate::sim) fn take_settles(&self) -> Vec<SettleSent> {
        self.inner.lock().answers.take_settles()
    }

    /// An end gives a connection up.
    pub(super) fn close(&self, id: ConnectionId, end: End, at: SimTime) {
        let mut inner = self.inner.lock();
        let Some(connection) = inner.connections.get_mut(&id) else { return };
        connection.close(end);
        inner.tell_lost(id, end.other(), at, "closed by the other end");
    }

    pub(super) fn trace(&self) -> Trace {
        self.inner.lock().trace.clone()
    }
}

impl Inner {
    fn is_held(&self, from: HostId, to: HostId) -> bool {
        self.links.get(&(from, to)).is_some_and(|link| link.held)
    }

    fn send(&mut self, from: HostId, at: SimTime, packet: Packet) {
        let Some(connection) = self.connections.get_mut(&packet.connection) else { return };
        if !connection.is_open(packet.to.other()) {
            return;
        }
        let to = connection.host(packet.to);
        let link = self.links.entry((from, to)).or_default();
        if link.held {
            link.waiting.push(packet);
            return;
        }
        let conditions = link.conditions.as_ref().unwrap_or(&self.standard);
        let refused = link.refuses && matches!(packet.content, Content::Connect(..));
        let rng = &mut self.rng;
        let fate = Fate::draw(conditions, rng, &packet);
        let stream = if conditions.in_order { StreamId::NONE } else { packet.stream };
        let arrives = connection.arrival((packet.to, stream), at, || at + conditions.delay(rng));
        match fate {
            Fate::Arrives => {}
            Fate::Lost => return self.lose_answer(packet.connection, at, arrives),
            Fate::Strays(longer) => return self.stray((from, to), packet, at, (arrives, longer)),
        }
        let copy = if conditions.duplicate > 0.0 {
            connection.second_arrival(&packet, || random::chance(rng, conditions.duplicate))
        } else {
            Vec::new()
        };
        if refused {
            let answer = Packet { to: End::Client, content: Content::Refused, ..packet };
            return self.put(from, arrives, answer);
        }
        self.put(to, arrives, packet);
        if !copy.is_empty() {
            self.traffic.duplicated += 1;
            let again = arrives + self.standard.delay(&mut self.rng);
            for packet in copy {
                self.put(to, again, packet);
            }
        }
    }

    fn put(&mut self, host: HostId, at: SimTime, packet: Packet) {
        self.sequence += 1;
        let key = (at, self.sequence);
        self.hosts.entry(host).or_default().inbox.insert(key, packet);
    }

    /// An end learns, at a moment, that a connection is gone, and cannot use it from now on.
    fn lose(&mut self, id: ConnectionId, end: End, at: SimTime, why: &'static str) {
        let Some(connection) = self.connections.get_mut(&id).filter(|connection| connection.is_open(end))
        else {
            return;
        };
        connection.close(end);
        let host = connection.host(end);
        self.traffic.broken += u64::from(end == End::Client);
        let packet = Packet { connection: id, to: end, stream: StreamId::NONE, content: Content::Lost(why) };
        self.put(host, at, packet);
    }

    /// An end learns from the other that a connection is gone, unless nothing passes between them: then it will find out
    /// by itself.
    fn tell_lost(&mut self, id: ConnectionId, end: End, at: SimTime, why: &'static str) {
        let Some(connection) = self.connections.get(&id) else { return };
        let (from, to) = (connection.host(end.other()), connection.host(end));
        if self.is_held(from, to) {
            return;
        }
        let conditions = self.links.get(&(from, to)).and_then(|link| link.conditions.as_ref());
        let delay = conditions.unwrap_or(&self.standard).delay(&mut self.rng);
        self.lose(id, end, at + delay, why);
    }

    fn host_ended(&mut self, host: HostId, how: Ending) {
        let machine = self.hosts.entry(host).or_default();
        (machine.up, machine.paused, machine.off) = (false, false, how == Ending::PowerCut);
        let ends: Vec<(ConnectionId, End)> = self.ends_at(host);
        for (id, end) in ends {
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.close(end);
            }
            if how == Ending::Killed {
                self.tell_lost(id, end.other(), self.now, "reset: the process has ended");
            }
        }
    }

    fn ends_at(&self, host: HostId) -> Vec<(ConnectionId, End)> {
        let ends = self.connections.iter().flat_map(|(id, connection)| {
            [End::Client, End::Server].map(|end| (*id, end, connection.host(end)))
        });
        ends.filter(|(_, _, at)| *at == host).map(|(id, end, _)| (id, end)).collect()
    }

    fn look_for_kept(&mut self, passed: Duration) {
        let Self { connections, hosts, answers, .. } = self;
        let kept = answers.wait(passed, |id| {
            let connection = connections.get(&id).filter(|connection| connection.is_open(End::Client))?;
            let machine = hosts.get(&connection.host(End::Client))?;
            Some(machine.up && !machine.paused)
        });
        self.kept.extend(kept);
    }

    /// Where no process runs, an operating system that does refuses what arrives.
    fn answer_for_the_dead(&mut self, until: SimTime) {
        let dead: Vec<HostId> =
            self.hosts.iter().filter(|(_, machine)| !machine.up).map(|(host, _)| *host).collect();
        for host in dead {
            let Some(machine) = self.hosts.get_mut(&host) else { continue };
            let off = machine.off;
            let later = machine.inbox.split_off(&(until, 0));
            for ((at, _), packet) in std::mem::replace(&mut machine.inbox, later) {
                self.traffic.lost += 1;
                if off {
                    continue;
                }
                match packet.content {
                    Content::Connect(..) => {
                        let answer = Packet { to: End::Client, content: Content::Refused, ..packet };
                        self.send(host, at, answer);
                    }
                    Content::Lost(_) => {}
                    _ => self.tell_lost(packet.connection, packet.to.other(), at, "reset: nobody is there"),
                }
            }
        }
    }

    /// Connections on which nothing can make the round trip are given up after a while by the ends that can notice.
    fn give_up_the_silent(&mut self) {
        let disturbed = self.links.values().any(|link| link.held)
            || self.hosts.values().any(|machine| machine.paused || !machine.up)
            || self.connections.values().any(|connection| connection.open != [true; 2]);
        let now = self.now;
        if !disturbed {
            self.connections.values_mut().for_each(|connection| connection.silent = None);
            return;
        }
        let mut over = Vec::new();
        for (id, connection) in &mut self.connections {
            let [client, server] = connection.hosts;
            let held = |from, to| self.links.get(&(from, to)).is_some_and(|link| link.held);
            let mute = |host| self.hosts.get(host).is_none_or(|machine| machine.paused || !machine.up);
            let half = connection.open != [true; 2];
            if !(half || held(client, server) || held(server, client) || mute(&client) || mute(&server)) {
                connection.silent = None;
                continue;
            }
            let rng = &mut self.rng;
            let patience = connection.keep_alive;
            let (since, patience) =
                *connection.silent.get_or_insert_with(|| (now, patience.map(|each| each.patience(rng))));
            for end in [End::Client, End::Server] {
                let awake = self.hosts.get(&connection.host(end)).is_some_and(|machine| !machine.paused);
                if awake && connection.is_open(end) && now.since(since) >= patience[end.index()] {
                    over.push((*id, end));
                }
            }
        }
        for (id, end) in over {
            self.lose(id, end, now, "keep-alive timed out");
            self.tell_lost(id, end.other(), now, "closed: keep-alive timed out");
        }
    }
}
