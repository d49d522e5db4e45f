//! What can be found wrong before anything is started.

use super::files::{self, Files};
use super::load::Problem;
use super::mask;
use super::sections::{Config, FrontNode};
use crate::invoice::{DEFAULT_MIN_FINAL_CLTV, EXPIRY_S_MAX, MIN_FINAL_CLTV_RANGE};
use crate::keys::ClusterSeed;
use crate::telemetry;
use mux_raft::machine::model::{ACCEPT_SLACK_BLOCKS, LND_INTERCEPT_DELTA, MIN_FINAL_SLACK_BLOCKS, Settings};
use std::collections::BTreeMap;
use std::path::Path;

/// Most hints in an invoice: more do not fit a QR code that phones can still read.
const HINTS_MAX: usize = 10;

/// As long as fits into a table of people and a metric label.
pub(crate) const ALIAS_LEN_MAX: usize = 32;

/// Below, there would be no time to close the stores.
const GRACE_SECS: std::ops::RangeInclusive<u64> = 5..=3_600;

/// More than any network needs; beyond, nobody would call it a fail-over.
const ELECTION_MS_MAX: u64 = 60_000;

/// Below, LND is told "gone" and "here again" faster than it takes streams; above, its HTLCs wait for nothing.
const DEGRADED_AFTER_MS: std::ops::RangeInclusive<u64> = 1_000..=600_000;

/// Beyond, an HTLC that was just accepted with the fewest blocks allowed would raise the alarm at once.
const RESCUE_MARGIN_BLOCKS: std::ops::RangeInclusive<u32> = 1..=12;

/// Payers' nodes take no route whose time locks add up to more (LND's `max-cltv-expiry`).
const CLTV_BLOCKS_MAX: u32 = 2_016;

/// What to do about [`few_or_even`].
pub(crate) const FEW_OR_EVEN_REMEDY: &str = "use 3 or 5 replicas";

const FILTER_REMEDY: &str = "write as in \"info,muxd=debug,openraft=warn\"";

impl Config {
    /// Everything that is wrong, and what works but is probably not meant, each with its remedy. Looks at files, but
    /// not at what else there is on the machine.
    #[must_use]
    pub(super) fn check(&self) -> (Vec<Problem>, Vec<Problem>) {
        let mut problems = Vec::new();
        self.check_cluster(&mut problems);
        let mut files = Files::default();
        self.check_raft(&mut problems, &mut files);
        problems.append(&mut files.problems);
        self.check_timing(&mut problems);
        self.check_links(&mut problems);
        self.check_invoices(&mut problems);
        self.check_telemetry(&mut problems);
        self.check_front_nodes(&mut problems, &mut files);
        if !GRACE_SECS.contains(&self.shutdown.grace_secs) {
            let wrong = format!("{} seconds are out of range", self.shutdown.grace_secs);
            let remedy = "use 5 to 3600, less than your supervisor waits before it kills";
            problems.push(Problem::new("shutdown.grace_secs", wrong, remedy));
        }
        files.key_pair(("api.tls_cert", &self.api.tls_cert), ("api.tls_key", &self.api.tls_key));
        problems.append(&mut files.problems);
        let mut warnings = self.warnings();
        warnings.append(&mut files.warnings);
        (problems, warnings)
    }

    fn warnings(&self) -> Vec<Problem> {
        let mut warnings = Vec::new();
        let members = self.cluster.initial_members.len();
        if let Some(wrong) = few_or_even(members) {
            warnings.push(Problem::new("cluster.initial_members", wrong, FEW_OR_EVEN_REMEDY));
        }
        if self.api.auth == super::ApiAuth::None && !self.api.listen.ip().is_loopback() {
            let wrong = "\"none\": whoever reaches api.listen controls the cluster";
            warnings.push(Problem::new("api.auth", wrong, "use \"macaroon\", or listen on loopback"));
        }
        if self.lnmux.return_preimage {
            let wrong = "whoever sees an AddInvoice answer can take payments on the way";
            let remedy = "set it to false if no application needs it";
            warnings.push(Problem::new("lnmux.return_preimage", wrong, remedy));
        }
        warnings
    }

    fn check_telemetry(&self, problems: &mut Vec<Problem>) {
        if let Err(why) = telemetry::check_filter(&self.log.filter) {
            let wrong = format!("{:?} is no filter: {why}", self.log.filter);
            problems.push(Problem::new("log.filter", wrong, FILTER_REMEDY));
        }
        if let Some(filter) = telemetry::filter_of_environment()
            && let Err(why) = telemetry::check_filter(&filter)
        {
            let wrong =
                format!("environment variable RUST_LOG wins over it, and {filter:?} is no filter: {why}");
            problems.push(Problem::new("log.filter", wrong, FILTER_REMEDY));
        }
        let otlp = &self.telemetry.otlp;
        let address = otlp.endpoint.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
        match address {
            Some(address) => host_port(problems, "telemetry.otlp.endpoint", address),
            None if otlp.endpoint.is_empty() => {}
            None => {
                let remedy = "use http://host:4317 of a collector nearby; it may go on over TLS";
                let wrong = format!("{:?} is no http:// address", otlp.endpoint);
                problems.push(Problem::new("telemetry.otlp.endpoint", wrong, remedy));
            }
        }
        if !(0.0..=1.0).contains(&otlp.sample_ratio) {
            let wrong = format!("{} is no share", otlp.sample_ratio);
            problems.push(Problem::new("telemetry.otlp.sample_ratio", wrong, "use 0.0 to 1.0"));
        }
    }

    fn check_cluster(&self, problems: &mut Vec<Problem>) {
        let cluster = &self.cluster;
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if cluster.name.is_empty() || cluster.name.len() > 32 || !cluster.name.chars().all(plain) {
            let remedy = "use 1 to 32 lower-case letters, digits and '-'";
            problems.push(Problem::new("cluster.name", format!("{:?} is no name", cluster.name), remedy));
        }
        if cluster.replica_id == 0 {
            problems.push(Problem::new("cluster.replica_id", "0 is no replica", "number replicas from 1"));
        }
        if cluster.initial_members.is_empty() {
            let remedy = "name every first replica: initial_members = { 1 = \"host:port\", ... }";
            problems.push(Problem::new("cluster.initial_members", "it is empty", remedy));
        } else if !cluster.join && !cluster.initial_members.contains_key(&cluster.replica_id) {
            let remedy = "add it, or set cluster.join = true for a replica that joins a running cluster";
            let wrong = format!("replica {} is not among them", cluster.replica_id);
            problems.push(Problem::new("cluster.initial_members", wrong, remedy));
        } else if cluster.join && cluster.initial_members.contains_key(&cluster.replica_id) {
            let remedy = "set it to false on a first member; take a replica that is added to a running cluster out of \
                          cluster.initial_members";
            let wrong = format!("replica {} is one of the first members itself", cluster.replica_id);
            problems.push(Problem::new("cluster.join", wrong, remedy));
        }
        for (id, address) in &cluster.initial_members {
            host_port(problems, &format!("cluster.initial_members.{id}"), address);
        }
        let mut addresses = BTreeMap::new();
        for (id, address) in &cluster.initial_members {
            if let Some(other) = addresses.insert(address, id) {
                let remedy = "give every replica its own host:port";
                let wrong = format!("replicas {other} and {id} have the same address {address}");
                problems.push(Problem::new("cluster.initial_members", wrong, remedy));
            }
        }
        seed_file(problems, &cluster.seed_file);
    }

    fn check_raft(&self, problems: &mut Vec<Problem>, files: &mut Files) {
        let raft = &self.raft;
        let ca = files.certificates("raft.tls_ca", &raft.tls_ca);
        let own = files.key_pair(("raft.tls_cert", &raft.tls_cert), ("raft.tls_key", &raft.tls_key));
        if let (Some(ca), Some(own)) = (ca, own) {
            problems.extend(files::wrong_issuer(&ca, &own, self.cluster.replica_id));
        }
    }

    fn check_timing(&self, problems: &mut Vec<Problem>) {
        let raft = &self.raft;
        if raft.heartbeat_ms < 10 || raft.heartbeat_ms.saturating_mul(3) > raft.election_min_ms {
            let remedy = "let at least three heartbeats (of 10 ms or more) fit into raft.election_min_ms";
            let wrong = format!(
                "{} ms does not go with an election timeout of {} ms",
                raft.heartbeat_ms, raft.election_min_ms
            );
            problems.push(Problem::new("raft.heartbeat_ms", wrong, remedy));
        }
        if raft.election_min_ms >= raft.election_max_ms {
            let remedy = "make it greater than raft.election_min_ms, best twice as great";
            let wrong = format!("{} ms leaves no room for chance", raft.election_max_ms);
            problems.push(Problem::new("raft.election_max_ms", wrong, remedy));
        }
        if raft.election_max_ms > ELECTION_MS_MAX {
            let wrong = format!("without a leader for {} ms", raft.election_max_ms);
            let remedy = format!("use {ELECTION_MS_MAX} at most; ten times the round trip is enough");
            problems.push(Problem::new("raft.election_max_ms", wrong, remedy));
        }
    }

    fn check_links(&self, problems: &mut Vec<Problem>) {
        let (links, raft) = (&self.links, &self.raft);
        let least = raft.election_max_ms.saturating_mul(2);
        if links.quorum_lost_after_ms < least {
            let wrong = format!("{} ms: every election would cost the streams", links.quorum_lost_after_ms);
            let remedy = format!("use {least} (twice raft.election_max_ms) or more; 3000 is the default");
            problems.push(Problem::new("links.quorum_lost_after_ms", wrong, remedy));
        } else if links.quorum_lost_after_ms > *DEGRADED_AFTER_MS.end() {
            let wrong = format!(
                "{} ms: so long a replica without a quorum would keep its streams from the others",
                links.quorum_lost_after_ms
            );
            let remedy = format!("use {} at most; 3000 is the default", DEGRADED_AFTER_MS.end());
            problems.push(Problem::new("links.quorum_lost_after_ms", wrong, remedy));
        }
        let (least, most) = (DEGRADED_AFTER_MS.start(), DEGRADED_AFTER_MS.end());
        if !DEGRADED_AFTER_MS.contains(&links.degraded_after_ms) {
            let wrong = format!("{} ms are out of range", links.degraded_after_ms);
            let remedy = format!("use {least} to {most}; 10000 is the default");
            problems.push(Problem::new("links.degraded_after_ms", wrong, remedy));
        }
        if !RESCUE_MARGIN_BLOCKS.contains(&links.rescue_margin_blocks) {
            let (least, most) = (RESCUE_MARGIN_BLOCKS.start(), RESCUE_MARGIN_BLOCKS.end());
            let wrong = format!("{} blocks are out of range", links.rescue_margin_blocks);
            let remedy = format!("use {least} to {most}; 4 is the default");
            problems.push(Problem::new("links.rescue_margin_blocks", wrong, remedy));
        }
    }

    fn check_invoices(&self, problems: &mut Vec<Problem>) {
        let invoices = &self.invoices;
        if invoices.expiry_secs == 0 || invoices.expiry_secs > EXPIRY_S_MAX {
            let remedy = format!("use 1 to {EXPIRY_S_MAX} seconds");
            let wrong = format!("{} is out of range", invoices.expiry_secs);
            problems.push(Problem::new("invoices.expiry_secs", wrong, remedy));
        }
        if invoices.hints == 0 || invoices.hints > HINTS_MAX {
            let wrong = format!("{} is out of range", invoices.hints);
            problems.push(Problem::new(
                "invoices.hints",
                wrong,
                format!("use 1 to {HINTS_MAX}; 3 or 4 is best"),
            ));
        }
        if !MIN_FINAL_CLTV_RANGE.contains(&invoices.min_final_cltv) {
            let wrong = format!("{} blocks are out of range", invoices.min_final_cltv);
            let (least, most) = (MIN_FINAL_CLTV_RANGE.start(), MIN_FINAL_CLTV_RANGE.end());
            let remedy = format!("use {least} to {most}; {DEFAULT_MIN_FINAL_CLTV} is the default");
            problems.push(Problem::new("invoices.min_final_cltv", wrong, remedy));
        }
    }

    fn check_front_nodes(&self, problems: &mut Vec<Problem>, files: &mut Files) {
        let mut pubkeys = BTreeMap::new();
        let mut aliases = BTreeMap::new();
        for (at, node) in self.front_nodes.iter().enumerate() {
            let key = format!("front_nodes[{at}]");
            if secp256k1::PublicKey::from_slice(&node.pubkey.0).is_err() {
                let remedy = "copy identity_pubkey from `lncli getinfo`";
                let wrong = "it is no public key (no point of the curve)";
                problems.push(Problem::new(format!("{key}.pubkey"), wrong, remedy));
            }
            if let Some(first) = pubkeys.insert(node.pubkey, at) {
                let remedy = "merge the two; one node may have several endpoints";
                let wrong = format!("this node is there twice: it is front_nodes[{first}], too");
                problems.push(Problem::new(format!("{key}.pubkey"), wrong, remedy));
            }
            let wrong = match aliases.insert(node.alias.clone(), at) {
                Some(first) => Some(format!("{:?} is the alias of front_nodes[{first}], too", node.alias)),
                None if node.alias.is_empty() => Some("it is empty".to_owned()),
                None if node.alias.len() > ALIAS_LEN_MAX => Some("it is too long".to_owned()),
                None => None,
            };
            if let Some(wrong) = wrong {
                let remedy = format!("give every node its own name of at most {ALIAS_LEN_MAX} bytes");
                problems.push(Problem::new(format!("{key}.alias"), wrong, remedy));
            }
            self.check_front_node(&key, node, problems);
            self.check_front_node_files(&key, node, files);
            problems.append(&mut files.problems);
        }
    }

    fn check_front_node_files(&self, key: &str, node: &FrontNode, files: &mut Files) {
        for (at, endpoint) in node.endpoints.iter().enumerate() {
            let key = format!("{key}.endpoints[{at}].tls_cert");
            let certificates = files.certificates(&key, &endpoint.tls_cert);
            files.warn_of_end(&key, &certificates.unwrap_or_default());
        }
        files.macaroon(&format!("{key}.macaroon"), &node.macaroon);
    }

    fn check_front_node(&self, key: &str, node: &FrontNode, problems: &mut Vec<Problem>) {
        // Below this the payer's HTLC would be refused on arrival for having too few blocks left.
        let needed = LND_INTERCEPT_DELTA + Settings::default().margin_blocks + ACCEPT_SLACK_BLOCKS;
        let given = u32::from(node.cltv_delta) + u32::from(self.invoices.min_final_cltv);
        if given < needed + 2 * MIN_FINAL_SLACK_BLOCKS {
            let remedy = "raise it; 80 is the default";
            let wrong = format!("{} blocks are too few with invoices.min_final_cltv", node.cltv_delta);
            problems.push(Problem::new(format!("{key}.cltv_delta"), wrong, remedy));
        }
        if given > CLTV_BLOCKS_MAX {
            let wrong = format!("{} blocks: no payer's node takes so long a time lock", node.cltv_delta);
            let remedy = format!(
                "use at most {CLTV_BLOCKS_MAX} together with invoices.min_final_cltv; 80 is the default"
            );
            problems.push(Problem::new(format!("{key}.cltv_delta"), wrong, remedy));
        }
        if node.endpoints.is_empty() {
            let remedy = "add [[front_nodes.endpoints]] with address and tls_cert";
            problems.push(Problem::new(format!("{key}.endpoints"), "there is none", remedy));
        }
        for (at, endpoint) in node.endpoints.iter().enumerate() {
            host_port(problems, &format!("{key}.endpoints[{at}].address"), &endpoint.address);
        }
    }
}

/// What is wrong with so many voters.
pub(crate) fn few_or_even(members: usize) -> Option<String> {
    match members {
        0 => None,
        1 => Some("a single replica survives no failure: when it is down, nothing is decided".into()),
        even if even.is_multiple_of(2) => Some(format!(
            "an even number of voters: {even} replicas survive no more failures than {}",
            even.saturating_sub(1)
        )),
        _ => None,
    }
}

fn host_port(problems: &mut Vec<Problem>, key: &str, address: &str) {
    let sound = address
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0));
    if !sound {
        problems.push(Problem::new(key, format!("{address:?} is no address"), "write host:port"));
    }
}

fn seed_file(problems: &mut Vec<Problem>, path: &Path) {
    if let Err(error) = ClusterSeed::load(path) {
        let remedy = "write the cluster's seed there, or correct the path; `muxd init` makes a new cluster";
        let wrong = error.to_string().replace(&path.display().to_string(), &mask::path(path));
        problems.push(Problem::new("cluster.seed_file", wrong, remedy));
    }
}
