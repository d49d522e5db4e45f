//! The network between replicas: gRPC over mutual TLS.
//!
//! * [`links`]: a switch for the traffic between two replicas, for tests and fault injection.

mod links;

pub use links::Links;
