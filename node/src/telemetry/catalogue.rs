//! The metrics' names, meanings and buckets.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// Seconds; from a commit on a fast disk to a call that waits for a decision.
const DURATION_BUCKETS: [f64; 16] =
    [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Makes the process's recorder.
///
/// # Errors
/// A text: there is a recorder already.
pub fn install_metrics() -> Result<PrometheusHandle, String> {
    let duration = Matcher::Suffix("_seconds".to_owned());
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(duration, &DURATION_BUCKETS)
        .and_then(PrometheusBuilder::install_recorder)
        .map_err(|error| error.to_string())?;
    describe();
    Ok(handle)
}

/// Tells the recorder what each metric means.
pub fn describe() {
    describe_gauge!("mux_build_info", "Always 1; the label tells the version");
    describe_gauge!("mux_invoices", "Invoices in each state");
    describe_gauge!("mux_sets", "Undecided HTLC sets: collecting, or accepted and waiting for a decision");
    describe_gauge!("mux_event_sequence", "Number of the last event");
    describe_gauge!("mux_log_time_lag_seconds", Unit::Seconds, "This replica's clock minus log time");
    describe_gauge!("mux_htlc_undecided", "Undecided HTLCs at a front node, by the log");
    describe_gauge!("mux_htlc_unresolved", "HTLCs at a front node whose end is not known yet");
    describe_gauge!("mux_htlc_unconfirmed", "HTLCs at a front node whose end needs an operator");
    describe_gauge!(
        "mux_htlc_min_blocks_to_deadline",
        "Blocks until LND acts by itself on a front node's most urgent HTLC; Inf: it holds none"
    );
    describe_gauge!(
        "mux_set_min_blocks_to_deadline",
        "Blocks left to decide the most urgent set; Inf: none waits"
    );
    describe_gauge!("mux_htlc_unexpected_settles", "HTLCs that LND settled without a decision: incidents");
    describe_gauge!("mux_front_node_healthy", "1: new invoices name the front node");
    describe_gauge!("mux_front_node_block_height", "Height that the front node last reported");
    describe_gauge!("mux_ready", "1: /readyz says ready");
    describe_gauge!(
        "mux_certificate_expiry_timestamp_seconds",
        Unit::Seconds,
        "When a certificate ends, in seconds since the Unix epoch"
    );
    describe_counter!("mux_grpc_server_handled_total", "Finished calls of the client API");
    describe_histogram!(
        "mux_grpc_server_handling_seconds",
        Unit::Seconds,
        "Time until a call was answered (streams: until their first answer)"
    );
    describe_links();
    describe_raft();
}

/// Recorded by the links, for each front node.
fn describe_links() {
    describe_gauge!("mux_lnd_stream_up", "1: this replica holds the front node's interceptor stream");
    describe_counter!("mux_lnd_stream_reconnects_total", "Interceptor streams opened again");
    describe_counter!("mux_htlc_intercepted_total", "HTLCs that LND offered to this replica");
    describe_counter!("mux_htlc_verdicts_total", "Answers given to LND, by action and reason");
    describe_histogram!("mux_htlc_answer_duration_seconds", Unit::Seconds, "From offer to answer");
    describe_counter!("mux_htlc_rescue_alarms_total", "Decided HTLCs that came close to being lost");
    describe_gauge!("mux_link_outstanding_htlcs", "HTLCs offered on this replica's stream and not answered");
}

/// Recorded by the consensus crate, which has no recorder of its own.
fn describe_raft() {
    describe_gauge!("mux_raft_is_leader", "1: this replica leads");
    describe_gauge!("mux_raft_has_leader", "1: a leader is known");
    describe_gauge!("mux_raft_has_quorum", "1: in contact with a quorum");
    describe_gauge!("mux_raft_term", "Current term");
    describe_gauge!("mux_raft_commit_index", "Last entry known to be committed");
    describe_gauge!("mux_raft_applied_index", "Last entry applied");
    describe_gauge!("mux_raft_last_log_index", "Last entry in the log");
    describe_gauge!(
        "mux_raft_replication_lag_entries",
        "Entries that a follower is behind; on the leader only"
    );
    describe_counter!("mux_raft_leader_changes_total", "Changes of leader seen");
    describe_counter!("mux_raft_proposals_total", "Proposals of this replica by outcome");
    describe_histogram!("mux_raft_proposal_duration_seconds", Unit::Seconds, "From proposal to reply");
    describe_histogram!("mux_log_fsync_duration_seconds", Unit::Seconds, "Making a batch of entries durable");
    describe_histogram!("mux_apply_duration_seconds", Unit::Seconds, "Applying a batch of entries");
    describe_histogram!("mux_snapshot_duration_seconds", Unit::Seconds, "Building or installing a snapshot");
    describe_counter!("mux_log_entries_written_total", "Entries made durable");
    describe_counter!("mux_alarms_total", "What an operator must hear of, by kind");
    describe_gauge!(
        "mux_raft_clock_differs",
        "1: a replica's clock differs from the others'; on the leader only"
    );
    describe_gauge!("mux_raft_clock_outvoted", "1: this leader's clock is outvoted");
    describe_gauge!("mux_snapshot_bytes", Unit::Bytes, "Size of the last snapshot");
    describe_gauge!(
        "mux_state_hash",
        "Low 48 bits of the state hash: differs at the same applied index? Stop!"
    );
}

#[cfg(test)]
mod tests;
