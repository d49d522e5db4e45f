//! Random faults, never more than the promises allow: a minority of the replicas at a time, and LND nodes as
//! they please.

use super::{Cluster, ClusterError, Way};
use crate::payer::PeerError;
use mux_proto::lndsim::v1::{
    ChannelRef, CutStreamsRequest, Power, RestartRequest, SetHeightRequest, SetStageLimitRequest, Stage,
    cut_streams_request::Mode, restart_request::Phase,
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use std::{collections::BTreeMap, time::Duration};
use tokio::time::Instant;
use tonic::{Code, Status};

/// What was done how often, by name.
pub type FaultCounts = BTreeMap<&'static str, u64>;

/// Breaks things for a while. Which, when and how follows from the seed.
pub struct Faults {
    rng: StdRng,
    counts: FaultCounts,
    /// A replica that is down or paused, and until when.
    victim: Option<(usize, Instant, bool)>,
    /// A way between a replica and an LND that is not open, and until when.
    way: Option<(usize, usize, Instant)>,
}

impl Faults {
    /// Nothing is broken yet.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { rng: StdRng::seed_from_u64(seed), counts: FaultCounts::new(), victim: None, way: None }
    }

    /// Breaks things until the time is over, then mends everything.
    ///
    /// # Errors
    /// [`ClusterError`], if a process cannot be signalled or started, or an LND does not answer.
    pub async fn run(
        mut self,
        cluster: &mut Cluster,
        duration: Duration,
    ) -> Result<FaultCounts, ClusterError> {
        let end = Instant::now() + duration;
        while Instant::now() < end {
            let pause = self.rng.random_range(100..900);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            self.mend_replica(cluster, false)?;
            self.mend_way(cluster, false);
            if self.victim.is_none() && self.rng.random_bool(0.6) {
                self.break_replica(cluster).await?;
            } else {
                self.break_lnd(cluster).await?;
            }
        }
        self.mend_replica(cluster, true)?;
        self.mend_way(cluster, true);
        Ok(self.counts)
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    async fn break_replica(&mut self, cluster: &mut Cluster) -> Result<(), ClusterError> {
        let at = match self.rng.random_range(0..3) {
            // The leader's loss is the one that matters most.
            0 => cluster.leader().await.unwrap_or(0),
            _ => self.rng.random_range(0..cluster.replicas.len()),
        };
        let down = Duration::from_millis(self.rng.random_range(200..4_000));
        let paused = self.rng.random_bool(0.5);
        let process = &mut cluster.replicas[at].process;
        if paused {
            process.pause()?;
            self.count("replica paused");
        } else {
            process.kill().await?;
            self.count("replica killed");
        }
        self.victim = Some((at, Instant::now() + down, paused));
        Ok(())
    }

    fn mend_replica(&mut self, cluster: &mut Cluster, at_once: bool) -> Result<(), ClusterError> {
        let Some((at, until, paused)) = self.victim else { return Ok(()) };
        if !at_once && Instant::now() < until {
            return Ok(());
        }
        self.victim = None;
        if paused {
            cluster.replicas[at].process.resume()?;
        } else {
            cluster.restart_replica(at)?;
        }
        Ok(())
    }

    /// Only in a cluster with proxies.
    fn break_way(&mut self, cluster: &Cluster) {
        if self.way.is_some() || cluster.ways.is_empty() {
            return;
        }
        let replica = self.rng.random_range(0..cluster.ways.len());
        let lnd = self.rng.random_range(0..cluster.ways[replica].len());
        let (way, what) =
            if self.rng.random_bool(0.5) { (Way::Cut, "way cut") } else { (Way::Stalled, "way stalled") };
        cluster.ways[replica][lnd].set(way);
        self.count(what);
        let down = Duration::from_millis(self.rng.random_range(200..6_000));
        self.way = Some((replica, lnd, Instant::now() + down));
    }

    fn mend_way(&mut self, cluster: &Cluster, at_once: bool) {
        if let Some((replica, lnd, until)) = self.way
            && (at_once || Instant::now() >= until)
        {
            cluster.ways[replica][lnd].set(Way::Open);
            self.way = None;
        }
    }

    async fn break_lnd(&mut self, cluster: &mut Cluster) -> Result<(), ClusterError> {
        let at = self.rng.random_range(0..cluster.lnds.len());
        let mut control = cluster.lnds[at].control();
        match self.rng.random_range(0..12) {
            10 | 11 => {
                self.break_way(cluster);
                Ok(())
            }
            0 | 1 => {
                self.count("lnd restarted");
                let down = Phase { power: Power::Down.into(), duration_ms: self.rng.random_range(10..1_500) };
                let starting =
                    Phase { power: Power::RpcActive.into(), duration_ms: self.rng.random_range(0..300) };
                let graceful = self.rng.random_bool(0.5);
                let request =
                    RestartRequest { phases: vec![down, starting], graceful, peers_stay_offline: false };
                done(control.restart(request).await)
            }
            2 => {
                self.count("lnd process killed");
                cluster.restart_lnd(at).await
            }
            3 | 4 => {
                self.count("streams cut");
                let hold_slot_ms = self.rng.random_range(0..500);
                let request =
                    CutStreamsRequest { mode: Mode::Reset.into(), hold_slot_ms, all_connections: true };
                done(control.cut_streams(request).await)
            }
            5 | 6 => {
                self.count("peer flapped");
                let channels = cluster.lnds[at].state().await?.channels;
                let chan_id = channels[self.rng.random_range(0..channels.len())].chan_id;
                done(control.peer_flap(ChannelRef { chan_id }).await)
            }
            7 => {
                self.count("answers delayed on their way");
                let limit = [Stage::Mailbox, Stage::Sent, Stage::Signed][self.rng.random_range(0..3)];
                let release_after_ms = self.rng.random_range(50..1_500);
                let request = SetStageLimitRequest { chan_id: 0, limit: limit.into(), release_after_ms };
                done(control.set_stage_limit(request).await)
            }
            _ => {
                self.count("block mined");
                self.mine(cluster).await
            }
        }
    }

    /// There is one chain: every node sees its tip, one that is down when it is back.
    async fn mine(&mut self, cluster: &Cluster) -> Result<(), ClusterError> {
        let mut height = 0;
        for lnd in &cluster.lnds {
            let chain = lnd.state().await?.chain.unwrap_or_default();
            height = height.max(chain.tip_height);
        }
        for lnd in &cluster.lnds {
            done(lnd.control().set_height(SetHeightRequest { height: height + 1 }).await)?;
        }
        Ok(())
    }
}

/// A fault that the node refuses at the moment (it is down, say) is no fault.
fn done<T>(result: Result<tonic::Response<T>, Status>) -> Result<(), ClusterError> {
    match result {
        Ok(_) => Ok(()),
        Err(status) if status.code() == Code::FailedPrecondition => Ok(()),
        Err(status) => Err(PeerError::Unavailable(status.to_string()).into()),
    }
}
