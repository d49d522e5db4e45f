//! A simulated LND, as far as an HTLC interceptor's client can see one.
//!
//! * [`core`]: the node as a pure, synchronous state machine: channels, HTLCs on their way through the
//!   link, the interceptable switch with its single client slot, mailbox, chain, restarts. No tokio, no
//!   clock, seeded randomness; every input is answered with outputs.
//! * [`cli`]: the process around it.
//! * [`server`]: the gRPC services around it, with TLS and macaroons as LND has them, the controls
//!   (`lndsim.v1.Control`) and the journal that makes a killed process come back like a killed LND.
//!
//! The behaviour is that of LND 0.21.2 / 0.20.3 and later. Where a comment names a file, it is LND's.

pub mod cli;
pub mod core;
pub mod server;

pub use server::{Config, ConnId, Hosted, MemoryJournal, Ready, Running, Server, StartError};
