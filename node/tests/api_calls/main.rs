//! The client API over real gRPC with TLS, on the real state machine without consensus.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod access;
mod backups;
mod events;
mod failures;
mod invoices;
mod lnmux;
mod server;
mod settle;
