use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use mux_proto::{
    chainrpc::BlockEpoch,
    lnrpc::{ChannelEventUpdate, WalletState},
    routerrpc::{ForwardHtlcInterceptRequest, HtlcEvent},
};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, broadcast, mpsc, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{
    super::core::{Core, Input, Output, Record, Rejected, Reply, StreamError, StreamErrorCode, StreamId},
    conn::{ConnId, Connections},
    journal::Journal,
    load::{Load, Tracked},
    macaroon::Macaroons,
    tls::Tls,
};

/// Events a subscriber may be behind by; LND queues without bound.
pub(super) const EVENTS_MAX: usize = 65_536;
/// The same for a node without ports of its own, one of many that are started again and again.
pub(super) const EVENTS_FEW: usize = 2_048;
/// What the core hands to a stream before it waits: one offer, one end.
const STREAM_CAPACITY: usize = 4;
/// How long after a graceful stop connections are cut.
const GRACE: Duration = Duration::from_millis(200);

/// What the core says to one interceptor stream.
pub(super) enum ToStream {
    Offer(Box<ForwardHtlcInterceptRequest>),
    End(Status),
}

/// An interceptor stream, as the node knows it.
struct StreamHandle {
    conn: Option<ConnId>,
    outbound: mpsc::Sender<ToStream>,
    taken: Arc<Notify>,
}

/// The other end of it.
pub(super) struct StreamPort {
    pub(super) id: StreamId,
    pub(super) outbound: mpsc::Receiver<ToStream>,
    pub(super) taken: Arc<Notify>,
}

struct Inner {
    core: Core,
    journal: Journal,
    load: Load,
    /// Nothing happens any more, whatever tasks are still around.
    killed: bool,
}

/// The core with everything it acts on.
pub(super) struct Node {
    inner: Mutex<Inner>,
    streams: Mutex<HashMap<StreamId, StreamHandle>>,
    streams_total: AtomicU64,
    pub(super) connections: Connections,
    pub(super) htlc_events: broadcast::Sender<HtlcEvent>,
    blocks: broadcast::Sender<BlockEpoch>,
    pub(super) channel_events: broadcast::Sender<ChannelEventUpdate>,
    pub(super) wallet: watch::Sender<WalletState>,
    pub(super) listening: watch::Sender<bool>,
    /// Counts steps that changed something.
    pub(super) changed: watch::Sender<u64>,
    pub(super) macaroons: Macaroons,
    /// `None`: nobody could see a certificate.
    tls: Option<Arc<Tls>>,
    /// After how long a stalled connection is dead, where nothing else finds out.
    keepalive: Option<Duration>,
    timer: Notify,
    /// When the node started, and what the wall clock said then, in microseconds since the Unix epoch.
    started: (Instant, u64),
    /// Ends the whole server.
    pub(super) stop: CancellationToken,
}

impl Node {
    pub(super) fn new(
        core: Core,
        journal: Journal,
        macaroons: Macaroons,
        tls: Option<Arc<Tls>>,
        unix_us: u64,
        events_max: usize,
    ) -> Self {
        Self {
            inner: Mutex::new(Inner { core, journal, load: Load::default(), killed: false }),
            streams: Mutex::default(),
            streams_total: AtomicU64::new(0),
            connections: Connections::default(),
            htlc_events: broadcast::channel(events_max).0,
            blocks: broadcast::channel(events_max).0,
            channel_events: broadcast::channel(events_max).0,
            wallet: watch::channel(WalletState::WaitingToStart).0,
            listening: watch::channel(false).0,
            changed: watch::channel(0).0,
            macaroons,
            tls,
            keepalive: None,
            timer: Notify::new(),
            started: (Instant::now(), unix_us),
            stop: CancellationToken::new(),
        }
    }

    /// For connections that have no keepalive themselves.
    pub(super) fn with_keepalive(self, keepalive: Duration) -> Self {
        Self { keepalive: Some(keepalive), ..self }
    }

    /// Milliseconds since the Unix epoch, never backwards.
    pub(super) fn now_ms(&self) -> u64 {
        self.now_us() / 1_000
    }

    /// The same in microseconds.
    pub(super) fn now_us(&self) -> u64 {
        let (start, unix_us) = self.started;
        let elapsed = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        unix_us.saturating_add(elapsed)
    }

    /// Looks at the core.
    pub(super) fn read<T>(&self, look: impl FnOnce(&Core) -> T) -> T {
        look(&self.inner.lock().core)
    }

    /// Carries out one input: journal first, then everything else.
    pub(super) fn apply(&self, input: Input) -> Result<Reply, Rejected> {
        self.step(input, &mut None)
    }

    /// The same for an HTLC whose verdict somebody waits for; `tracked` is left if it was not locked in.
    pub(super) fn apply_tracked(
        &self,
        input: Input,
        tracked: &mut Option<Tracked>,
    ) -> Result<Reply, Rejected> {
        self.step(input, tracked)
    }

    fn step(&self, input: Input, tracked: &mut Option<Tracked>) -> Result<Reply, Rejected> {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        if inner.killed {
            return Err(Rejected::Precondition("the node was killed".to_owned()));
        }
        let handled = inner.core.handle(input, self.now_ms());
        let (mut records, mut rest): (Vec<Record>, Vec<Output>) = (Vec::new(), Vec::new());
        for output in handled.outputs {
            match output {
                Output::Persist(record) => records.push(record),
                output => rest.push(output),
            }
        }
        if let Err(error) = inner.journal.append(&records) {
            tracing::error!(%error, "the journal cannot be written; stopping");
            self.stop.cancel();
        }
        if let Ok(Reply::Added(key)) = handled.reply
            && let Some(tracked) = tracked.take()
        {
            inner.load.track(key, tracked);
        }
        inner.load.observe(&rest, &inner.core, self.now_us());
        rest.into_iter().for_each(|output| self.route(output));
        drop(guard);
        self.timer.notify_one();
        handled.reply
    }

    /// Whether anybody would take a connection.
    pub(super) fn is_up(&self) -> bool {
        *self.listening.borrow() && !self.stop.is_cancelled()
    }

    /// The end, without any ceremony: no input is taken and nothing is written any more.
    pub(super) fn kill(&self) {
        self.inner.lock().killed = true;
        self.stop.cancel();
        self.connections.reset(None);
    }

    fn route(&self, output: Output) {
        // Sending to nobody is not an error: events without subscribers are gone, as in LND.
        match output {
            Output::Persist(_) => {}
            Output::Offer(stream, offer) => self.to_stream(stream, ToStream::Offer(offer)),
            Output::AnswerTaken(stream) => {
                if let Some(handle) = self.streams.lock().get(&stream) {
                    handle.taken.notify_one();
                }
            }
            Output::CloseStream(stream, error) => {
                tracing::info!(error = %error.text, "interceptor stream ends");
                self.to_stream(stream, ToStream::End(status(error)));
            }
            Output::ResetConnections { of, gracefully } => self.reset(of, gracefully),
            Output::StallConnections(of) => {
                if let Some(which) = self.connection_of(of) {
                    self.connections.stall(which);
                    if let Some(keepalive) = self.keepalive {
                        self.reset_after(which, keepalive);
                    }
                }
            }
            Output::Listening(up) => drop(self.listening.send_replace(up)),
            Output::HtlcEvent(event) => drop(self.htlc_events.send(event)),
            Output::Block(epoch) => drop(self.blocks.send(epoch)),
            Output::ChannelEvent(event) => drop(self.channel_events.send(event)),
            Output::WalletState(state) => drop(self.wallet.send_replace(state)),
            Output::RotateTlsCert => {
                if let Some(Err(error)) = self.tls.as_ref().map(|tls| tls.rotate()) {
                    tracing::error!(%error, "no new certificate");
                }
            }
            Output::Changed => self.changed.send_modify(|count| *count = count.wrapping_add(1)),
        }
    }

    fn to_stream(&self, stream: StreamId, message: ToStream) {
        if let Some(handle) = self.streams.lock().get(&stream)
            && handle.outbound.try_send(message).is_err()
        {
            tracing::debug!(?stream, "the interceptor stream is gone already");
        }
    }

    fn reset(&self, of: Option<StreamId>, gracefully: bool) {
        let Some(which) = self.connection_of(of) else { return };
        if gracefully {
            self.reset_after(which, GRACE);
        } else {
            self.connections.reset(which);
        }
    }

    /// What is open now.
    fn reset_after(&self, which: Option<ConnId>, pause: Duration) {
        let now_open = self.connections.cutter(which);
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            now_open();
        });
    }

    /// `Some(None)`: all; `None`: that stream has none.
    fn connection_of(&self, stream: Option<StreamId>) -> Option<Option<ConnId>> {
        match stream {
            None => Some(None),
            Some(stream) => self.streams.lock().get(&stream).and_then(|handle| handle.conn).map(Some),
        }
    }

    /// Takes the interceptor slot, or says that it is taken.
    pub(super) fn open_stream(&self, conn: Option<ConnId>) -> Result<StreamPort, Rejected> {
        let id = StreamId(self.streams_total.fetch_add(1, Ordering::Relaxed));
        let (sender, outbound) = mpsc::channel(STREAM_CAPACITY);
        let taken = Arc::new(Notify::new());
        let handle = StreamHandle { conn, outbound: sender, taken: Arc::clone(&taken) };
        self.streams.lock().insert(id, handle);
        match self.apply(Input::StreamOpened(id)) {
            Ok(_) => Ok(StreamPort { id, outbound, taken }),
            Err(rejected) => {
                self.streams.lock().remove(&id);
                Err(rejected)
            }
        }
    }

    /// The stream is over, whatever the core knows about it.
    pub(super) fn close_stream(&self, stream: StreamId) {
        drop(self.apply(Input::StreamClosed(stream)));
        self.streams.lock().remove(&stream);
    }

    /// Blocks from now on, with what `look` sees at this very moment.
    pub(super) fn watch_blocks<T>(
        &self,
        look: impl FnOnce(&Core) -> T,
    ) -> (broadcast::Receiver<BlockEpoch>, T) {
        let inner = self.inner.lock();
        (self.blocks.subscribe(), look(&inner.core))
    }

    /// Lets the core's timers fire, until the server stops.
    pub(super) async fn run_timers(self: Arc<Self>) {
        loop {
            let due = self.read(Core::next_deadline_ms);
            let wait = due.map(|at| Duration::from_millis(at.saturating_sub(self.now_ms())));
            let sleep = async {
                match wait {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = self.timer.notified() => {}
                () = sleep => drop(self.apply(Input::Tick)),
            }
        }
    }
}

fn status(error: StreamError) -> Status {
    match error.code {
        StreamErrorCode::Unknown => Status::unknown(error.text),
        StreamErrorCode::InvalidArgument => Status::invalid_argument(error.text),
    }
}
