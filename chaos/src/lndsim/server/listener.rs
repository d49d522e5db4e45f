//! Accepts connections: TLS, then under control of [`Connections`](super::conn::Connections).

use std::{sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_rustls::TlsAcceptor;

use super::{conn::Conn, node::Node, tls::Tls};

/// How long a client may take to shake hands.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after an error of accept (out of file descriptors and the like).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Until the server stops. While the node is down, connections are dropped at once.
pub(super) async fn accept(
    node: Arc<Node>,
    tls: Arc<Tls>,
    listener: TcpListener,
    connections: mpsc::Sender<Result<Conn, std::io::Error>>,
) {
    loop {
        let accepted = tokio::select! {
            () = node.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((tcp, _)) if *node.listening.borrow() => {
                tokio::spawn(handshake(Arc::clone(&node), tls.acceptor(), tcp, connections.clone()));
            }
            Ok((tcp, _)) => drop(tcp.set_zero_linger()),
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn handshake(
    node: Arc<Node>,
    acceptor: TlsAcceptor,
    tcp: TcpStream,
    connections: mpsc::Sender<Result<Conn, std::io::Error>>,
) {
    drop(tcp.set_nodelay(true));
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(tcp)).await {
        // A node that went down during the handshake has no connections.
        Ok(Ok(tls)) if *node.listening.borrow() => {
            drop(connections.send(Ok(node.connections.add(tls))).await);
        }
        Ok(Ok(_)) | Err(_) => {}
        Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
    }
}
