//! What a replica says about itself: logs, metrics, and the last words of a panic.
//!
//! * [`init_logs`]: text or JSON lines on standard error, and spans for a collector.
//! * [`install_metrics`]: the Prometheus recorder; [`Sampler`] keeps the gauges that follow from the state.
//! * [`exit_on_panic`]: a panic anywhere is logged and ends the process: a replica that lost one of its
//!   tasks must not go on pretending.
//!
//! Labels are bounded: states, codes, configured aliases. No hashes, no peers, never a secret.

mod catalogue;
mod certificates;
mod logs;
mod otlp;
mod panic;
mod process;
mod sampler;

pub use catalogue::{CATALOGUE, Kind, Metric, describe, install_metrics, markdown};
pub use certificates::{CertificateFile, Expiries};
pub use logs::{Telemetry, ending, init_logs};
pub(crate) use logs::{check_filter, filter_of_environment};
pub use panic::exit_on_panic;
pub use process::record_process;
pub use sampler::Sampler;

/// Exit code of a replica that cannot go on (`EX_SOFTWARE` of sysexits.h).
pub const EXIT_FATAL: i32 = 70;
