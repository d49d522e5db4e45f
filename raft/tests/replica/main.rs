//! Whole replicas: consensus, storage and network together.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

mod archive;
mod backups;
mod certificates;
mod cluster;
mod damage;
mod disk_faults;
mod divergence;
mod elections;
mod engine;
mod failures;
mod identity;
mod invoices;
mod joining;
mod keeping;
mod leadership;
mod members;
mod probation;
mod restoring;
mod snapshots;
mod upgrade;
