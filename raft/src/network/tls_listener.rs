//! A TLS listener whose certificate can be exchanged while it runs.
//!
//! Connections that are up keep what they were made with; new ones use what is current.

use parking_lot::RwLock;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;

/// Connections whose handshake is done and that were not taken yet.
const READY_MAX: usize = 64;

/// Handshakes at the same time.
const HANDSHAKES_MAX: usize = 256;

/// Pause after an error of the listener itself, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a listener shows and asks for. Clones share it.
#[derive(Clone)]
pub struct ServerTls(Arc<RwLock<Arc<ServerConfig>>>);

impl fmt::Debug for ServerTls {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerTls")
    }
}

impl ServerTls {
    /// From PEM: a certificate chain, its key and, if clients must show a certificate, the authority that issued it.
    ///
    /// # Errors
    /// A text: what cannot be used, and why.
    pub fn new(cert: &[u8], key: &[u8], client_ca: Option<&[u8]>) -> Result<Self, String> {
        Ok(Self(Arc::new(RwLock::new(Arc::new(config(cert, key, client_ca)?)))))
    }

    /// New connections use this from now on.
    ///
    /// # Errors
    /// As [`ServerTls::new`]; then nothing has changed.
    pub fn replace(&self, cert: &[u8], key: &[u8], client_ca: Option<&[u8]>) -> Result<(), String> {
        let config = Arc::new(config(cert, key, client_ca)?);
        *self.0.write() = config;
        Ok(())
    }

    fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.read())
    }
}

fn config(cert: &[u8], key: &[u8], client_ca: Option<&[u8]>) -> Result<ServerConfig, String> {
    let chain = certificates(cert).map_err(|error| format!("certificate: {error}"))?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| format!("key: {error}"))?;
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(ca).map_err(|error| format!("authority: {error}"))? {
                roots.add(certificate).map_err(|error| format!("authority: {error}"))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| format!("authority: {error}"))?)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| error.to_string())?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match chain {
        Ok(chain) if chain.is_empty() => Err("there is none".to_owned()),
        Ok(chain) => Ok(chain),
        Err(error) => Err(error.to_string()),
    }
}

/// Connections that have done their handshake within `handshake`. Ends, and closes the listener, when it is dropped.
#[must_use]
pub fn tls_incoming(
    listener: TcpListener,
    tls: ServerTls,
    handshake: Duration,
) -> ReceiverStream<io::Result<TlsStream<TcpStream>>> {
    let (ready, taken) = mpsc::channel(READY_MAX);
    tokio::spawn(accept(listener, tls, handshake, ready));
    ReceiverStream::new(taken)
}

/// Whoever connects and says nothing must not keep others out: who has had the most time gives way.
fn make_room(pending: &mut VecDeque<AbortHandle>) {
    if pending.len() < HANDSHAKES_MAX {
        return;
    }
    pending.retain(|task| !task.is_finished());
    if pending.len() >= HANDSHAKES_MAX
        && let Some(oldest) = pending.pop_front()
    {
        oldest.abort();
    }
}

async fn accept(
    listener: TcpListener,
    tls: ServerTls,
    handshake: Duration,
    ready: mpsc::Sender<io::Result<TlsStream<TcpStream>>>,
) {
    let mut pending: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let accepted = tokio::select! {
            () = ready.closed() => return,
            accepted = listener.accept() => accepted,
        };
        let tcp = match accepted {
            Ok((tcp, _)) => tcp,
            Err(error) => {
                tracing::debug!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (acceptor, ready) = (TlsAcceptor::from(tls.current()), ready.clone());
        let task = tokio::spawn(async move {
            // Only costs latency if it fails.
            let _ = tcp.set_nodelay(true);
            match tokio::time::timeout(handshake, acceptor.accept(tcp)).await {
                // Nobody takes it any more: the server has stopped.
                Ok(Ok(stream)) => drop(ready.send(Ok(stream)).await),
                Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
                Err(_) => tracing::debug!("TLS handshake took too long"),
            }
        });
        make_room(&mut pending);
        pending.push_back(task.abort_handle());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_says_nothing_for_longest_gives_way_to_newcomers() {
        let silent = |_| tokio::spawn(std::future::pending::<()>());
        let tasks: Vec<_> = (0..HANDSHAKES_MAX).map(silent).collect();
        let mut pending: VecDeque<_> = tasks.iter().map(tokio::task::JoinHandle::abort_handle).collect();
        make_room(&mut pending);
        assert_eq!(pending.len(), HANDSHAKES_MAX - 1);
        let mut tasks = tasks.into_iter();
        assert!(tasks.next().unwrap().await.unwrap_err().is_cancelled(), "the oldest");
        assert!(tasks.all(|task| !task.is_finished()), "and nobody else");
    }
}
