//! Connections that a fault can reset or stall.

use std::{
    collections::HashMap,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

/// Number of a connection, never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ConnId(u64);

struct Handle {
    cut: CancellationToken,
    stalled: AtomicBool,
}

/// All connections of a node.
#[derive(Clone, Default)]
pub(super) struct Connections {
    open: Arc<Mutex<HashMap<ConnId, Arc<Handle>>>>,
    total: Arc<AtomicU64>,
}

impl Connections {
    /// Takes a new connection under control.
    pub(super) fn add(&self, io: TlsStream<TcpStream>) -> Conn {
        let id = ConnId(self.total.fetch_add(1, Ordering::Relaxed));
        let handle = Arc::new(Handle { cut: CancellationToken::new(), stalled: AtomicBool::new(false) });
        self.open.lock().insert(id, Arc::clone(&handle));
        let cut = Box::pin(handle.cut.clone().cancelled_owned());
        Conn { io, id, handle, cut, connections: self.clone() }
    }

    /// Resets one connection, or all.
    pub(super) fn reset(&self, which: Option<ConnId>) {
        self.each(which, |handle| handle.cut.cancel());
    }

    /// Resets later what is open now.
    pub(super) fn cutter(&self, which: Option<ConnId>) -> impl FnOnce() + Send + use<> {
        let mut tokens = Vec::new();
        let open = self.open.lock();
        let chosen = open.iter().filter(|(id, _)| which.is_none_or(|which| which == **id));
        tokens.extend(chosen.map(|(_, handle)| handle.cut.clone()));
        move || tokens.iter().for_each(CancellationToken::cancel)
    }

    /// Lets nothing pass any more on one connection, or all.
    pub(super) fn stall(&self, which: Option<ConnId>) {
        self.each(which, |handle| handle.stalled.store(true, Ordering::Relaxed));
    }

    fn each(&self, which: Option<ConnId>, act: impl Fn(&Handle)) {
        let open = self.open.lock();
        open.iter().filter(|(id, _)| which.is_none_or(|which| which == **id)).for_each(|(_, h)| act(h));
    }
}

/// A connection of a client.
pub(super) struct Conn {
    io: TlsStream<TcpStream>,
    id: ConnId,
    handle: Arc<Handle>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    connections: Connections,
}

impl Conn {
    /// Ready with an error once it is cut, pending while it is stalled, `None` when it works.
    fn poll_fault(&mut self, cx: &mut Context<'_>) -> Option<Poll<io::Error>> {
        if self.cut.as_mut().poll(cx).is_ready() {
            return Some(Poll::Ready(io::ErrorKind::ConnectionReset.into()));
        }
        self.handle.stalled.load(Ordering::Relaxed).then_some(Poll::Pending)
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        if self.handle.cut.is_cancelled() {
            // A reset rather than an orderly end; failing to ask for one changes nothing that matters.
            let _ = self.io.get_ref().0.set_zero_linger();
        }
        self.connections.open.lock().remove(&self.id);
    }
}

impl Connected for Conn {
    type ConnectInfo = ConnId;

    fn connect_info(&self) -> ConnId {
        self.id
    }
}

impl AsyncRead for Conn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.poll_fault(cx) {
            Some(fault) => fault.map(Err),
            None => Pin::new(&mut self.io).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Conn {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.poll_fault(cx) {
            Some(fault) => fault.map(Err),
            None => Pin::new(&mut self.io).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.poll_fault(cx) {
            Some(fault) => fault.map(Err),
            None => Pin::new(&mut self.io).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.poll_fault(cx) {
            Some(fault) => fault.map(Err),
            None => Pin::new(&mut self.io).poll_shutdown(cx),
        }
    }
}
