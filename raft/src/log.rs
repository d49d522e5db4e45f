//! The Raft log: in memory for readers, on disk for keeps.
//!
//! `append` puts entries in memory, where they are readable at once, and returns; one thread (inline: one task) owns the
//! [engine](crate::store), drains its queue, writes one batch, syncs it and only then completes callbacks, in
//! the order of the appends. Votes, truncation and purge go through the same queue, so nothing overtakes
//! anything: a vote is durable before any entry of its term. A truncation reaches the
//! disk with what takes the place of what it cut: with entries that replace it (of a long one the last entries go before, and
//! none that this replica may still have to answer for: the leader's log lacks them), or once a snapshot that has it is
//! durable. When openraft installs a snapshot over a tail of the replica's own, it cuts off everything after what it knows to
//! be committed, and among that may be what this replica has acknowledged. Any error stops the replica: the thread never calls the engine again.
//!
//! * `memory`: the un-purged tail that serves all reads.
//! * `writer`: the thread.
//! * `log_store`: both behind openraft's traits.

mod log_store;
mod memory;
mod writer;

pub(crate) use log_store::LogStore;

#[cfg(test)]
mod tests;
