//! What links promise, seen from outside: a set is decided only while the links of all its HTLCs are up, nothing is failed by
//! a replica that does not know yet what was acknowledged before it began to listen, and what an honest payer sent is failed
//! only when the log has failed it.

use super::World;
use super::replica_host::ReplicaHost;
use crate::sim::coverage::Condition;
use crate::sim::net::FailSent;
use mux_raft::consensus::Consensus as _;
use mux_raft::machine::State;
use mux_raft::machine::model::{Event, EventKind, FrontNode, SESSION_FRESH_MS, Verdict};
use mux_raft::replica::Replica;
use mux_raft::types::{CircuitKey, LogIndex, LogTimeMs, NodePubkey, PaymentHash, SessionId};

/// The links as a replica's state had them when it was looked at last.
#[derive(Clone, Debug, Default)]
pub(super) struct Links {
    applied: LogIndex,
    term: u64,
    links: Vec<Link>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Link {
    node: NodePubkey,
    /// Counts sessions.
    last_session: SessionId,
    session: Option<Session>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Session {
    confirmed_term: u64,
    heard_at_ms: LogTimeMs,
}

impl Link {
    fn of(front: &FrontNode) -> Self {
        let session = front.session.as_ref().map(|session| Session {
            confirmed_term: session.confirmed_term,
            heard_at_ms: session.heard_at_ms,
        });
        Self { node: front.node, last_session: front.last_session, session }
    }
}

impl Links {
    /// Up to which entry this is.
    pub(super) const fn applied(&self) -> LogIndex {
        self.applied
    }

    /// Brings this up to a state. `before` is what it was until now.
    fn look(&mut self, state: &State) {
        let applied = state.applied();
        if applied.index == self.applied {
            return;
        }
        (self.applied, self.term) = (applied.index, applied.term);
        self.links.clear();
        self.links.extend(state.all_front_nodes().map(Link::of));
    }

    /// What is wrong with a node's link for a decision at this log time, if it was so before and after the decision, and so
    /// (sessions are counted, and log time only grows) all the time between.
    fn wrong(&self, after: &Self, node: NodePubkey, time_ms: LogTimeMs) -> Option<&'static str> {
        let link = self.links.iter().find(|link| link.node == node)?;
        if self.applied == 0 || !after.links.contains(link) {
            return None;
        }
        match link.session {
            None => Some("down"),
            Some(session) if time_ms.saturating_sub(session.heard_at_ms) > SESSION_FRESH_MS => {
                Some("one that nobody had heard of for too long")
            }
            Some(session) if self.term == after.term && session.confirmed_term != after.term => {
                Some("not confirmed in the leader's term")
            }
            Some(_) => None,
        }
    }

    fn is_down(&self, node: NodePubkey) -> bool {
        self.links.iter().any(|link| link.node == node && link.session.is_none())
    }
}

/// What came of looking at the events that a state has news of.
#[derive(Debug, Default)]
pub(super) struct Gates {
    pub(super) wrong: Vec<String>,
    pub(super) met: Vec<Condition>,
}

/// Looks at the links behind the sets that were completed and decided. Brings `links` up to this state.
pub(super) fn look_at_gates(links: &mut Links, state: &State, news: &[Event]) -> Gates {
    let mut gates = Gates::default();
    let concerns =
        |event: &Event| matches!(event.kind, EventKind::Accepted { .. } | EventKind::Settling { .. });
    if !news.iter().any(concerns) {
        links.look(state);
        return gates;
    }
    let before = links.clone();
    links.look(state);
    let decided = |hash: &PaymentHash| {
        let settles = |event: &Event| event.hash == *hash && matches!(event.kind, EventKind::Settling { .. });
        news.iter().any(settles)
    };
    for event in news.iter().filter(|event| concerns(event)) {
        let set = state.invoice(&event.hash).and_then(|invoice| invoice.set.as_ref());
        let parts = || set.iter().flat_map(|set| &set.parts);
        if matches!(event.kind, EventKind::Accepted { .. }) {
            let waits = !decided(&event.hash) && parts().any(|key: &CircuitKey| links.is_down(key.node));
            gates.met.extend(waits.then_some(Condition::WaitedForLink));
            continue;
        }
        let wrong = parts().find_map(|key| Some((key, before.wrong(links, key.node, event.time_ms)?)));
        if let Some((key, what)) = wrong {
            let (hash, node) = (event.hash, key.node.short());
            gates.wrong.push(format!("the set of {hash} was decided, and the link of {node} was {what}"));
        }
    }
    gates
}

impl World {
    /// Looks at the preimages that replicas have sent. Whoever sends one has applied the decision.
    pub(super) fn look_at_settles(&mut self) {
        for sent in self.network.take_settles() {
            let by = self.hosts.iter_mut().find(|host| host.host_id() == sent.by);
            let (id, applied) = match by.and_then(|host| Some((host.id(), host.seen()?))) {
                Some((id, seen)) => (id.to_string(), seen.replica.state().read(State::event_sequence)),
                // Of one that has just died it is not known; somebody has applied the decision at least.
                None => ("that has died".into(), u64::MAX),
            };
            if let Some(wrong) = self.settlements.tells(sent.hash, applied) {
                let text = format!("replica {id} settled HTLCs of {}, {wrong}", sent.hash);
                self.watch.violated(self.now, text);
            }
        }
    }

    /// Looks at what replicas have failed. Whoever fails an HTLC has applied what was acknowledged before its stream was
    /// opened: otherwise its decision may be there, unseen.
    pub(super) fn look_at_fails(&mut self) {
        for sent in self.network.take_fails() {
            let by = self.hosts.iter().find(|host| host.host_id() == sent.by);
            // One that has just died is not asked.
            let Some((id, seen)) = by.and_then(|host| Some((host.id(), host.replica()?))) else { continue };
            let applied = seen.replica.state().read(|state| state.applied().index);
            let known = self.book.reaches_before(sent.opened);
            if applied < known {
                let opened = sent.opened;
                let text = format!(
                    "replica {id} failed an HTLC on a stream that it opened at {opened} when it had applied up to \
                     {applied}, and {known} had been acknowledged before"
                );
                self.watch.violated(self.now, text);
            }
            if let Some(text) = self.failed_without_verdict(&sent, &seen.replica) {
                self.watch.violated(self.now, format!("replica {id} {text}"));
            }
        }
    }

    /// A replica failed an HTLC that the log has not failed, as far as that replica knows: an honest payer's, which no look
    /// at the onion alone refuses. What is final may be forgotten by now.
    fn failed_without_verdict(&self, sent: &FailSent, replica: &Replica) -> Option<String> {
        let lnd = self.lnds.iter().find(|lnd| lnd.host_id() == sent.at)?;
        let (chan_id, htlc_id) = sent.htlc;
        let key = CircuitKey { node: lnd.node(), chan_id, htlc_id };
        let verdict = replica.state().read(|state| state.htlc(&key).map(|htlc| htlc.verdict));
        let entry = || lnd.running()?.htlc(chan_id, htlc_id).filter(|entry| entry.r#final.is_none());
        let wrong = match verdict {
            Some(Some(Verdict::Fail(_))) => false,
            Some(_) => true,
            None => entry().is_some_and(|entry| self.payments.ledger().expects_settle(&entry.payment_hash)),
        };
        wrong.then(|| format!("failed HTLC {key}, for which its state has the verdict {verdict:?}"))
    }

    /// Looks at HTLCs for others, which pass whether anybody leads or not.
    pub(super) fn look_at_resumes(&mut self) {
        for (chan_id, htlc_id) in self.network.take_kept() {
            let text = format!("an HTLC for somebody else was not let pass: chan {chan_id} htlc {htlc_id}");
            self.watch.violated(self.now, text);
        }
        let passed = self.network.take_resumes().len();
        if passed > 0 && self.leader().is_none() {
            self.coverage.met(Condition::ForwardedWithoutLeader);
        }
    }

    /// Forgets what processes knew that have ended.
    pub(super) fn forget_links_of_the_dead(&mut self) {
        let up = self.hosts.iter().map(ReplicaHost::is_up);
        for (links, up) in self.settlements.links.iter_mut().zip(up) {
            if !up {
                *links = Links::default();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodePubkey = NodePubkey([2; 33]);
    const OTHER: NodePubkey = NodePubkey([3; 33]);

    fn links(term: u64, last_session: SessionId, session: Option<(u64, LogTimeMs)>) -> Links {
        let session = session.map(|(confirmed_term, heard_at_ms)| Session { confirmed_term, heard_at_ms });
        Links { applied: 9, term, links: vec![Link { node: NODE, last_session, session }] }
    }

    #[test]
    fn a_link_that_was_not_live_before_and_after_a_decision_was_not_live_at_it() {
        let live = Some((4, 10_000));
        for (before, after, time_ms, wrong) in [
            (links(4, 7, live), links(4, 7, live), 13_000, false),
            (links(4, 7, live), links(4, 7, live), 13_001, true),
            (links(4, 7, None), links(4, 7, None), 13_000, true),
            // It was up in between, or may have been.
            (links(4, 7, None), links(4, 8, None), 13_000, false),
            (links(4, 7, None), links(4, 8, live), 13_000, false),
            (links(4, 7, live), links(4, 7, None), 13_000, false),
            // Confirmed in a former term only, from before the decision until after it.
            (links(5, 7, live), links(5, 7, live), 11_000, true),
            (links(4, 7, live), links(5, 7, live), 11_000, false),
        ] {
            let found = before.wrong(&after, NODE, time_ms);
            assert_eq!(found.is_some(), wrong, "{before:?} {after:?} at {time_ms}: {found:?}");
            assert_eq!(before.wrong(&after, OTHER, time_ms), None, "nothing is known of it");
        }
        let unknown = Links { applied: 0, ..links(4, 7, None) };
        assert_eq!(unknown.wrong(&links(4, 7, None), NODE, 13_000), None, "a process that has just begun");
    }
}
