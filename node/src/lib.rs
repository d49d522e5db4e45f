//! x
pub mod link;
pub mod lnd;
