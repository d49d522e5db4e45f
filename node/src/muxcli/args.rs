//! The command line.

use super::amount::parse_amount;
use clap::{Args, Parser, Subcommand, ValueEnum};
use mux_raft::types::{Msat, NodePubkey, PaymentHash, SetId};
use std::path::PathBuf;

/// Talks to a cluster of the replicated Lightning multiplexer.
///
/// Exit codes: 0 done; 1 refused; 2 wrong command line; 3 outcome unknown, repeat the command to find out;
/// 4 unavailable, nothing happened, try again.
#[derive(Debug, Parser)]
#[command(name = "muxcli", version, verbatim_doc_comment)]
pub struct Cli {
    /// Which cluster.
    #[command(flatten)]
    pub target: Target,
    /// JSON instead of tables. Fields are never renamed or removed.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// How to reach a cluster.
#[derive(Debug, Args)]
pub struct Target {
    /// host:port of a replica's API; several, separated by commas, are tried in turn.
    #[arg(long, env = "MUXCLI_RPC", value_delimiter = ',', value_name = "HOST:PORT", global = true)]
    pub rpc: Vec<String>,
    /// The cluster's api.pem.
    #[arg(long, env = "MUXCLI_TLS_CERT", value_name = "FILE", global = true)]
    pub tls_cert: Option<PathBuf>,
    /// The cluster's admin.macaroon.
    #[arg(long, env = "MUXCLI_MACAROON", value_name = "FILE", global = true)]
    pub macaroon: Option<PathBuf>,
    /// A replica's muxd.toml, on its own machine: says all of the above.
    #[arg(long, env = "MUXCLI_CONFIG", value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Seconds to wait for an answer. [default: 10; drain: 30; member add: 600]
    #[arg(long, env = "MUXCLI_TIMEOUT", value_name = "SECONDS", global = true)]
    pub timeout: Option<u64>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The cluster at a glance.
    Status,
    /// Invoices: make, look at, settle, cancel.
    #[command(subcommand)]
    Invoice(InvoiceCommand),
    /// HTLCs: look at, resolve by hand.
    #[command(subcommand)]
    Htlc(HtlcCommand),
    /// Hands leadership to another replica.
    TransferLeader {
        /// The replica; left out: any that is up to date.
        target: Option<u64>,
    },
    /// Backups: save one, look into one.
    #[command(subcommand)]
    Backup(BackupCommand),
    /// After a restoration from a backup; `muxcli status` shows how it stands.
    #[command(subcommand)]
    Restore(RestoreCommand),
    /// Replicas: list, add, promote, remove.
    #[command(subcommand)]
    Member(MemberCommand),
    /// Ends one replica in order: it hands over its streams and leadership, and exits.
    ///
    /// It is the one that --config or --rpc names. It exits when --timeout is over, whatever is left to do then.
    Drain {
        /// Also when the cluster has no quorum without it, or nobody can tell: no payment is decided then until it is
        /// back.
        #[arg(long)]
        force: bool,
    },
    /// Shows the cluster's settings, and changes those that are given.
    Settings(SettingsArgs),
    /// Front nodes: list, add, disable, enable, remove.
    #[command(subcommand)]
    FrontNode(FrontNodeCommand),
}

/// `muxcli backup …`
#[derive(Debug, Subcommand)]
pub enum BackupCommand {
    /// Saves a consistent backup of the running cluster into a new file and checks it.
    Save {
        /// The file; must not exist.
        file: PathBuf,
        /// From the last replica that is left when the majority is gone for good: what it has applied, although
        /// others may have acknowledged more.
        #[arg(long)]
        without_quorum: bool,
    },
    /// Checks a backup in full and shows what it is of.
    Inspect {
        /// The file.
        file: PathBuf,
    },
}

/// `muxcli restore …`
#[derive(Debug, Subcommand)]
pub enum RestoreCommand {
    /// Goes on without LND's word on the HTLCs that are still in doubt. What was settled after the backup and
    /// is not known may then be failed and lost: only when the front node will not come back.
    Accept,
}

/// `muxcli member …`
#[derive(Debug, Subcommand)]
pub enum MemberCommand {
    /// Lists the replicas as the leader sees them.
    List,
    /// Adds a running replica: it copies the log, then it votes.
    Add {
        /// Its id, never used before in this cluster.
        id: u64,
        /// host:port at which the other replicas reach it.
        address: String,
        /// Leave it a learner: it copies the log and does not vote.
        #[arg(long)]
        learner: bool,
    },
    /// Lets a learner that has caught up vote.
    Promote {
        /// The learner.
        id: u64,
    },
    /// Removes a replica for good: its process ends, its id never comes back.
    Remove {
        /// The replica.
        id: u64,
        /// Also when the next failure then stops the cluster.
        #[arg(long)]
        force: bool,
    },
}

/// `muxcli invoice …`
#[derive(Debug, Subcommand)]
pub enum InvoiceCommand {
    /// Makes an invoice.
    Add(AddArgs),
    /// Shows an invoice.
    Show {
        /// Its payment hash.
        hash: PaymentHash,
        /// Ask only the replica at hand, quorum or not.
        #[arg(long)]
        stale: bool,
    },
    /// Lists invoices, newest first.
    List(ListArgs),
    /// Follows what happens, at another replica if this one ends.
    Watch(WatchArgs),
    /// Settles what is accepted for an invoice.
    Settle {
        /// Its payment hash.
        hash: PaymentHash,
        /// Only this set.
        #[arg(long, value_name = "ID")]
        set: Option<SetId>,
    },
    /// Cancels an invoice, or only the set that is held for it.
    Cancel {
        /// Its payment hash.
        #[arg(required_unless_present = "payment_request")]
        hash: Option<PaymentHash>,
        /// Only this set; the invoice stays payable.
        #[arg(long, value_name = "ID", conflicts_with = "payment_request")]
        set: Option<SetId>,
        /// The invoice's text, for a stateless one that nobody has paid yet.
        #[arg(long, value_name = "BOLT11")]
        payment_request: Option<String>,
    },
}

/// `muxcli invoice add`
#[derive(Debug, Args)]
pub struct AddArgs {
    /// Such as 2500sat, 1000msat or 0.001btc. Left out: the payer chooses.
    #[arg(value_parser = parse_amount)]
    pub amount: Option<Msat>,
    /// What it is for.
    #[arg(long, short, conflicts_with = "description_hash")]
    pub description: Option<String>,
    /// SHA-256 of a longer description.
    #[arg(long, value_name = "HEX")]
    pub description_hash: Option<PaymentHash>,
    /// How long it can be paid.
    #[arg(long, value_name = "SECONDS")]
    pub expiry: Option<u64>,
    /// Blocks for the last hop.
    #[arg(long, value_name = "BLOCKS")]
    pub min_final_cltv: Option<u32>,
    /// Store nothing until it is paid; needs no quorum.
    #[arg(long)]
    pub stateless: bool,
    /// Two calls with the same key make one invoice.
    #[arg(long, conflicts_with = "stateless")]
    pub key: Option<String>,
}

/// `muxcli invoice list`
#[derive(Debug, Args)]
pub struct ListArgs {
    /// At most this many.
    #[arg(long, default_value_t = 20)]
    pub limit: u32,
    /// Only those in this state; may be repeated.
    #[arg(long)]
    pub state: Vec<State>,
    /// Oldest first.
    #[arg(long)]
    pub oldest_first: bool,
    /// Go on after this add_index.
    #[arg(long, default_value_t = 0, value_name = "ADD_INDEX")]
    pub after: u64,
    /// Ask only the replica at hand, quorum or not.
    #[arg(long)]
    pub stale: bool,
}

/// `muxcli invoice watch`
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// Only this invoice; ends when nothing more can happen to it.
    pub hash: Option<PaymentHash>,
    /// Events after this number. Left out: from now on (for one invoice: from its beginning).
    #[arg(long, value_name = "SEQUENCE")]
    pub after: Option<u64>,
}

/// An invoice's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum State {
    /// Payable.
    Open,
    /// Held, undecided.
    Accepted,
    /// Decided.
    Settling,
    /// Paid.
    Settled,
    /// Decided, and some of it was lost.
    Partial,
    /// Cancelled.
    Canceled,
    /// Expired.
    Expired,
}

/// `muxcli htlc …`
#[derive(Debug, Subcommand)]
pub enum HtlcCommand {
    /// Lists HTLCs.
    List {
        /// Only those of this invoice.
        #[arg(long)]
        hash: Option<PaymentHash>,
        /// Only those whose end is not known.
        #[arg(long)]
        unresolved: bool,
        /// At most this many.
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// An operator's word on an HTLC whose end LND can no longer tell. Final, and kept.
    Resolve {
        /// The front node: its alias or public key.
        #[arg(long, value_name = "NODE")]
        node: String,
        /// The incoming channel.
        #[arg(long)]
        chan_id: u64,
        /// The HTLC's index in it.
        #[arg(long)]
        htlc_id: u64,
        /// What became of the money.
        outcome: Outcome,
    },
}

/// What became of an HTLC's money.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Outcome {
    /// It arrived.
    Settled,
    /// It did not.
    Lost,
}

/// `muxcli settings`
#[derive(Debug, Args)]
pub struct SettingsArgs {
    /// Settle complete sets at once (true), or let an application decide (false).
    #[arg(long, value_name = "BOOL")]
    pub auto_settle: Option<bool>,
    /// Blocks kept in hand before LND's own deadline.
    #[arg(long, value_name = "BLOCKS")]
    pub margin_blocks: Option<u32>,
    /// How long an incomplete set may wait.
    #[arg(long, value_name = "MS")]
    pub mpp_timeout_ms: Option<u64>,
    /// How long an accepted set may wait for an application.
    #[arg(long, value_name = "MS")]
    pub accept_timeout_ms: Option<u64>,
    /// HTLCs in one set.
    #[arg(long, value_name = "NUMBER")]
    pub max_parts_per_set: Option<u32>,
    /// Undecided HTLCs of one channel.
    #[arg(long, value_name = "NUMBER")]
    pub max_held_per_channel: Option<u32>,
    /// How long finished invoices are kept: a number of days, or "forever".
    #[arg(long, value_name = "DAYS|forever", value_parser = parse_keep)]
    pub keep_finished: Option<Keep>,
}

/// How long finished invoices are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// 0: for ever.
    pub ms: u64,
}

fn parse_keep(text: &str) -> Result<Keep, String> {
    const DAY_MS: u64 = 86_400_000;
    if text == "forever" {
        return Ok(Keep { ms: 0 });
    }
    let days = text.parse::<u64>().ok().filter(|days| *days > 0).and_then(|days| days.checked_mul(DAY_MS));
    days.map(|ms| Keep { ms }).ok_or_else(|| "give a number of days from 1 on, or \"forever\"".to_owned())
}

/// `muxcli front-node …`
#[derive(Debug, Subcommand)]
pub enum FrontNodeCommand {
    /// Shows all front nodes and how they are reached.
    List,
    /// Adds a front node to the running cluster, or changes one that was added.
    Add(Box<AddFrontNodeArgs>),
    /// No new invoice names it; its link goes on, so that what is held or promised is still received.
    Disable {
        /// Its alias or public key.
        node: String,
    },
    /// New invoices name it again.
    Enable {
        /// Its alias or public key.
        node: String,
    },
    /// Ends its link for good.
    Remove {
        /// Its alias or public key.
        node: String,
        /// Even if the end of some of its HTLCs is not known.
        #[arg(long)]
        force: bool,
    },
}

/// `muxcli front-node add`
#[derive(Debug, Args)]
pub struct AddFrontNodeArgs {
    /// identity_pubkey from `lncli getinfo`.
    pub pubkey: NodePubkey,
    /// Short name for people and metric labels.
    #[arg(long)]
    pub alias: String,
    /// Where LND's gRPC answers; several if it has standbys.
    #[arg(long, value_name = "HOST:PORT", required = true)]
    pub endpoint: Vec<String>,
    /// LND's tls.cert, a file here: one for all endpoints, or one for each.
    #[arg(long, value_name = "FILE", required = true)]
    pub lnd_cert: Vec<PathBuf>,
    /// Where its macaroon lies on every replica; a relative path is relative to the replica's muxd.toml.
    #[arg(long, value_name = "PATH")]
    pub lnd_macaroon: String,
    /// Where it runs: a replica of the same zone holds its link, if possible.
    #[arg(long, default_value = "")]
    pub zone: String,
    /// Fee of the hop to the virtual node.
    #[arg(long, default_value_t = 0, value_name = "MSAT")]
    pub fee_base_msat: u32,
    /// Fee of the hop, millionths.
    #[arg(long, default_value_t = 0, value_name = "PPM")]
    pub fee_ppm: u32,
    /// Blocks between incoming and outgoing expiry.
    #[arg(long, default_value_t = 80, value_name = "BLOCKS")]
    pub cltv_delta: u16,
    /// Do not connect to it first.
    #[arg(long)]
    pub no_check: bool,
}

impl SettingsArgs {
    /// Nothing is to be changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.auto_settle.is_none()
            && self.margin_blocks.is_none()
            && self.mpp_timeout_ms.is_none()
            && self.accept_timeout_ms.is_none()
            && self.max_parts_per_set.is_none()
            && self.max_held_per_channel.is_none()
            && self.keep_finished.is_none()
    }
}
