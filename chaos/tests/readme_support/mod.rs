//! README as a program: its blocks, and a machine that carries them out.

#![allow(unreachable_pub)] // shared test code
#![allow(clippy::unwrap_used, clippy::panic)] // test code, outside of test functions

pub mod document;
pub mod lnd;
pub mod machine;
