//! One line a metric, by the part of the replica that records it. `node/metrics.md` is made from it.

use super::{Kind, Metric};
use metrics::Unit;

const SECONDS: Option<Unit> = Some(Unit::Seconds);
const BYTES: Option<Unit> = Some(Unit::Bytes);

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, unit: None, labels, help }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, unit: None, labels, help }
}

const fn histogram(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Histogram, unit: SECONDS, labels, help }
}

const fn of(unit: Option<Unit>, metric: Metric) -> Metric {
    Metric { unit, ..metric }
}

/// Every metric of a replica.
pub const CATALOGUE: &[Metric] = &[
    // Consensus.
    gauge("mux_raft_is_leader", &[], "1: this replica leads, and a quorum follows"),
    gauge("mux_raft_has_leader", &[], "1: a leader is known"),
    gauge("mux_raft_has_quorum", &[], "1: in contact with a quorum"),
    gauge("mux_raft_term", &[], "Current term"),
    counter("mux_raft_leader_changes_total", &[], "Changes of leader seen"),
    counter("mux_raft_elections_total", &[], "Elections seen: terms that began since the start"),
    gauge("mux_raft_commit_index", &[], "Last entry known to be committed"),
    gauge("mux_raft_applied_index", &[], "Last entry applied"),
    gauge("mux_raft_last_log_index", &[], "Last entry in the log"),
    gauge(
        "mux_raft_replication_lag_entries",
        &["peer"],
        "Entries that a member is behind; the leader knows, others say 0",
    ),
    histogram(
        "mux_raft_peer_round_trip_seconds",
        &["peer"],
        "A small call to a voter and back; the leader makes one a second",
    ),
    counter(
        "mux_raft_proposals_committed_total",
        &[],
        "Proposals of this replica that were committed and applied",
    ),
    counter(
        "mux_raft_proposals_failed_total",
        &["outcome"],
        "Others: unavailable (nothing happened), unknown (perhaps in the log), fatal (stopped)",
    ),
    gauge("mux_raft_proposals_pending", &[], "Proposals of this replica under way"),
    histogram("mux_raft_proposal_duration_seconds", &[], "From a proposal to its end"),
    gauge(
        "mux_raft_clock_differs",
        &["peer"],
        "1: a replica's clock differs from the others'; the leader knows",
    ),
    gauge("mux_raft_clock_outvoted", &[], "1: this leader's clock is outvoted"),
    // Log, state machine, snapshots.
    histogram("mux_log_fsync_duration_seconds", &[], "Making a batch of entries durable"),
    counter("mux_log_entries_written_total", &[], "Entries made durable"),
    histogram("mux_apply_duration_seconds", &[], "Applying a batch of entries"),
    histogram("mux_snapshot_duration_seconds", &["what"], "A snapshot: build or install"),
    of(BYTES, gauge("mux_snapshot_bytes", &[], "Size of the last snapshot made")),
    gauge("mux_archive_records", &[], "Records of finished invoices and old events on disk"),
    of(
        BYTES,
        gauge("mux_archive_bytes", &[], "Size of the archive's file; what is forgotten is free inside it"),
    ),
    histogram(
        "mux_archive_append_seconds",
        &[],
        "Handing records to the archive; long: its disk does not keep up, and commits wait",
    ),
    counter(
        "mux_archive_fetched_records_total",
        &[],
        "Records taken from other replicas, to go with a snapshot",
    ),
    histogram("mux_archive_write_duration_seconds", &[], "Writing a batch of records"),
    counter(
        "mux_snapshots_refused_total",
        &[],
        "Received snapshots that are not what their sender made; they are sent again",
    ),
    gauge(
        "mux_state_differs",
        &["peer"],
        "1: the leader found that a replica's state differs, and told it to stop; the leader knows",
    ),
    gauge("mux_state_hash", &[], "Low 48 bits of the state hash: differs at the same applied index? Stop!"),
    counter(
        "mux_alarms_total",
        &["alarm"],
        "What an operator must hear of: settled_without_decision, decided_part_lost, unconfirmed, contradicting_final",
    ),
    of(SECONDS, gauge("mux_log_time_lag_seconds", &[], "This replica's clock minus log time")),
    // Invoices and HTLCs, by the log.
    gauge("mux_invoices", &["state"], "Invoices in memory, by state"),
    gauge("mux_sets", &["state"], "Undecided HTLC sets: collecting, or accepted and waiting for a decision"),
    gauge(
        "mux_set_min_blocks_to_deadline",
        &[],
        "Blocks left to decide the most urgent set; Inf: none waits",
    ),
    gauge("mux_event_sequence", &[], "Number of the last event"),
    gauge("mux_htlc_held", &["node"], "Undecided HTLCs held at a front node, by the log"),
    gauge("mux_htlc_unresolved", &["node"], "HTLCs at a front node whose end is not known yet"),
    gauge("mux_htlc_unconfirmed", &["node"], "HTLCs at a front node whose end needs an operator"),
    gauge(
        "mux_htlc_min_blocks_to_deadline",
        &["node"],
        "Blocks until LND acts by itself on the most urgent HTLC; Inf: it holds none",
    ),
    gauge("mux_htlc_unexpected_settles", &[], "HTLCs that LND settled without a decision: incidents"),
    gauge("mux_front_node_healthy", &["node"], "1: new invoices name the front node"),
    gauge("mux_front_node_block_height", &["node"], "Height that the front node last reported"),
    // This replica's links.
    gauge("mux_lnd_stream_up", &["node"], "1: this replica holds the front node's interceptor stream"),
    counter("mux_lnd_stream_reconnects_total", &["node"], "Interceptor streams opened again"),
    counter(
        "mux_htlc_intercepted_total",
        &["node"],
        "HTLCs that LND offered to this replica, repeats included",
    ),
    counter(
        "mux_htlc_verdicts_total",
        &["node", "action", "reason"],
        "Answers given to LND: resume, settle, fail (by the log), reject (by the checks)",
    ),
    histogram("mux_htlc_answer_duration_seconds", &["node"], "From LND's offer to the answer"),
    counter("mux_htlc_rescue_alarms_total", &["node"], "Decided HTLCs that came close to being lost"),
    gauge("mux_link_outstanding_htlcs", &["node"], "HTLCs offered on this replica's stream and not answered"),
    // The client API.
    counter("mux_grpc_server_handled_total", &["method", "code"], "Finished calls of the client API"),
    histogram(
        "mux_grpc_server_handling_seconds",
        &["method"],
        "Time until a call was answered (streams: until their first answer)",
    ),
    // The process.
    gauge("mux_ready", &[], "1: /readyz says ready"),
    gauge("mux_build_info", &["version"], "Always 1; the label tells the version"),
    of(
        SECONDS,
        gauge(
            "mux_certificate_expiry_timestamp_seconds",
            &["certificate"],
            "When a certificate ends, in seconds since the Unix epoch; +Inf once its front node was removed",
        ),
    ),
    counter("mux_reloads_total", &[], "Certificates and macaroons that were exchanged while running"),
    counter("mux_reload_failures_total", &[], "New files that cannot be used; what was in use stays in use"),
    of(
        BYTES,
        gauge(
            "mux_data_dir_free_bytes",
            &[],
            "What the data directory's file system has left for this process",
        ),
    ),
    of(BYTES, gauge("mux_data_dir_size_bytes", &[], "Size of the data directory's file system")),
    of(SECONDS, counter("process_cpu_seconds_total", &[], "Processor time used, whole seconds")),
    of(
        SECONDS,
        gauge("process_start_time_seconds", &[], "When the process began, in seconds since the Unix epoch"),
    ),
    of(BYTES, gauge("process_resident_memory_bytes", &[], "Memory in use")),
    gauge("process_open_fds", &[], "Open file descriptors"),
    gauge("process_max_fds", &[], "How many may be open"),
];
