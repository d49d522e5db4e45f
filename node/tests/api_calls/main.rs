//! The client API over real gRPC with TLS, on the real state machine without consensus.

mod access;
mod events;
mod failures;
mod invoices;
mod lnmux;
mod server;
mod settle;
