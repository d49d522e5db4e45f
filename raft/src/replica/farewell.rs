use super::core::Core;
use super::founding::standing_of;
use crate::machine::{State, level};
use crate::types::LogIndex;
use mux_proto::mux::raft::v1 as pb;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

const LOOK: Duration = Duration::from_millis(250);
/// Without a leader for this long, the others are asked whether this replica is a member at all.
const SILENCE: Duration = Duration::from_secs(2);

/// A removed replica hears nothing any more, not even that it was removed: so when no leader speaks to it, it asks.
/// It then takes no part any more and says so in its status. A first member to whom nobody has ever spoken asks, too: whoever
/// answers may tell it that the cluster knows another data directory under its id, which stops it.
pub(crate) async fn notice_removal(core: Arc<Core>, stop: CancellationToken) {
    let noticing = async {
        let mut heard = Instant::now();
        let is_founder = core.initial_members.contains_key(&core.id);
        loop {
            sleep(LOOK).await;
            let was_member = core.look(|metrics| metrics.membership_config.get_node(&core.id).is_some());
            if core.status.borrow().quorum || !(was_member || is_founder) {
                heard = Instant::now();
            } else if heard.elapsed() >= SILENCE {
                // Who never was a member was not removed either.
                if is_removed(&core).await && was_member {
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
        biased;
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
    let here = Here { term: metrics.current_term, last_log_index: last, announced };
    standings.into_iter().flatten().any(|standing| here.is_told_of_removal(&standing))
}

/// How far this replica is.
#[derive(Clone, Copy)]
struct Here {
    term: u64,
    last_log_index: LogIndex,
    /// A removal is in the log, for ever.
    announced: bool,
}

impl Here {
    fn is_told_of_removal(&self, standing: &pb::StandingResponse) -> bool {
        let gone = if self.announced { standing.retired } else { standing.not_a_member };
        gone && standing.term >= self.term && standing.last_log_index >= self.last_log_index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(term: u64, last_log_index: LogIndex) -> pb::StandingResponse {
        pb::StandingResponse { term, last_log_index, ..Default::default() }
    }

    #[test]
    fn a_newcomer_whose_addition_got_lost_was_not_removed() {
        let here = Here { term: 3, last_log_index: 10, announced: true };
        // The leader that was about to add it has lost its office: no member, but never removed either.
        let lost = pb::StandingResponse { not_a_member: true, ..standing(4, 12) };
        assert!(!here.is_told_of_removal(&lost));
        let retired = pb::StandingResponse { not_a_member: true, retired: true, ..standing(4, 12) };
        assert!(here.is_told_of_removal(&retired));
        let before_announcements = Here { announced: false, ..here };
        assert!(before_announcements.is_told_of_removal(&lost), "where nothing better is known");
    }

    #[test]
    fn one_that_is_behind_cannot_say_who_was_removed() {
        let here = Here { term: 3, last_log_index: 10, announced: true };
        for (term, last, believed) in
            [(3, 10, true), (5, 11, true), (2, 99, false), (3, 9, false), (7, 9, false)]
        {
            let retired = pb::StandingResponse { retired: true, ..standing(term, last) };
            assert_eq!(here.is_told_of_removal(&retired), believed, "term {term}, entry {last}");
        }
    }
}
