use super::{
    chain::Chain,
    channel::Channel,
    htlc::{HtlcKey, Outcome, Progress, Terms},
    settings::Settings,
};
use mux_raft::types::Preimage;
use serde::{Deserialize, Serialize};

/// A change to the node's database (and to the simulation's ledger), in the order it happened. What is not
/// here (mailbox, held set, streams) is memory and dies with the process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// Flags and identity.
    Settings(Settings),
    /// Block chain.
    Chain(Chain),
    /// A channel, as it is now.
    Channel(Channel),
    /// A new HTLC.
    HtlcAdded(Terms),
    /// What became of one.
    HtlcProgress(HtlcKey, Progress),
    /// The witness cache learned a preimage.
    Witness(Preimage),
    /// The payer learned something.
    Outcome(Outcome),
    /// A client did what no correct client does.
    Complaint(String),
}
