//! The replicated half of the multiplexer: the pure state machine of invoices and HTLC sets, and the Raft
//! log, storage and network that replicate it.
//!
//! * [`types`]: the words of the domain (hashes, amounts, circuit keys), shared by every crate.
//! * [`consensus`]: what the rest of a replica asks of consensus: propose, read, watch.
//! * [`local`]: the same without consensus, one process and no disk, for tests of what stands above.
//! * [`archive`], [`backup`]: what has left the state, and files to begin anew from.
//! * [`replica`]: consensus for real, with [`store`], [`network`] and [`clock`] below it.
//! * [`blocking`]: where blocking work is done. [`fault`]: named moments at which a simulation may step in.
//! * [`mutant`]: deliberate bugs, by which tests are tried.
//! * [`trace`]: which call something was done for.
//! * [`members`]: who belongs to the cluster, and which changes of that are allowed.
//! * [`machine`]: commands, state and `apply`. Pure: no IO, no clock, no randomness, no tokio.

pub mod archive;
pub mod backup;
pub mod blocking;
pub mod clock;
mod codec;
pub mod consensus;
pub mod fault;
pub mod local;
mod log;
pub mod machine;
pub mod members;
pub mod mutant;
pub mod network;
pub mod replica;
mod snapshot;
pub mod store;
pub mod trace;
pub mod types;
