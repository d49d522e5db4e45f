//! What an archive must do, on disk and in memory, and what a disk does to it.

mod contract;
mod disk;
mod engine;
mod maker;
mod memory;
