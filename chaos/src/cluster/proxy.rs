//! A way between one replica and one LND node that can be cut: a TCP relay on loopback.

use std::net::{Ipv4Addr, SocketAddr};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};
use tokio_util::task::AbortOnDropHandle;

/// Bytes relayed at a time.
const CHUNK: usize = 16 * 1024;

/// What the way is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Everything gets through.
    Open,
    /// Nothing gets through, and nobody is told: a dead router.
    Stalled,
    /// Connections are reset and refused.
    Cut,
}

/// A relay in front of one LND, for one replica. Gone when dropped.
pub struct Proxy {
    address: SocketAddr,
    way: watch::Sender<Way>,
    _relay: AbortOnDropHandle<()>,
}

impl Proxy {
    pub(super) async fn start(target: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (way, watched) = watch::channel(Way::Open);
        let relay = AbortOnDropHandle::new(tokio::spawn(accept(listener, target, watched)));
        Ok(Self { address, way, _relay: relay })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the way, for the connections that are there too.
    pub fn set(&self, way: Way) {
        self.way.send_replace(way);
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, way: watch::Receiver<Way>) {
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        if *way.borrow() == Way::Cut {
            continue;
        }
        tokio::spawn(relay(client, target, way.clone()));
    }
}

/// Ends when either side does, or the way is cut.
async fn relay(client: TcpStream, target: SocketAddr, mut way: watch::Receiver<Way>) {
    let Ok(server) = TcpStream::connect(target).await else { return };
    // Latency is what is measured through this.
    let _ = client.set_nodelay(true).and_then(|()| server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let (forth, back) =
        (pump(from_client, to_server, way.clone()), pump(from_server, to_client, way.clone()));
    tokio::select! {
        () = forth => {}
        () = back => {}
        _ = way.wait_for(|way| *way == Way::Cut) => {}
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut way: watch::Receiver<Way>) {
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = from.read(&mut chunk).await;
        if way.wait_for(|way| *way == Way::Open).await.is_err() {
            return;
        }
        match read {
            Ok(length) if length > 0 => {
                if to.write_all(&chunk[..length]).await.is_err() {
                    return;
                }
            }
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        address
    }

    async fn answers(stream: &mut TcpStream, within: Duration) -> bool {
        let mut byte = [0];
        stream.write_all(b"x").await.is_ok()
            && matches!(tokio::time::timeout(within, stream.read(&mut byte)).await, Ok(Ok(1)))
    }

    #[tokio::test]
    async fn stalled_way_comes_back_and_cut_way_is_noticed() {
        let proxy = Proxy::start(echo().await).await.unwrap();
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert!(answers(&mut stream, Duration::from_secs(5)).await);
        proxy.set(Way::Stalled);
        assert!(!answers(&mut stream, Duration::from_millis(100)).await);
        proxy.set(Way::Open);
        assert!(answers(&mut stream, Duration::from_secs(5)).await);
        proxy.set(Way::Cut);
        let mut rest = Vec::new();
        let end = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut rest)).await;
        assert!(end.is_ok(), "the connection ends");
        let mut refused = TcpStream::connect(proxy.address()).await.unwrap();
        assert!(!answers(&mut refused, Duration::from_secs(5)).await);
    }
}
