//! Who holds which front node's stream: the leader's task.
//!
//! The assignment is in the log, so that every replica follows the same one. It decides only who connects;
//! safety rests on sessions and on LND's single stream. What is decided is pure (`Planner`); this
//! task feeds it and proposes what it says. A dead owner shows by acknowledgements that do not come, so
//! while the log is quiet the task proposes a tick now and then to have something acknowledged.

mod liveness;
mod planner;

use crate::link::LinksConfig;
use mux_raft::consensus::Consensus;
use mux_raft::machine::Command;
use mux_raft::types::LogIndex;
use planner::Planner;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// How long one proposal may take; whatever is still needed then is proposed again.
const PROPOSAL_DEADLINE: Duration = Duration::from_secs(1);

/// Runs until stopped; does nothing unless this replica leads.
pub(crate) async fn run(
    config: Arc<LinksConfig>,
    consensus: Arc<dyn Consensus>,
    draining: watch::Receiver<bool>,
    stop: CancellationToken,
) {
    let started = Instant::now();
    let mut planner = Planner::new(Arc::clone(&config));
    let mut raft = consensus.status();
    let mut quiet: (LogIndex, Instant) = (0, started);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(config.assign.interval) => {}
            Ok(()) = raft.changed() => {}
        }
        let status = raft.borrow_and_update().clone();
        let now = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        if !status.leads {
            planner.reset();
            if let Some(leader) = status.leader.filter(|leader| *leader != status.id) {
                planner.led_by(leader);
            }
            continue;
        }
        planner.observe(&status, now);
        let is_draining = *draining.borrow();
        let commands = consensus.state().read(|state| planner.plan(state, &status, is_draining, now));
        for command in commands {
            if let Command::AssignLink { node, replica } = &command {
                tracing::info!(front_node = %node.short(), ?replica, "assigning the link");
            }
            propose(&*consensus, command).await;
        }
        if status.last_log_index != quiet.0 {
            quiet = (status.last_log_index, Instant::now());
        } else if status.members.len() > 1 && quiet.1.elapsed() >= config.assign.probe_interval {
            propose(&*consensus, Command::Tick).await;
            quiet.1 = Instant::now();
        }
    }
}

async fn propose(consensus: &dyn Consensus, command: Command) {
    match timeout(PROPOSAL_DEADLINE, consensus.propose(command, None)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::debug!(%error, "assignment was not proposed"),
        Err(_) => tracing::debug!("assignment was not committed in time"),
    }
}
