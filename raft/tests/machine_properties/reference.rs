//! The same rules, told again the slow way: lists, no indexes, everything recomputed whenever it is asked.
//!
//! Written from the rules and not from the machine. It knows verdicts and invoice states, no events.

#![allow(unreachable_pub, clippy::unwrap_used)]

use mux_raft::machine::command::*;
use mux_raft::machine::model::*;
use mux_raft::types::*;

#[path = "commands.rs"]
mod commands;

struct Node {
    node: NodePubkey,
    assigned: Option<ReplicaId>,
    sessions_given: u64,
    session: Option<Link>,
    former: Vec<RequestId>,
    tip: Option<Tip>,
}

struct Link {
    id: u64,
    owner: ReplicaId,
    stream: RequestId,
    term: u64,
    heard_ms: u64,
    inactive: Vec<u64>,
}

pub struct Part {
    pub key: CircuitKey,
    pub hash: PaymentHash,
    amount: u128,
    expiry: BlockHeight,
    session: u64,
    gone: bool,
    on_chain: bool,
    pub verdict: Option<Verdict>,
    end: Option<bool>,
    unconfirmed: bool,
}

pub struct Bill {
    pub hash: PaymentHash,
    secret: PaymentSecret,
    terms: InvoiceTerms,
    pub state: InvoiceState,
    pub attempt: u32,
    total: u128,
    started_ms: u64,
    accepted_ms: u64,
    intent: bool,
    tombstone: bool,
    pub received: u128,
}

pub struct Reference {
    term: u64,
    time_ms: u64,
    grace_ms: u64,
    settings: Settings,
    nodes: Vec<Node>,
    pub parts: Vec<Part>,
    pub bills: Vec<Bill>,
    pub decisions: Vec<PaymentHash>,
}

use DetailsCause as Cause;
use InvoiceState as Is;

impl Reference {
    pub fn new() -> Self {
        Self {
            term: 0,
            time_ms: 0,
            grace_ms: 0,
            settings: Settings::default(),
            nodes: vec![],
            parts: vec![],
            bills: vec![],
            decisions: vec![],
        }
    }

    pub fn apply(&mut self, term: u64, entry: Option<(u64, &Command)>) {
        self.term = term;
        let Some((time_ms, command)) = entry else { return };
        let former = self.time_ms;
        self.time_ms = former.max(time_ms);
        if former > 0 && self.time_ms - former > 5_000 {
            self.grace_ms = self.time_ms + 10_000;
        }
        self.due();
        self.command(command);
        self.due();
        match command {
            Command::Tick | Command::Configure(_) => self.try_all(None),
            Command::LinkUp { node, .. }
            | Command::LinkReport { node, .. }
            | Command::HtlcFinals { node, .. } => self.try_all(Some(*node)),
            _ => {}
        }
        self.forget();
    }

    // Heights.

    fn is_fresh(&self, node: &Node) -> bool {
        node.tip.is_some_and(|tip| tip.synced && self.time_ms - tip.confirmed_at_ms <= 60_000)
    }

    fn fresh_heights(&self) -> Vec<u32> {
        self.nodes.iter().filter(|node| self.is_fresh(node)).map(|node| node.tip.unwrap().height).collect()
    }

    fn first_median(&self) -> Option<u32> {
        let mut heights = self.fresh_heights();
        heights.sort();
        (!heights.is_empty()).then(|| heights[heights.len() / 2])
    }

    fn is_flagged(&self, node: &Node) -> bool {
        let Some(median) = self.first_median() else { return false };
        self.is_fresh(node)
            && self.fresh_heights().len() != 2
            && node.tip.unwrap().height.abs_diff(median) > 6
    }

    fn median(&self) -> Option<u32> {
        let nodes = self.nodes.iter().filter(|node| self.is_fresh(node) && !self.is_flagged(node));
        let mut heights: Vec<_> = nodes.map(|node| node.tip.unwrap().height).collect();
        heights.sort();
        (!heights.is_empty()).then(|| heights[heights.len() / 2])
    }

    fn height(&self, key: &NodePubkey) -> Option<u32> {
        let own = self.nodes.iter().find(|node| node.node == *key)?.tip.map(|tip| tip.height);
        match (own, self.median()) {
            (Some(own), Some(median)) => Some(own.max(median)),
            (own, median) => own.or(median),
        }
    }

    fn lowest(&self, key: &NodePubkey) -> Option<u32> {
        let own = self.nodes.iter().find(|node| node.node == *key)?.tip?.height;
        let mut heights = self.fresh_heights();
        heights.push(own);
        heights.into_iter().min()
    }

    // Sets.

    fn bill(&mut self, hash: &PaymentHash) -> Option<&mut Bill> {
        self.bills.iter_mut().find(|bill| bill.hash == *hash)
    }

    /// The undecided parts of the attempt under way.
    fn set(&self, hash: &PaymentHash) -> Vec<&Part> {
        self.parts.iter().filter(|part| part.hash == *hash && part.verdict.is_none()).collect()
    }

    fn sum(&self, hash: &PaymentHash) -> u128 {
        self.set(hash).iter().map(|part| part.amount).sum()
    }

    fn due(&mut self) {
        let margin = self.settings.margin_blocks;
        let hashes: Vec<_> = self.bills.iter().map(|bill| bill.hash).collect();
        let late = |this: &Self, part: &&Part| {
            this.height(&part.key.node).is_some_and(|height| height >= part.expiry - 22 - margin)
        };
        for hash in &hashes {
            if self.set(hash).iter().any(|part| late(self, part)) {
                self.fail(hash, |height, _| details(height, Cause::Deadline));
            }
        }
        for hash in &hashes {
            if self.set(hash).is_empty() || self.time_ms < self.grace_ms {
                continue;
            }
            let (time_ms, settings) = (self.time_ms, self.settings.clone());
            let bill = self.bill(hash).unwrap();
            let hold = bill.terms.kind == InvoiceKind::Hold;
            let accept_due = time_ms >= bill.accepted_ms + settings.accept_timeout_ms;
            if bill.state == Is::Open && time_ms >= bill.started_ms + settings.mpp_timeout_ms {
                self.fail(hash, |_, _| FailReason::MppTimeout);
            } else if bill.state == Is::Accepted && !hold && accept_due {
                if settings.auto_settle || bill.intent {
                    self.fail(hash, |_, _| temporary(TemporaryCause::GateClosed));
                } else {
                    self.fail(hash, |height, _| details(height, Cause::AcceptTimeout));
                }
            }
        }
        for hash in &hashes {
            let time_ms = self.time_ms;
            let bill = self.bill(hash).unwrap();
            if bill.state == Is::Open && time_ms >= bill.terms.expires_at_ms {
                self.fail(hash, |height, _| details(height, Cause::Expired));
                self.bill(hash).unwrap().state = Is::Expired;
            }
        }
    }

    fn fail(&mut self, hash: &PaymentHash, reason: impl Fn(u32, CircuitKey) -> FailReason) {
        let keys: Vec<_> = self.set(hash).iter().map(|part| part.key).collect();
        for key in &keys {
            let height = self.height(&key.node).unwrap_or(0);
            let part = self.parts.iter_mut().find(|part| part.key == *key).unwrap();
            part.verdict = Some(Verdict::Fail(reason(height, *key)));
        }
        let time_ms = self.time_ms;
        let bill = self.bill(hash).unwrap();
        if !keys.is_empty() {
            bill.intent = false;
            bill.state = if time_ms >= bill.terms.expires_at_ms { Is::Expired } else { Is::Open };
        }
    }

    fn accept_if_full(&mut self, hash: &PaymentHash) {
        let (sum, time_ms) = (self.sum(hash), self.time_ms);
        let bill = self.bill(hash).unwrap();
        if bill.state == Is::Open && sum >= bill.total {
            bill.state = Is::Accepted;
            bill.accepted_ms = time_ms;
        }
    }

    fn gate(&self, hash: &PaymentHash) -> bool {
        let parts = self.set(hash);
        parts.iter().all(|part| {
            let node = self.nodes.iter().find(|node| node.node == part.key.node).unwrap();
            let Some(link) = &node.session else { return false };
            let live = link.id == part.session && link.term == self.term;
            let heard = self.time_ms - link.heard_ms <= 3_000;
            let deadline = part.expiry - 22 - self.settings.margin_blocks;
            let in_time = self.height(&node.node).is_some_and(|height| height < deadline);
            let active = parts.len() == 1 || !link.inactive.contains(&part.key.chan_id);
            let known = self.is_fresh(node) && !self.is_flagged(node);
            live && heard && !part.gone && !part.on_chain && in_time && active && known
        })
    }

    fn try_all(&mut self, node: Option<NodePubkey>) {
        let mut hashes: Vec<_> = self
            .bills
            .iter()
            .filter(|bill| bill.state == Is::Accepted)
            .filter(|bill| bill.intent || self.settings.auto_settle && bill.terms.kind != InvoiceKind::Hold)
            .map(|bill| bill.hash)
            .filter(|hash| node.is_none_or(|node| self.set(hash).iter().any(|part| part.key.node == node)))
            .collect();
        hashes.sort();
        for hash in hashes {
            if self.gate(&hash) {
                self.decide(&hash);
            }
        }
    }

    fn decide(&mut self, hash: &PaymentHash) {
        for part in self.parts.iter_mut().filter(|part| part.hash == *hash && part.verdict.is_none()) {
            part.verdict = Some(Verdict::Settle);
        }
        self.bill(hash).unwrap().state = Is::Settling;
        self.decisions.push(*hash);
    }

    fn forget(&mut self) {
        let time_ms = self.time_ms;
        self.bills.retain(|bill| !bill.tombstone || time_ms < bill.terms.expires_at_ms + 3_600_000);
        let parts = std::mem::take(&mut self.parts);
        let kept = parts.into_iter().filter(|part| {
            let node = self.nodes.iter().find(|node| node.node == part.key.node).unwrap();
            let present = node.session.as_ref().is_some_and(|link| link.id == part.session);
            let over = self.lowest(&node.node).is_some_and(|height| height > part.expiry + 6);
            match part.verdict {
                Some(Verdict::Fail(_)) if part.end == Some(true) => true,
                Some(Verdict::Fail(_)) => !over && (part.end.is_none() || present),
                Some(Verdict::Settle) | None => true,
            }
        });
        self.parts = kept.collect();
        for at in 0..self.parts.len() {
            let over =
                |part: &Part| self.lowest(&part.key.node).is_some_and(|height| height > part.expiry + 144);
            let part = &self.parts[at];
            if part.verdict == Some(Verdict::Settle) && part.end.is_none() && over(part) {
                self.parts[at].unconfirmed = true;
            }
        }
    }
}

impl Bill {
    fn new(hash: PaymentHash, secret: &PaymentSecret, terms: InvoiceTerms) -> Self {
        Self {
            hash,
            secret: secret.clone(),
            terms,
            state: Is::Open,
            attempt: 0,
            total: 0,
            started_ms: 0,
            accepted_ms: 0,
            intent: false,
            tombstone: false,
            received: 0,
        }
    }
}

fn details(height: BlockHeight, cause: Cause) -> FailReason {
    FailReason::IncorrectDetails { height, cause }
}

fn temporary(cause: TemporaryCause) -> FailReason {
    FailReason::Temporary { cause }
}
