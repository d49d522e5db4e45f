//! The network between hosts: the real tonic services and clients, without TCP, TLS and HTTP/2.
//!
//! A client's channel ([`SimChannel`]) gives the head of its request and every frame of its body to the [`Network`], which
//! lives outside of all hosts and decides when each arrives, or whether; there the [`Port`] of the other host gives them
//! to the services that listen there, and the response comes back in the same way.
//!
//! Connections are kept as TCP and HTTP/2 keep them: made on first use (a round trip, refused or timed out), broken
//! (both ends learn of it, each as soon as something can reach it), and given up when nothing has passed for as long as
//! keep-alive allows. A frame of a stream never overtakes another of its stream; streams overtake each other,
//! unless [`Conditions::in_order`].
//!
//! So no message is lost, doubled or overtaken within a stream: TCP would send it again, once, in its place, which makes it
//! slow ([`Conditions::slow`]). What can happen to a call is what a connection that breaks, or a caller that asks again, does
//! to it: it is handled and its answer is lost ([`Conditions::lose`]), it is handled twice ([`Conditions::duplicate`]), or it
//! is handled after what was asked later over another connection ([`Conditions::stray`]).
//!
//! * `packet`: what travels. `conditions`: how it fares. `network`: in between; its `mishaps`: what breaking connections do
//!   to calls. `connection`: what both ends know.
//! * `port`: a host's end. `stream`: one call there. `body`: what arrives of it. `channel`: the clients' side. `peers`: the
//!   replicas' [`mux_raft::network::Net`]. `votes`: what they said in elections. `answers`: what they said to LND nodes.

mod answers;
mod body;
mod channel;
mod conditions;
mod connection;
mod network;
mod packet;
mod peers;
mod port;
mod stream;
mod votes;

pub(in crate::sim) use answers::FailSent;
pub use channel::{ChannelSettings, SimChannel};
pub use conditions::{Conditions, KeepAlive};
pub use network::{Network, Traffic};
pub use packet::{ConnectionId, Content, End, Packet, StreamId};
pub use peers::RaftNet;
pub use port::{Admit, Port};
