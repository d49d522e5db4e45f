//! The demo's plot: calm, the leader dies, a link owner dies, the reckoning.

use super::{
    DemoError, DemoOptions, Outcome,
    failover::{Kill, failover_ms},
    load::{Job, Load, Mix},
};
use crate::{
    cluster::Cluster,
    ledger::{Ledger, check::check, unix_ms},
    payer::Patience,
    story::Story,
};
use mux_raft::types::NodePubkey;
use std::{sync::Arc, time::Duration};
use tokio::{sync::Semaphore, task::JoinSet};

/// Payments under way at a time.
const CONCURRENT: usize = 8;

/// Between two payments' beginnings: the load lasts longer than a failover.
const SPACING: Duration = Duration::from_millis(25);

/// What those pay who wait at a front node whose replica was killed.
const WAITING_MSAT: u64 = 100_000;

/// How long a restarted replica may take until the cluster is whole again.
const READY_DEADLINE: Duration = Duration::from_secs(60);

/// How long the end may take.
const REST_DEADLINE: Duration = Duration::from_secs(60);

/// Runs the plot.
pub(super) async fn run(
    cluster: &mut Cluster,
    options: &DemoOptions,
    story: &Story,
) -> Result<Outcome, DemoError> {
    introduce(cluster, story).await;
    let ledger = Arc::new(Ledger::default());
    let load = Load::new(cluster, ledger.clone(), Patience::default(), options.seed).await?;
    let mut plot = Plot { cluster, load, ledger, story, next: 0, kills: Vec::new() };
    if options.payments > 0 {
        let third = options.payments / 3;
        story.say("Paying: stored and stateless invoices, one to four parts over both nodes, some wrong on purpose.");
        plot.calm(third).await?;
        plot.without(Victim::Leader, third).await?;
        plot.without(Victim::LinkOwner, options.payments - 2 * third).await?;
    }
    plot.reckon().await
}

async fn introduce(cluster: &mut Cluster, story: &Story) {
    let leader =
        cluster.leader().await.map_or_else(|| "nobody".into(), |at| cluster.replicas[at].name.clone());
    let mut links = Vec::new();
    let nodes: Vec<_> = cluster.lnds.iter().map(|lnd| (lnd.alias.clone(), lnd.node)).collect();
    for (alias, node) in nodes {
        let owner = cluster.owner_of(node).await;
        let owner = owner.map_or_else(|| "nobody".into(), |at| cluster.replicas[at].name.clone());
        links.push(format!("{alias}'s HTLCs go to {owner}"));
    }
    story.say(format!("Ready: {leader} leads, {}.", links.join(", ")));
    let metrics: Vec<_> =
        cluster.replicas.iter().map(|replica| format!("http://{}/metrics", replica.metrics)).collect();
    story.say(format!("Data and logs are in {}, metrics at {}.", cluster.dir().display(), metrics.join(" ")));
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Leader,
    LinkOwner,
}

struct Plot<'a> {
    cluster: &'a mut Cluster,
    load: Load,
    ledger: Arc<Ledger>,
    story: &'a Story,
    /// Number of the next payment.
    next: usize,
    kills: Vec<Kill>,
}

impl Plot<'_> {
    async fn calm(&mut self, payments: usize) -> Result<(), DemoError> {
        let mut running = JoinSet::new();
        self.begin(payments, &mut running).await;
        finish(&mut running).await?;
        self.tell_totals();
        Ok(())
    }

    /// Kills somebody in the first quarter of a stretch of payments, and brings it back at the end.
    async fn without(&mut self, victim: Victim, payments: usize) -> Result<(), DemoError> {
        let Some((at, kill)) = self.choose(victim).await else {
            return Err(DemoError::Missing(format!("no {victim:?} to kill")));
        };
        let mut running = JoinSet::new();
        // Those who will wait at each front node concerned. Their invoices are made while all is well.
        let waiting = kill.concerned.len().min(payments);
        let mut invoices = Vec::new();
        for front in kill.concerned.iter().take(waiting) {
            invoices.push((*front, self.load.invoice(WAITING_MSAT, true, 0).await?));
        }
        let before = (payments - waiting) / 4;
        self.begin(before, &mut running).await;
        self.story.say(format!(
            "SIGKILL to {} ({}) while {} payments are under way.",
            kill.replica,
            kill.role,
            running.len()
        ));
        // Where nobody waits, the next answer says when somebody came, not when it was possible.
        let concerned = invoices.iter().map(|(front, _)| *front).collect();
        let kill = Kill { unix_ms: unix_ms(), concerned, ..kill };
        self.cluster.replicas[at].process.kill().await.map_err(crate::cluster::ClusterError::from)?;
        for (front, invoice) in invoices {
            let load = self.load.clone();
            running.spawn(async move { load.insist(invoice, front).await });
        }
        self.begin(payments - waiting - before, &mut running).await;
        finish(&mut running).await?;
        self.tell_failover(&kill).await?;
        self.kills.push(kill);
        self.cluster.restart_replica(at)?;
        self.cluster.wait_ready(READY_DEADLINE).await.map_err(crate::cluster::ClusterError::from)?;
        let leader = self.cluster.leader().await;
        let leader = leader.map_or_else(|| "nobody".into(), |at| self.cluster.replicas[at].name.clone());
        self.story.say(format!("{} is back and caught up; {leader} leads.", self.cluster.replicas[at].name));
        self.tell_totals();
        Ok(())
    }

    /// Begins the next payments, a few at a time; returns when the last has begun.
    async fn begin(&mut self, payments: usize, running: &mut JoinSet<Result<(), DemoError>>) {
        let slots = Arc::new(Semaphore::new(CONCURRENT.saturating_sub(running.len()).max(1)));
        let mut left = payments;
        while left > 0 {
            let job = Mix { honest: false }.job(self.next);
            // An invoice that is paid twice takes two payments.
            let cost = if job == Job::Cheat(crate::payer::Deviation::AlreadyPaid) { 2 } else { 1 };
            let job = if cost > left { Mix { honest: true }.job(self.next) } else { job };
            left -= cost.min(left);
            if self.next.is_multiple_of(5) {
                let load = self.load.clone();
                running.spawn(async move { load.run(Job::Forward).await });
            }
            self.next += 1;
            let load = self.load.clone();
            let slots = slots.clone();
            let slot = slots.acquire_owned().await;
            running.spawn(async move {
                let _slot = slot;
                load.run(job).await
            });
            tokio::time::sleep(SPACING).await;
        }
    }

    async fn choose(&mut self, victim: Victim) -> Option<(usize, Kill)> {
        let leader = self.cluster.leader().await?;
        let nodes: Vec<(String, NodePubkey)> =
            self.cluster.lnds.iter().map(|lnd| (lnd.alias.clone(), lnd.node)).collect();
        let mut owned: Vec<Vec<(String, NodePubkey)>> = vec![Vec::new(); self.cluster.replicas.len()];
        for node in &nodes {
            if let Some(owner) = self.cluster.owner_of(node.1).await {
                owned[owner].push(node.clone());
            }
        }
        let at = match victim {
            Victim::Leader => leader,
            // One that does nothing else shows what losing a link alone costs.
            Victim::LinkOwner => {
                let owners = || (0..owned.len()).filter(|at| !owned[*at].is_empty());
                owners().find(|at| *at != leader).or_else(|| owners().next())?
            }
        };
        let mut roles = Vec::new();
        if at == leader {
            roles.push("the leader".to_owned());
        }
        roles.extend(owned[at].iter().map(|(alias, _)| format!("holds {alias}'s stream")));
        // Without a leader nobody can be paid anywhere; without a link owner, not through its node.
        let concerned = if at == leader { &nodes } else { &owned[at] };
        let kill = Kill {
            replica: self.cluster.replicas[at].name.clone(),
            role: roles.join(", "),
            unix_ms: 0,
            concerned: concerned.iter().map(|(_, node)| *node).collect(),
        };
        Some((at, kill))
    }

    fn tell_totals(&self) {
        let totals = self.ledger.totals();
        let mut text = format!(
            "{} payments so far: {} settled, {} failed as they must",
            totals.payments,
            totals.settled,
            totals.failed - totals.failed_unintended
        );
        for (count, what) in [
            (totals.failed_unintended, "failed though they were right"),
            (totals.partial, "paid in part"),
            (totals.undecided, "without an end"),
        ] {
            if count > 0 {
                text.push_str(&format!(", {count} {what}"));
            }
        }
        self.story.say(text + ".");
    }

    async fn tell_failover(&self, kill: &Kill) -> Result<(), DemoError> {
        let mut told = Vec::new();
        for lnd in &self.cluster.lnds {
            if kill.concerned.contains(&lnd.node)
                && let Some(ms) = failover_ms(kill, &lnd.books().await?)
            {
                told.push(format!("{ms} ms later through {}", lnd.alias));
            }
        }
        if !told.is_empty() {
            self.story.say(format!("Payments went on without {}: {}.", kill.replica, told.join(", ")));
        }
        Ok(())
    }

    async fn reckon(self) -> Result<Outcome, DemoError> {
        self.story.say("Counting the money: payer against LND nodes against every replica.");
        let payments = self.ledger.snapshot();
        let file = self.cluster.dir().join("payments.json");
        std::fs::write(file, serde_json::to_vec_pretty(&payments).map_err(std::io::Error::from)?)?;
        let view = self.cluster.take_books(&payments, REST_DEADLINE).await?;
        let mut times = Vec::new();
        for kill in &self.kills {
            let concerned = view.lnds.iter().filter(|lnd| kill.concerned.contains(&lnd.node));
            times.extend(concerned.filter_map(|lnd| failover_ms(kill, lnd)));
        }
        times.sort_unstable();
        let mut violations = check(&payments, &view);
        violations.extend(self.cluster.look_for_leaks().await?.violations);
        Ok(Outcome { totals: self.ledger.totals(), kills: self.kills, failover_ms: times, violations })
    }
}

/// Waits for every payment; the first that could not be made at all is the error.
async fn finish(running: &mut JoinSet<Result<(), DemoError>>) -> Result<(), DemoError> {
    while let Some(ended) = running.join_next().await {
        ended.map_err(|error| DemoError::Missing(format!("a payment's task ended: {error}")))??;
    }
    Ok(())
}
