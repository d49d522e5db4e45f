use super::core::Core;
use super::founding::standing_of;
use crate::machine::{State, level};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

const LOOK: Duration = Duration::from_millis(250);
/// Without a leader for this long, the others are asked whether this replica is a member at all.
const SILENCE: Duration = Duration::from_secs(2);

/// A removed replica hears nothing any more, not even that it was removed: so when no leader speaks to it, it asks.
/// It then takes no part any more and says so in its status.
pub(crate) async fn notice_removal(core: Arc<Core>, stop: CancellationToken) {
    let noticing = async {
        let mut heard = Instant::now();
        loop {
            sleep(LOOK).await;
            let was_member = core.metrics().membership_config.get_node(&core.id).is_some();
            if core.status.borrow().quorum || !was_member {
                heard = Instant::now();
            } else if heard.elapsed() >= SILENCE {
                if is_removed(&core).await {
                    break;
                }
                heard = Instant::now();
            }
        }
        let reason = format!(
            "replica {} was removed from the cluster: it takes no part any more; its data directory is of no use, \
             and its id must never be used again",
            core.id
        );
        tracing::error!("{reason}");
        core.raft.runtime_config().elect(false);
        // Set once, here.
        let _ = core.removed.set(reason);
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = noticing => {}
    }
}

/// Only a leader in office, whose log goes on where this one ends, can say so.
async fn is_removed(core: &Core) -> bool {
    let metrics = core.metrics();
    let mut known: BTreeMap<_, _> = core.initial_members.clone();
    known.extend(metrics.membership_config.nodes().map(|(id, node)| (*id, node.addr.clone())));
    let asked =
        known.iter().filter(|(id, _)| **id != core.id).map(|(id, address)| standing_of(core, *id, address));
    let standings = futures::future::join_all(asked).await;
    let last = metrics.last_log_index.unwrap_or(0);
    // From level 2 on a removal is announced in the log: a newcomer whose addition got lost was not removed.
    let announced = core.cell.read(State::feature_level) >= level::ARCHIVE;
    standings.into_iter().flatten().any(|standing| {
        let gone = if announced { standing.retired } else { standing.not_a_member };
        gone && standing.term >= metrics.current_term && standing.last_log_index >= last
    })
}
