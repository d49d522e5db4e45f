//! The client to a front node: one LND identity behind one or several endpoints.
//!
//! * [`FrontNodeConfig`]: where a front node is and how to prove that it is the one.
//! * [`Dialer`]: finds the endpoint that is active (LND's own leader election) and lets it through the [`gate`] or
//!   refuses it with the words an operator needs.
//! * [`LndNet`]: how an endpoint is reached; `tls_net`: over TCP and TLS with its certificate pinned.
//! * [`LndClient`]: the calls a link makes, each with a deadline, except for the streams, which have none.
//!
//! Certificates and the macaroon are read again at every connect, so that their rotation needs no restart.

mod client;
mod config;
mod endpoint_tls;
mod endpoints;
mod error;
pub mod gate;
mod net;
mod tls;
mod tls_net;

pub use client::{InterceptorStream, LndClient};
pub use config::{CertificateSource, EndpointConfig, FrontNodeConfig};
pub use endpoints::Dialer;
pub use error::{LndError, Refusal};
pub use gate::NodeVersion;
pub use net::{LndListener, LndNet};
pub use tls::{PinnedCertificates, TlsError};
pub(crate) use tls_net::TlsNet;
