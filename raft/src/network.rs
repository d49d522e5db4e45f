//! The network between replicas: gRPC over mutual TLS.
//!
//! Every call says which cluster it is for, who sends it and whom it addresses; the receiver checks all three,
//! the sender's certificate among them, before it does anything. Two connections lead to each peer, one for
//! snapshots and one for everything else; they stay open. All deadlines are this module's own: openraft sets
//! none.
//!
//! * `net`: how others are reached, so that a simulation can bring its own network; `tls_net`: over TCP and TLS.
//! * `tls`: certificates and names.
//! * `peers`: connections.
//! * `peer_client`: openraft's view of a peer.
//! * `append_stream`: pipelined replication, the sending end.
//! * `stores`: which data directory is which replica's. `guard`: who may call; `clearance`: what this replica may answer.
//! * `transport`: Raft's service.
//! * `incoming_snapshot`: receives a snapshot into a file.
//! * `archive_fetch`: brings the records that a snapshot names; `archive_source`: gives them to others.
//! * `links`: a switch for the traffic between two replicas, for tests and fault injection.

mod append_stream;
mod archive_fetch;
mod archive_source;
mod clearance;
mod guard;
mod incoming_snapshot;
mod links;
mod net;
mod peer_client;
mod peers;
mod stores;
mod tls;
mod tls_listener;
mod tls_net;
mod transport;

pub(crate) use archive_fetch::ArchiveFetch;
pub(crate) use archive_source::ArchiveSource;
pub(crate) use clearance::{Clearance, May};
pub(crate) use guard::{Callers, Guard};
pub use links::Links;
pub use net::{CallerId, ChannelError, Lane, Net, PeerChannel};
pub(crate) use peers::Peers;
pub(crate) use stores::Stores;
pub(crate) use tls::{HANDSHAKE_TIMEOUT, TlsMaterial};
pub use tls_listener::{ServerTls, tls_incoming};
pub(crate) use tls_net::TlsNet;
pub(crate) use transport::{Heard, Transport};

/// The largest message that is sent or taken. A batch of entries is cut at 1 MiB by the log.
pub(crate) const MESSAGE_BYTES_MAX: usize = 8 << 20;
