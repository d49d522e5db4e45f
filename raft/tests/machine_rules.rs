//! The rules of the state machine, one test each, through its public interface.

#![allow(clippy::unwrap_used)]

#[path = "machine_rules/archive.rs"]
mod archive;
#[path = "machine_rules/finals.rs"]
mod finals;
#[path = "machine_rules/front_nodes.rs"]
mod front_nodes;
#[path = "machine_rules/gate.rs"]
mod gate;
#[path = "machine_rules/heights.rs"]
mod heights;
#[path = "machine_rules/invoices.rs"]
mod invoices;
#[path = "machine_rules/keeping.rs"]
mod keeping;
#[path = "machine_rules/log.rs"]
mod log;
#[path = "machine_rules/offers.rs"]
mod offers;
#[path = "machine_rules/payment.rs"]
mod payment;
#[path = "machine_rules/restoring.rs"]
mod restoring;
#[path = "machine_rules/sessions.rs"]
mod sessions;
#[path = "machine_rules/settle.rs"]
mod settle;
#[path = "machine_support/mod.rs"]
mod support;
