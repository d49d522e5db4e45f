//! Whether what clients saw can be explained at all.
//!
//! A run of the real cluster leaves a history: who asked what, when, and what came back. The checkers here know
//! nothing of the cluster but its promises. They are themselves tested with histories that must be rejected.
//!
//! * `linear`: linearizability of any history against any model. `invoice`: the model of one invoice.
//! * `history`: what clients record. `events`: what subscribers saw.

pub mod events;
pub mod history;
pub mod invoice;
pub mod linear;
