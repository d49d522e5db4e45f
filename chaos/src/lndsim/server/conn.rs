//! Connections that a fault can reset or stall: real ones byte by byte, those that only calls say they belong to call
//! by call (see `hosted`).

use std::{
    collections::BTreeMap,
    io,
    pin::Pin,
    sync::{
        Arc, Weak,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// What can be done to a connection.
pub(super) struct Handle {
    cut: CancellationToken,
    stalled: AtomicBool,
}

impl Handle {
    fn new() -> Arc<Self> {
        Arc::new(Self { cut: CancellationToken::new(), stalled: AtomicBool::new(false) })
    }

    /// Cancelled: the connection is reset.
    pub(super) fn cut(&self) -> &CancellationToken {
        &self.cut
    }

    /// Whether nothing passes any more.
    pub(super) fn is_stalled(&self) -> bool {
        self.stalled.load(Ordering::Relaxed)
    }
}

/// All connections of a node.
#[derive(Clone, Default)]
pub(super) struct Connections {
    open: Arc<Mutex<BTreeMap<ConnId, Weak<Handle>>>>,
    total: Arc<AtomicU64>,
}

impl Connections {
    /// Takes a new connection under control.
    pub(super) fn add(&self, io: TlsStream<TcpStream>) -> Conn {
        let id = ConnId(self.total.fetch_add(1, Ordering::Relaxed));
        let handle = Handle::new();
        self.open.lock().insert(id, Arc::downgrade(&handle));
        let cut = Box::pin(handle.cut.clone().cancelled_owned());
        Conn { io, id, handle, cut, connections: self.clone() }
    }

    /// The connection that a call says it belongs to. One that was reset is a new one from then on, as is one without
    /// any calls: nobody could tell the difference.
    pub(super) fn join(&self, id: ConnId) -> Arc<Handle> {
        let mut open = self.open.lock();
        open.retain(|_, handle| handle.strong_count() > 0);
        let known = open.get(&id).and_then(Weak::upgrade).filter(|handle| !handle.cut.is_cancelled());
        known.unwrap_or_else(|| {
            let handle = Handle::new();
            open.insert(id, Arc::downgrade(&handle));
            handle
        })
    }

    /// A connection for a call that names none.
    pub(super) fn lone(&self) -> (ConnId, Arc<Handle>) {
        // From the other end, so as not to be one that somebody names.
        let id = ConnId(u64::MAX - self.total.fetch_add(1, Ordering::Relaxed));
        (id, self.join(id))
    }

    /// Resets one connection, or all.
    pub(super) fn reset(&self, which: Option<ConnId>) {
        self.each(which, |handle| handle.cut.cancel());
    }

    /// Resets later what is open now.
    pub(super) fn cutter(&self, which: Option<ConnId>) -> impl FnOnce() + Send + use<> {
        let mut tokens = Vec::new();
        self.each(which, |handle| tokens.push(handle.cut.clone()));
        move || tokens.iter().for_each(CancellationToken::cancel)
    }

    /// Lets nothing pass any more on one connection, or all.
    pub(super) fn stall(&self, which: Option<ConnId>) {
        self.each(which, |handle| handle.stalled.store(true, Ordering::Relaxed));
    }

    fn each(&self, which: Option<ConnId>, mut act: impl FnMut(&Handle)) {
        let open = self.open.lock();
        let chosen = open.iter().filter(|(id, _)| which.is_none_or(|which| which == **id));
        chosen.filter_map(|(_, handle)| handle.upgrade()).for_each(|handle| act(&handle));
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
        self.handle.is_stalled().then_some(Poll::Pending)
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
