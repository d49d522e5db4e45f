//! A relay in front of one listener: it knows who connects, and delays, holds back or cuts each direction.
//!
//! Not `tc netem`: many kernels that tests run on do not have it.

use super::wires::{Way, Wire};
use crate::cluster::Host;
use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
    task::JoinSet,
    time::Instant,
};
use tokio_util::task::AbortOnDropHandle;

/// Bytes relayed at a time.
const CHUNK: usize = 16 * 1024;

/// Chunks on their way: with these a delay of a second still lets a snapshot through.
const CHUNKS: usize = 64;

/// After an error of `accept` (too many open files, say).
const ACCEPT_AGAIN: Duration = Duration::from_millis(10);

/// How it goes on each way; one that is missing is open.
pub(crate) type State = BTreeMap<Way, Wire>;

/// Tells which process a connection comes from.
pub(crate) trait Sources: Send + Sync {
    /// `None`: somebody who is nobody's concern.
    fn source(&self, peer: SocketAddr) -> Option<Host>;
}

/// See the [module](self). Gone, with its connections, when dropped.
#[derive(Debug)]
pub(crate) struct Relay {
    address: SocketAddr,
    _accepting: AbortOnDropHandle<()>,
}

/// The ends of the ways that a relay serves.
#[derive(Clone)]
pub(crate) struct Ends {
    /// Who is behind it.
    pub(crate) host: Host,
    /// Where that one listens.
    pub(crate) target: SocketAddr,
    /// Who is before it.
    pub(crate) sources: Arc<dyn Sources>,
}

impl Relay {
    /// Listens.
    pub(crate) async fn start(
        listen: SocketAddr,
        ends: Ends,
        state: watch::Receiver<State>,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let accepting = tokio::spawn(accept(listener, ends, state));
        Ok(Self { address, _accepting: AbortOnDropHandle::new(accepting) })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn accept(listener: TcpListener, ends: Ends, state: watch::Receiver<State>) {
    let mut relayed = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, peer)) => {
                    relayed.spawn(relay(client, peer, ends.clone(), state.clone()));
                }
                Err(_) => tokio::time::sleep(ACCEPT_AGAIN).await,
            },
            Some(_) = relayed.join_next() => {}
        }
    }
}

/// Ends when either side does, or either direction is cut.
async fn relay(client: TcpStream, peer: SocketAddr, ends: Ends, mut state: watch::Receiver<State>) {
    let source = ends.sources.source(peer);
    let there = source.map(|source| (source, ends.host));
    let back = source.map(|source| (ends.host, source));
    let is_cut = |state: &State| wire(state, there) == Wire::Cut || wire(state, back) == Wire::Cut;
    if is_cut(&state.borrow()) {
        return;
    }
    let Ok(server) = TcpStream::connect(ends.target).await else { return };
    // Without it a relay would add delays of its own; where it cannot be had it only does.
    let _ = client.set_nodelay(true).and_then(|()| server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        () = pump(from_client, to_server, there, state.clone()) => {}
        () = pump(from_server, to_client, back, state.clone()) => {}
        _ = state.wait_for(|state| is_cut(state)) => {}
    }
}

fn wire(state: &State, way: Option<Way>) -> Wire {
    way.and_then(|way| state.get(&way).copied()).unwrap_or_default()
}

/// Nothing is let through while the way is stalled or severed.
fn is_shut(wire: Wire) -> bool {
    matches!(wire, Wire::Stalled | Wire::Severed)
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    way: Option<Way>,
    mut state: watch::Receiver<State>,
) {
    let (sender, mut queue) = mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS);
    let delays = state.clone();
    let read = async move {
        let mut chunk = vec![0; CHUNK];
        while let Ok(length @ 1..) = from.read(&mut chunk).await {
            let delay = match wire(&delays.borrow(), way) {
                Wire::Delayed(delay) => delay,
                _ => Duration::ZERO,
            };
            if sender.send((Instant::now() + delay, chunk[..length].to_vec())).await.is_err() {
                return;
            }
        }
    };
    let write = async move {
        while let Some((due, chunk)) = queue.recv().await {
            tokio::time::sleep_until(due).await;
            if state.wait_for(|state| !is_shut(wire(state, way))).await.is_err()
                || to.write_all(&chunk).await.is_err()
            {
                return;
            }
        }
    };
    // The writer has the last word: it empties the queue when the reader is done.
    tokio::join!(read, write);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const SOON: Duration = Duration::from_secs(5);
    const HERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    const CALLER: Host = Host::Replica(1);
    const CALLED: Host = Host::Replica(2);

    struct Always;

    impl Sources for Always {
        fn source(&self, _peer: SocketAddr) -> Option<Host> {
            Some(CALLER)
        }
    }

    /// Answers every byte with one, and says when one has arrived.
    async fn echo() -> (SocketAddr, mpsc::Receiver<u8>) {
        let listener = TcpListener::bind(HERE).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, arrived) = mpsc::channel(64);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let sender = sender.clone();
                tokio::spawn(async move {
                    while let Ok(byte) = stream.read_u8().await {
                        sender.send(byte).await.unwrap();
                        stream.write_u8(byte).await.unwrap();
                    }
                });
            }
        });
        (address, arrived)
    }

    async fn answered(stream: &mut TcpStream, within: Duration) -> bool {
        matches!(tokio::time::timeout(within, stream.read_u8()).await, Ok(Ok(_)))
    }

    #[tokio::test]
    async fn each_direction_is_held_back_on_its_own_and_a_cut_ends_the_connection() {
        let (target, mut arrived) = echo().await;
        let (set, state) = watch::channel(State::new());
        let ends = Ends { host: CALLED, target, sources: Arc::new(Always) };
        let relay = Relay::start(HERE, ends, state).await.unwrap();
        let mut stream = TcpStream::connect(relay.address()).await.unwrap();
        stream.write_u8(1).await.unwrap();
        assert!(answered(&mut stream, SOON).await);
        assert_eq!(arrived.recv().await, Some(1));

        set.send_replace(State::from([((CALLED, CALLER), Wire::Stalled)]));
        stream.write_u8(2).await.unwrap();
        assert_eq!(arrived.recv().await, Some(2), "the way there is open");
        assert!(!answered(&mut stream, Duration::from_millis(100)).await, "the way back is not");
        set.send_replace(State::from([((CALLER, CALLED), Wire::Severed)]));
        assert!(answered(&mut stream, SOON).await, "what was held back comes when it opens");
        stream.write_u8(3).await.unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(100), arrived.recv()).await.is_err());
        set.send_replace(State::new());
        assert_eq!(arrived.recv().await, Some(3));
        assert!(answered(&mut stream, SOON).await);

        let late = Duration::from_millis(200);
        set.send_replace(State::from([((CALLER, CALLED), Wire::Delayed(late))]));
        let began = Instant::now();
        stream.write_u8(4).await.unwrap();
        assert!(answered(&mut stream, SOON).await);
        assert!(began.elapsed() >= late);

        set.send_replace(State::from([((CALLED, CALLER), Wire::Cut)]));
        let ended = tokio::time::timeout(SOON, stream.read_u8()).await.expect("the connection ends");
        assert!(ended.is_err());
        let mut refused = TcpStream::connect(relay.address()).await.unwrap();
        let ended = tokio::time::timeout(SOON, refused.read_u8()).await.expect("and no other is served");
        assert!(ended.is_err());
    }
}
