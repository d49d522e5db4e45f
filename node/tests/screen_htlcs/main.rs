//! The stateless screening, seen from the payer's end: real onions over [front node → virtual node], and
//! failures decoded by the payer with the front node's layer on them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code, helper functions included")]

mod amounts;
mod answers;
mod offers;
mod onions;
mod world;
