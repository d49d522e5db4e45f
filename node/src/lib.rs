//! x
pub mod invoice;
pub mod keys;
pub mod link;
pub mod lnd;
pub mod onion;
pub mod screen;
pub mod secrets;
