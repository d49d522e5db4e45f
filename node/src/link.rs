//! The links: one per front node and replica, from LND's interceptor stream to the log and back.
//!
//! Links send by level, not by edge: what is outstanding on the stream is compared with the verdicts in
//! applied state after every apply, snapshot, reconnect and on a timer. What decides is pure
//! (`LinkCore`, `Ownership`); what touches LND, tasks and clocks is thin and around it.
//!
//! * [`Links`]: starts and stops everything; one supervisor per front node.
//! * [`LinksConfig`], [`Screener`]: what it is given.
//! * [`LinkStatus`]: what it shows.

mod answers;
mod backoff;
mod config;
mod core;
mod finals;
mod jobs;
mod links;
mod measure;
mod ownership;
mod rescue;
mod roster;
mod screener;
mod seats;
mod spans;
mod status;
mod stream;
mod supervisor;
mod told;
mod watch;

pub use config::{AssignConfig, LinkTiming, LinksConfig, RescueConfig};
pub use links::Links;
pub(crate) use roster::{from_log, is_removed};
pub use screener::{ClusterScreener, Failure, ScreenContext, Screened, Screener};
pub use status::{LinkPhase, LinkStatus};
