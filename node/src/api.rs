//! The client API: lnmux-compatible `lnmux.Service` and the multiplexer's own `mux.v1`, over gRPC with TLS.
//!
//! Any replica serves any call: writes go through consensus, reads wait for a read barrier unless they ask
//! for stale ones. One file per call (or pair of calls). A preimage is only ever put into an answer when the
//! invoice is decided in this replica's applied state (promise 1 of the design); `view` is the one place
//! that does it, but for `lnmux.return_preimage`, which an operator has to ask for.

mod add_invoice;
mod auth;
mod backup;
mod cancel_invoice;
mod context;
mod drain;
mod error;
mod events;
mod front_nodes;
mod hints;
mod htlcs;
mod invoices;
mod lnmux;
mod members;
mod services;
mod settings;
mod settle_invoice;
mod status;
mod view;

pub use auth::{AdminToken, METADATA_KEY, RequireToken};
pub use context::{ApiConfig, Context, LinkView};
pub use drain::{DrainOrder, DrainReport};
pub use error::ApiError;
pub use lnmux::LnmuxService;
pub use services::{Cluster, Invoices};
pub(crate) use status::invoices_by_state;
