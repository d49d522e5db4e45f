//! Those who use the cluster while it is tormented, and write down what they see.
//!
//! * `cases` make invoices that several clients look up, settle, cancel and pay at once: the history;
//! * `application` settles and cancels what is accepted, when the cluster does not by itself;
//! * `watcher` follows the events, `probe` pays through one LND all the time, to see for how long nothing goes;
//! * further load of all kinds, also of payers who cheat, is the demo's.

pub(crate) mod application;
pub(crate) mod cases;
mod outcome;
pub(crate) mod probe;
pub(crate) mod roster;
pub(crate) mod watcher;

use crate::{
    check::{
        history::{History, Pending},
        invoice::{Action, Outcome},
    },
    cluster::{CallError, ReplicaClient},
    ledger::InvoiceView,
};
use mux_raft::types::PaymentHash;
use outcome::{Heard, heard};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use roster::Roster;
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::{sync::watch, time::Instant};

/// Before a call that came to nothing is repeated, at any replica.
const TRY_AGAIN: Duration = Duration::from_millis(80);

/// How long a client tries to get an answer that it can believe.
const TRY_FOR: Duration = Duration::from_secs(20);

/// Preimages of invoices that nobody had decided: whose, and where.
pub(crate) type Shown = Arc<Mutex<Vec<String>>>;

/// What all clients of a round share.
#[derive(Clone)]
pub(crate) struct Clients {
    /// Whom to ask.
    pub(crate) roster: Roster,
    /// What was asked, and answered.
    pub(crate) history: History,
    /// Invoices whose whole history is known.
    pub(crate) known: Arc<Mutex<BTreeSet<PaymentHash>>>,
    /// The cluster settles by itself.
    pub(crate) auto_settle: bool,
    /// What nobody may ever be shown, and was.
    pub(crate) shown: Shown,
    /// The round is over: no new work shall begin.
    pub(crate) over: watch::Receiver<bool>,
}

/// What a client does to an invoice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    Settle,
    Cancel,
}

impl Clients {
    /// See `over`.
    pub(crate) fn is_over(&self) -> bool {
        *self.over.borrow()
    }

    /// The call is written down if the whole history of its invoice is.
    fn invoke(&self, hash: PaymentHash, action: Action) -> Option<Pending> {
        let known = self.known.lock().contains(&hash);
        known.then(|| self.history.invoke(hash, action))
    }

    /// Settles or cancels, at one replica after the other, until it is done or refused; `false`: not known in time.
    pub(crate) async fn insist(&self, hash: PaymentHash, deed: Deed, rng: &mut StdRng) -> bool {
        let deadline = Instant::now() + TRY_FOR;
        while Instant::now() < deadline {
            let client = self.roster.any(rng);
            if self.attempt(&client, hash, deed).await {
                return true;
            }
            tokio::time::sleep(TRY_AGAIN).await;
        }
        false
    }

    async fn attempt(&self, client: &ReplicaClient, hash: PaymentHash, deed: Deed) -> bool {
        let action = match deed {
            Deed::Settle => Action::Settle,
            Deed::Cancel => Action::Cancel,
        };
        let pending = self.invoke(hash, action);
        let result = match deed {
            Deed::Settle => client.settle(hash).await.map(drop),
            Deed::Cancel => client.cancel(hash, "").await,
        };
        let heard = heard(&result);
        if let Some(pending) = pending {
            match heard {
                Heard::Done => pending.returned(Outcome::Done),
                Heard::Refused => pending.returned(Outcome::Refused),
                Heard::Nothing => pending.withdrawn(),
                // The call stays in the history without an answer.
                Heard::Unknown => drop(pending),
            }
        }
        matches!(heard, Heard::Done | Heard::Refused)
    }

    /// One linearizable read at this replica.
    pub(crate) async fn look(
        &self,
        client: &ReplicaClient,
        hash: PaymentHash,
    ) -> Result<Option<mux_proto::mux::v1::InvoiceState>, CallError> {
        let pending = self.invoke(hash, Action::Lookup);
        let result = client.invoice(hash).await;
        if let Ok(Some(invoice)) = &result
            && InvoiceView::from(invoice).shows_too_early()
        {
            let text = format!("invoice {hash} is {:?}, and its preimage is shown", invoice.state());
            self.shown.lock().push(text);
        }
        let state = result.map(|invoice| invoice.map(|invoice| invoice.state()));
        let outcome = match &state {
            Ok(Some(state)) => model_state(*state).map(Outcome::Found),
            Ok(None) => Some(Outcome::NotFound),
            Err(_) => None,
        };
        match (pending, outcome) {
            (Some(pending), Some(outcome)) => pending.returned(outcome),
            (Some(pending), None) => pending.withdrawn(),
            (None, _) => {}
        }
        state
    }
}

fn model_state(state: mux_proto::mux::v1::InvoiceState) -> Option<mux_raft::machine::model::InvoiceState> {
    use mux_proto::mux::v1::InvoiceState as Told;
    use mux_raft::machine::model::InvoiceState as Known;
    Some(match state {
        Told::Unspecified => return None,
        Told::Open => Known::Open,
        Told::Accepted => Known::Accepted,
        Told::Settling => Known::Settling,
        Told::Settled => Known::Settled,
        Told::Partial => Known::Partial,
        Told::Canceled => Known::Canceled,
        Told::Expired => Known::Expired,
    })
}
