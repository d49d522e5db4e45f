//! Subscribers to the events: at any replica, and when a stream breaks or falls silent on at another one after the
//! last event that was seen.

use super::roster::Roster;
use crate::check::events::Seen;
use mux_proto::mux::v1::{EventKind, SubscribeEventsResponse};
use mux_raft::types::PaymentHash;
use parking_lot::Mutex;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use std::{sync::Arc, time::Duration};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

/// A stream without an event for this long is left: its replica may be stopped, which no connection tells soon.
const SILENT: Duration = Duration::from_secs(2);

/// Before another replica is asked.
const TRY_NEXT: Duration = Duration::from_millis(50);

/// Events after which a stream is left on purpose, at most.
const LEAVE_AFTER_MAX: u32 = 400;

/// Accepted sets that the application has not looked at; it then reads no further events.
const ACCEPTED: usize = 256;

/// One subscriber. Gone when dropped.
pub(crate) struct Watcher {
    name: String,
    /// It asked for everything from the first event on.
    from_start: bool,
    seen: Arc<Mutex<Vec<Seen>>>,
    _task: AbortOnDropHandle<()>,
}

impl Watcher {
    /// Begins after the last event that was seen, or with the first there is. Every set that is accepted is also told to
    /// the receiver.
    pub(crate) fn start(
        name: &str,
        roster: Roster,
        before: Option<Seen>,
        seed: u64,
    ) -> (Self, mpsc::Receiver<PaymentHash>) {
        let (accepted, receiver) = mpsc::channel(ACCEPTED);
        let last = before.as_ref().map_or(0, |seen| seen.sequence);
        let from_start = before.is_none();
        let seen = Arc::new(Mutex::new(before.into_iter().collect()));
        let rng = StdRng::seed_from_u64(seed);
        let watching = Watching { roster, rng, seen: Arc::clone(&seen), accepted, last };
        let task = AbortOnDropHandle::new(tokio::spawn(watching.run()));
        (Self { name: name.to_owned(), from_start, seen, _task: task }, receiver)
    }

    /// For people.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether it asked for everything from the first event on.
    pub(crate) fn asked_for_all(&self) -> bool {
        self.from_start
    }

    /// The number of its last event.
    pub(crate) fn last(&self) -> u64 {
        self.seen.lock().last().map_or(0, |seen| seen.sequence)
    }

    /// What it saw, after the event with which it began.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }
}

#[cfg(test)]
impl Watcher {
    /// One that has seen this, and sees nothing more.
    pub(crate) fn having(name: &str, seen: Vec<Seen>) -> Self {
        let task = AbortOnDropHandle::new(tokio::spawn(std::future::pending()));
        Self { name: name.to_owned(), from_start: true, seen: Arc::new(Mutex::new(seen)), _task: task }
    }
}

struct Watching {
    roster: Roster,
    rng: StdRng,
    seen: Arc<Mutex<Vec<Seen>>>,
    accepted: mpsc::Sender<PaymentHash>,
    last: u64,
}

impl Watching {
    async fn run(mut self) {
        loop {
            self.follow().await;
            tokio::time::sleep(TRY_NEXT).await;
        }
    }

    /// One stream, until it breaks, falls silent or was enough.
    async fn follow(&mut self) {
        let client = self.roster.any(&mut self.rng);
        let subscribed = tokio::time::timeout(SILENT, client.events(self.last)).await;
        let Ok(Ok(mut stream)) = subscribed else { return };
        for _ in 0..self.rng.random_range(1..LEAVE_AFTER_MAX) {
            let Ok(Ok(Some(event))) = tokio::time::timeout(SILENT, stream.message()).await else { return };
            self.note(event).await;
        }
    }

    async fn note(&mut self, event: SubscribeEventsResponse) {
        // Out of order or not is for the checker to say.
        self.last = event.sequence;
        self.seen.lock().push(Seen { sequence: event.sequence, what: text(&event) });
        if event.kind() == EventKind::Accepted
            && let Ok(hash) = PaymentHash::try_from(event.hash.as_ref())
        {
            // Nobody listens to a subscriber that only watches.
            let _ = self.accepted.send(hash).await;
        }
    }
}

fn text(event: &SubscribeEventsResponse) -> String {
    format!(
        "{:?} {} {:?} {} msat {} at {} {}",
        event.kind(),
        hex::encode(&event.hash),
        event.invoice_state(),
        event.amount_msat,
        hex::encode(&event.set_id),
        event.log_time_ms,
        event.detail
    )
}
