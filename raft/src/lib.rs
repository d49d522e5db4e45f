//! The replicated half of the multiplexer: the pure state machine of invoices and HTLC sets, and the Raft
//! log, storage and network that replicate it.
//!
//! * [`types`]: the words of the domain (hashes, amounts, circuit keys), shared by every crate.
//! * [`machine`]: commands, state and `apply`. Pure: no IO, no clock, no randomness, no tokio.

pub mod machine;
pub mod types;
