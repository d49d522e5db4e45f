//! How long payers wait after a replica was killed, or stopped without a word.
//!
//! Counted is the time from the signal to the first SETTLE for an HTLC that was locked in after it, at each
//! front node that cannot be paid through without the victim. An HTLC that a front node fails by itself
//! because nobody holds its stream is no answer: the payer tries again, every ten milliseconds.

use super::{
    BenchError, Options,
    drive::{Driver, unix_us},
    mint::{Mint, Shape},
    quantiles::Quantiles,
    setup,
};
use crate::{
    cluster::{Cluster, ClusterError, until},
    story::Story,
};
use mux_proto::lndsim::v1::{Verdict, verdict::Kind as Ended};
use serde::Serialize;
use std::{collections::BTreeSet, time::Duration};
use tokio::time::Instant;

/// Between two payments through a front node that is waited for.
const PROBE_EVERY: Duration = Duration::from_millis(10);

/// Nothing takes this long unless it is broken.
const ANSWER_DEADLINE: Duration = Duration::from_secs(60);

/// A stopped replica stays stopped at least this long: several election timeouts.
const STOPPED_AT_LEAST: Duration = Duration::from_secs(2);

/// Before the next victim, with everything in order: sessions reported, links at rest.
const CALM: Duration = Duration::from_millis(500);

/// What happens to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    KillLeader,
    KillOwner,
    KillBoth,
    StopLeader,
    StopOwner,
}

const KINDS: [Kind; 5] =
    [Kind::KillLeader, Kind::KillOwner, Kind::KillBoth, Kind::StopLeader, Kind::StopOwner];

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::KillLeader => "kill-leader",
            Self::KillOwner => "kill-owner",
            Self::KillBoth => "kill-both",
            Self::StopLeader => "stop-leader",
            Self::StopOwner => "stop-owner",
        }
    }

    fn describe(self) -> &'static str {
        match self {
            Self::KillLeader => "SIGKILL of the leader (holds no link)",
            Self::KillOwner => "SIGKILL of a link owner (does not lead)",
            Self::KillBoth => "SIGKILL of the leader that holds the link",
            Self::StopLeader => "SIGSTOP of the leader (holds no link)",
            Self::StopOwner => "SIGSTOP of a link owner (does not lead)",
        }
    }

    fn stops(self) -> bool {
        matches!(self, Self::StopLeader | Self::StopOwner)
    }
}

/// One kind of failure.
#[derive(Clone, Debug, Serialize)]
pub struct Failover {
    /// Its name.
    pub kind: &'static str,
    /// In words.
    pub what: &'static str,
    /// How often it was done.
    pub times: usize,
    /// From the signal to the next SETTLE, at every front node concerned.
    pub answered: Quantiles,
    /// Each of them, in milliseconds, in the order in which they were measured.
    pub samples_ms: Vec<f64>,
}

pub(super) async fn measure(options: &Options, story: &Story) -> Result<Vec<Failover>, BenchError> {
    let unknown = options.kind.iter().find(|name| KINDS.iter().all(|kind| kind.name() != **name));
    if let Some(unknown) = unknown {
        let names = KINDS.map(Kind::name).join(", ");
        return Err(BenchError::Missing(format!("no kind {unknown}; there are {names}")));
    }
    let mut cluster = setup::start(options, "failover").await?;
    let mint = Mint::open(&cluster).await?;
    let driver = Driver::open(&cluster).await?;
    let mut plot = Plot { cluster: &mut cluster, mint, driver };
    let mut all = Vec::new();
    for kind in KINDS {
        if !options.kind.is_empty() && options.kind.iter().all(|name| name != kind.name()) {
            continue;
        }
        let times = if options.quick { 1 } else { options.kills };
        story.say(format!("failover: {}, {times} times.", kind.describe()));
        let mut samples = Vec::new();
        for number in 0..times {
            samples.extend(plot.once(kind, number).await?);
        }
        all.push(Failover {
            kind: kind.name(),
            what: kind.describe(),
            times,
            samples_ms: samples.iter().map(|us| super::quantiles::ms(*us)).collect(),
            answered: Quantiles::of(samples),
        });
    }
    Ok(all)
}

struct Plot<'a> {
    cluster: &'a mut Cluster,
    mint: Mint,
    driver: Driver,
}

impl Plot<'_> {
    /// Fails one replica, measures, and brings it back.
    async fn once(&mut self, kind: Kind, number: usize) -> Result<Vec<u64>, BenchError> {
        let (victim, lanes) = self.arrange(kind, number).await?;
        tokio::time::sleep(CALM).await;
        let process = &mut self.cluster.replicas[victim].process;
        let began = Instant::now();
        let signalled_us = unix_us();
        if kind.stops() {
            process.pause().map_err(ClusterError::from)?;
        } else {
            process.kill().await.map_err(ClusterError::from)?;
        }
        let samples = self.probe(signalled_us, &lanes).await?;
        if kind.stops() {
            tokio::time::sleep_until(began + STOPPED_AT_LEAST).await;
            self.cluster.replicas[victim].process.resume().map_err(ClusterError::from)?;
        } else {
            self.cluster.restart_replica(victim)?;
        }
        self.healthy().await?;
        Ok(samples)
    }

    /// Puts leadership where the kind wants it. The victim, and the front nodes concerned.
    async fn arrange(&mut self, kind: Kind, number: usize) -> Result<(usize, Vec<usize>), BenchError> {
        let deadline = Instant::now() + setup::READY;
        loop {
            let owners = setup::owners(self.cluster).await?;
            let (leader, victim, lanes) = self.choose(&owners, kind, number)?;
            setup::lead(self.cluster, leader).await?;
            // A link moves with leadership if its owner is slow to follow the new leader.
            if setup::owners(self.cluster).await? == owners {
                return Ok((victim, lanes));
            }
            if Instant::now() >= deadline {
                return Err(BenchError::Missing("links move whenever leadership does".into()));
            }
        }
    }

    /// The leader to be, the victim, and the front nodes concerned.
    fn choose(
        &self,
        owners: &[usize],
        kind: Kind,
        number: usize,
    ) -> Result<(usize, usize, Vec<usize>), BenchError> {
        let lane = number % owners.len();
        let idle = (0..self.cluster.replicas.len()).find(|at| !owners.contains(at));
        let idle = idle.ok_or_else(|| BenchError::Missing("every replica holds a link".into()))?;
        Ok(match kind {
            Kind::KillLeader | Kind::StopLeader => (idle, idle, (0..owners.len()).collect()),
            Kind::KillOwner | Kind::StopOwner => (idle, owners[lane], vec![lane]),
            Kind::KillBoth => (owners[lane], owners[lane], vec![lane]),
        })
    }

    /// Pays through every front node concerned until each has settled something; waits for the other payments.
    async fn probe(&mut self, signalled_us: u64, lanes: &[usize]) -> Result<Vec<u64>, BenchError> {
        let deadline = Instant::now() + ANSWER_DEADLINE;
        let mut waiting: Vec<(usize, BTreeSet<u64>)> =
            lanes.iter().map(|lane| (*lane, BTreeSet::new())).collect();
        let mut answered: Vec<Option<u64>> = vec![None; lanes.len()];
        let mut number = 0;
        loop {
            for (at, (lane, open)) in waiting.iter_mut().enumerate() {
                if answered[at].is_none() {
                    number += 1;
                    let payment = self.mint.payment(number, Shape::SingleAt(*lane))?;
                    open.insert(self.driver.begin(payment).await?);
                }
            }
            if waiting.iter().all(|(_, open)| open.is_empty()) && answered.iter().all(Option::is_some) {
                return Ok(answered.into_iter().flatten().collect());
            }
            if Instant::now() >= deadline {
                let open: usize = waiting.iter().map(|(_, open)| open.len()).sum();
                return Err(BenchError::Missing(format!(
                    "{answered:?} after a minute, {open} payments open"
                )));
            }
            let next_probe = Instant::now() + PROBE_EVERY;
            while Instant::now() < next_probe {
                for verdict in self.driver.next_ends(next_probe).await? {
                    note(&verdict, signalled_us, &mut waiting, &mut answered);
                }
            }
        }
    }

    /// Every replica has applied everything, and every link is up.
    async fn healthy(&mut self) -> Result<(), BenchError> {
        self.cluster.wait_ready(setup::READY).await.map_err(ClusterError::from)?;
        let clients: Vec<_> = self.cluster.replicas.iter().map(|replica| replica.client.clone()).collect();
        let clients = &clients;
        until("every replica has caught up", setup::READY, || async move {
            let asked = clients.iter().map(|client| client.status());
            let all = futures::future::try_join_all(asked).await.ok()?;
            let newest = all.iter().map(|status| status.commit_index).max()?;
            all.iter().all(|status| status.applied_index + 5 >= newest).then_some(())
        })
        .await
        .map_err(ClusterError::from)?;
        Ok(())
    }
}

fn note(
    verdict: &Verdict,
    signalled_us: u64,
    waiting: &mut [(usize, BTreeSet<u64>)],
    answered: &mut [Option<u64>],
) {
    for ((_, open), answered) in waiting.iter_mut().zip(answered) {
        if open.remove(&verdict.tag)
            && verdict.kind() == Ended::Settled
            && verdict.added_unix_us >= signalled_us
        {
            let after_us = verdict.ended_unix_us.saturating_sub(signalled_us);
            *answered = Some(answered.map_or(after_us, |before| before.min(after_us)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_settle_of_a_payment_after_the_signal_counts_and_the_first_one() {
        let mut waiting = vec![(0, BTreeSet::from([1, 2, 3, 4])), (1, BTreeSet::from([5]))];
        let mut answered = vec![None, None];
        let mut tell = |tag, kind: Ended, added_unix_us, ended_unix_us| {
            let verdict =
                Verdict { tag, kind: kind.into(), added_unix_us, ended_unix_us, ..Verdict::default() };
            note(&verdict, 100, &mut waiting, &mut answered);
            answered.clone()
        };
        assert_eq!(tell(1, Ended::Settled, 99, 150), [None, None], "locked in before the signal");
        assert_eq!(tell(2, Ended::FailedByNode, 110, 111), [None, None], "nobody was there");
        assert_eq!(tell(3, Ended::Settled, 120, 900), [Some(800), None]);
        assert_eq!(tell(4, Ended::Settled, 130, 850), [Some(750), None]);
        assert_eq!(tell(5, Ended::Settled, 130, 400), [Some(750), Some(300)]);
    }
}
