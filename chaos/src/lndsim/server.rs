//! The gRPC services around the [`Core`], and its clock, connections and journal.
//!
//! [`Hosted`] is a node without sockets and files: LND's services and the controls as routes, for simulations on one
//! thread. [`Server::start`] puts one on ports: LND's services with TLS on one, the controls in plaintext on another.
//! Every input goes through `node::Node::apply`, which writes the journal before
//! anybody sees an effect. What LND sends late is sent late here too: a stream's response headers go out
//! with its first message (see `lazy`).

mod chain_notifier;
mod config;
mod conn;
mod control;
mod faulty;
mod guard;
mod hosted;
mod identity;
mod interceptor;
mod journal;
mod lazy;
mod lightning;
mod listener;
mod load;
mod macaroon;
mod node;
mod router;
mod running;
mod state;
mod tls;

pub use config::Config;
pub use conn::ConnId;
pub use hosted::Hosted;
pub use journal::MemoryJournal;
pub use running::{Ready, Running, Server, StartError};

#[cfg(doc)]
use super::core::Core;
