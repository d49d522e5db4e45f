//! Deterministic simulation: real replicas in one thread, with simulated network, time and disks.
//!
//! Each process of the cluster is a [`host::Host`]: a tokio runtime of its own whose time stands still until the driver
//! lets it run for a tick. Between hosts there is only [`net`], which lives outside of all runtimes and delivers at moments
//! that it drew; a tick is no longer than the least time a message takes, so nothing that hosts say to each other within a
//! tick is missed. All randomness of a run follows from one seed: what the simulation draws itself ([`random`]), and
//! what the code under test draws from the operating system ([`entropy`]).
//!
//! Nothing may depend on real time, on the order of anything that is unordered, or on what ran before in the process. The
//! last cannot be had within one process (tokio counts its runtimes, and seeds its own choices with the number): so a seed
//! is run in a fresh process, by the binary `simulate`.
//!
//! * `time`, `random`, `entropy`: what time it is, and where chance comes from.
//! * `host`: a simulated process. `net`: between hosts. `disk`: what survives them.
//! * `lnd`: LND nodes on hosts of their own. `payments`: payers and applications.
//! * `trace`: what happened, and its hash. `panics`: whether anything panicked. `coverage`: what must have happened for a run to count.
//! * `swarm`: what a seed draws. `world`: a cluster, its load, its faults, and what is checked. `command`: the program.

pub mod command;
pub mod coverage;
pub mod disk;
pub mod entropy;
pub mod host;
pub mod lnd;
pub mod net;
pub mod panics;
pub mod payments;
pub mod random;
pub mod swarm;
pub mod time;
pub mod trace;
pub mod world;
