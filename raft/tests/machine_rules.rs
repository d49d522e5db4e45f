//! The rules of the state machine, one test each, through its public interface.

#[path = "machine_rules/payment.rs"]
mod payment;
#[path = "machine_support/mod.rs"]
mod support;
