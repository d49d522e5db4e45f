use super::body::{Call, IncomingBody};
use super::conditions::KeepAlive;
use super::network::Network;
use super::packet::{ConnectionId, Content, End, Packet, StreamId};
use super::stream::{HeadSender, Stream, StreamKey, send_body};
use crate::sim::host::{HostClock, HostId};
use crate::sim::time::SimTime;
use bytes::Bytes;
use http_body::{Body as _, Frame};
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{mpsc, oneshot};
use tonic::body::Body;
use tonic::service::Routes;
use tonic::{Code, Status};
use tower::Service as _;

/// Marks a request, which has its [`ConnectionId`] already, with who called.
pub type Admit = Arc<dyn Fn(HostId, &mut http::Extensions) + Send + Sync>;

/// A host's end of the network, for as long as its process lives. Clones share it.
#[derive(Clone)]
pub struct Port {
    shared: Arc<Shared>,
}

struct Shared {
    host: HostId,
    network: Network,
    clock: HostClock,
    state: Mutex<State>,
    cut: AtomicBool,
}

#[derive(Default)]
struct State {
    listeners: BTreeMap<Arc<str>, Listener>,
    /// Connections that this host asked for.
    connecting: BTreeMap<ConnectionId, oneshot::Sender<bool>>,
    /// Those it made.
    made: BTreeSet<ConnectionId>,
    /// Those it took: what listens there, and who called.
    taken: BTreeMap<ConnectionId, (Arc<str>, HostId)>,
    streams: BTreeMap<StreamKey, Stream>,
    last_stream: u32,
}

/// A response ended with its connection.
#[derive(Debug, thiserror::Error)]
#[error("the response did not arrive: {0}")]
pub(super) struct Broken(#[source] pub(super) Status);

#[derive(Clone)]
struct Listener {
    routes: Routes,
    admit: Admit,
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port").field("host", &self.shared.host).finish_non_exhaustive()
    }
}

impl Port {
    pub(in crate::sim) fn new(host: HostId, network: Network, clock: HostClock) -> Self {
        let (state, cut) = (Mutex::default(), AtomicBool::new(false));
        Self { shared: Arc::new(Shared { host, network, clock, state, cut }) }
    }

    /// Serves what is called at this address, which the network must know.
    pub fn listen(&self, address: &str, routes: Routes, admit: Admit) {
        self.shared.state.lock().listeners.insert(address.into(), Listener { routes, admit });
    }

    /// Refuses calls at this address from now on, and ends those under way.
    pub fn hang_up(&self, address: &str) {
        self.shared.state.lock().listeners.remove(address);
        let at_it = |(id, (taken, _)): (&ConnectionId, &(Arc<str>, HostId))| {
            (taken.as_ref() == address).then_some(*id)
        };
        let taken: Vec<ConnectionId> = self.shared.state.lock().taken.iter().filter_map(at_it).collect();
        for id in taken {
            self.lost(id, End::Server, "the server has ended");
            self.shared.network.close(id, End::Server, self.now());
        }
    }

    /// From now on nothing leaves this host: whatever its tasks still do, it is dead.
    pub fn cut(&self) {
        self.shared.cut.store(true, Ordering::Relaxed);
    }

    /// Whether it was cut.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.shared.cut.load(Ordering::Relaxed)
    }

    /// Whose it is.
    #[must_use]
    pub fn host(&self) -> HostId {
        self.shared.host
    }

    /// The time in the world. Only inside of the process.
    #[must_use]
    pub fn now(&self) -> SimTime {
        self.shared.clock.now()
    }

    /// Drops everything that is kept for services and calls.
    pub(in crate::sim) fn clear(&self) {
        let state = std::mem::take(&mut *self.shared.state.lock());
        drop(state);
    }

    pub(super) fn send(&self, key: StreamKey, content: Content) {
        if !self.is_cut() {
            self.shared.network.send(self.shared.host, self.now(), Packet::from_end(key, content));
        }
    }

    /// Asks for a connection. The receiver says whether it was accepted.
    pub(super) fn connect(
        &self,
        address: &Arc<str>,
        keep_alive: [KeepAlive; 2],
    ) -> (ConnectionId, oneshot::Receiver<bool>) {
        let (accepted, waiting) = oneshot::channel();
        let network = &self.shared.network;
        let id = network.connect(self.shared.host, self.now(), address, keep_alive);
        self.shared.state.lock().connecting.insert(id, accepted);
        (id, waiting)
    }

    /// Gives up a connection that was asked for.
    pub(super) fn abandon(&self, id: ConnectionId) {
        self.shared.state.lock().connecting.remove(&id);
        if !self.is_cut() {
            self.shared.network.close(id, End::Client, self.now());
        }
    }

    /// Whether this host can call on a connection.
    pub(super) fn is_connected(&self, id: ConnectionId) -> bool {
        self.shared.state.lock().made.contains(&id)
    }

    /// Makes a call on a connection.
    pub(super) async fn call(
        &self,
        connection: ConnectionId,
        request: http::Request<Body>,
    ) -> Result<http::Response<Body>, Status> {
        let (mut head, body) = request.into_parts();
        // What tonic notes there is for its own use, and does not travel.
        head.extensions.clear();
        let (response, waiting) = oneshot::channel();
        let (frames, incoming) = mpsc::unbounded_channel();
        let (key, credit) = self.open_stream(connection, frames, response)?;
        let call = Call::new(self.clone(), key);
        self.send(key, Content::Request(Box::new(head)));
        if body.is_end_stream() {
            self.send(key, Content::Finished);
        } else {
            let port = self.clone();
            let task = tokio::spawn(async move {
                send_body(&port, key, &credit, body).await;
            });
            self.set_task(key, task.abort_handle());
        }
        let gone = || Status::unavailable("the connection was lost");
        let head = waiting.await.map_err(|_| gone())??;
        let body = IncomingBody::new(incoming, self.clone(), key, Some(call));
        // With a source, by which a caller tells what became of the connection from what the server says.
        let body = body.map_err(Broken);
        Ok(http::Response::from_parts(head, Body::new(body)))
    }

    fn open_stream(
        &self,
        connection: ConnectionId,
        frames: mpsc::UnboundedSender<Result<Frame<Bytes>, Status>>,
        response: HeadSender,
    ) -> Result<(StreamKey, Arc<tokio::sync::Semaphore>), Status> {
        let mut state = self.shared.state.lock();
        if !state.made.contains(&connection) {
            return Err(Status::unavailable("the connection was lost"));
        }
        state.last_stream += 1;
        let key = (connection, End::Client, StreamId(state.last_stream));
        let stream = Stream { head: Some(response), ..Stream::new(frames) };
        let credit = Arc::clone(&stream.credit);
        state.streams.insert(key, stream);
        Ok((key, credit))
    }

    fn set_task(&self, key: StreamKey, task: tokio::task::AbortHandle) {
        match self.shared.state.lock().streams.get_mut(&key) {
            Some(stream) => stream.task = Some(task),
            None => task.abort(),
        }
    }

    /// The client does not want the rest of a call.
    pub(super) fn cancel(&self, key: StreamKey) {
        let stream = self.shared.state.lock().streams.remove(&key);
        if let Some(stream) = stream {
            stream.fail(Code::Cancelled, "cancelled");
            // When the process dies its tasks are dropped: that tells nobody anything.
            if !self.is_cut() {
                self.send(key, Content::Reset(Code::Cancelled));
            }
        }
    }

    /// Takes what has arrived. Inside of the process.
    pub(in crate::sim) fn deliver(&self, packet: Packet) {
        let key = packet.key();
        let (connection, end, _) = key;
        self.note(&packet);
        match packet.content {
            Content::Connect(address, caller) => self.take(connection, address, caller),
            Content::Accepted => self.connected(connection, true),
            Content::Refused => self.connected(connection, false),
            Content::Lost(why) => self.lost(connection, end, why),
            Content::Request(head) => self.serve(key, *head),
            Content::Response(head) => {
                let mut state = self.shared.state.lock();
                let waiting = state.streams.get_mut(&key).and_then(|stream| stream.head.take());
                drop(state);
                if let Some(waiting) = waiting {
                    let _ = waiting.send(Ok(*head));
                }
            }
            Content::Data(data) => self.arrived(key, Frame::data(data)),
            Content::Trailers(trailers) => {
                self.arrived(key, Frame::trailers(trailers));
                self.body_ended(key);
            }
            Content::Finished => self.body_ended(key),
            Content::Reset(code) => {
                let stream = self.shared.state.lock().streams.remove(&key);
                if let Some(stream) = stream {
                    stream.fail(code, "the stream was reset");
                }
            }
            Content::Credit(bytes) => {
                if let Some(stream) = self.shared.state.lock().streams.get(&key) {
                    stream.credit.add_permits(usize::try_from(bytes).unwrap_or(0));
                }
            }
        }
    }

    fn note(&self, packet: &Packet) {
        let column = self.shared.host.0;
        let (trace, content) = (self.shared.network.trace(), &packet.content);
        let (connection, stream) = (packet.connection.0.to_be_bytes(), packet.stream.0.to_be_bytes());
        trace.digest(self.now(), column, &[content.name().as_bytes(), &connection, &stream, content.bytes()]);
    }

    /// Somebody asks for a connection.
    fn take(&self, id: ConnectionId, address: Arc<str>, caller: HostId) {
        let listens = {
            let mut state = self.shared.state.lock();
            let listens = state.listeners.contains_key(&address);
            if listens {
                state.taken.insert(id, (address, caller));
            }
            listens
        };
        let answer = if listens { Content::Accepted } else { Content::Refused };
        self.send((id, End::Server, StreamId::NONE), answer);
    }

    fn connected(&self, id: ConnectionId, accepted: bool) {
        let waiting = {
            let mut state = self.shared.state.lock();
            let waiting = state.connecting.remove(&id);
            if accepted && waiting.is_some() {
                state.made.insert(id);
            }
            waiting
        };
        if !accepted {
            self.shared.network.close(id, End::Client, self.now());
        }
        if let Some(waiting) = waiting {
            let _ = waiting.send(accepted);
        }
    }

    /// A connection is gone, and with it all its streams.
    fn lost(&self, id: ConnectionId, end: End, why: &str) {
        let (waiting, streams) = {
            let mut state = self.shared.state.lock();
            match end {
                End::Client => drop(state.made.remove(&id)),
                End::Server => drop(state.taken.remove(&id)),
            }
            let range = (id, end, StreamId(0))..=(id, end, StreamId(u32::MAX));
            let keys: Vec<StreamKey> = state.streams.range(range).map(|(key, _)| *key).collect();
            let streams: Vec<Stream> = keys.iter().filter_map(|key| state.streams.remove(key)).collect();
            (state.connecting.remove(&id), streams)
        };
        if let Some(waiting) = waiting {
            let _ = waiting.send(false);
        }
        for stream in streams {
            stream.fail(Code::Unavailable, why);
        }
    }

    /// Gives a request to the service that it is for.
    fn serve(&self, key: StreamKey, mut head: http::request::Parts) {
        let (connection, end, _) = key;
        let (frames, incoming) = mpsc::unbounded_channel();
        let stream = Stream::new(frames);
        let credit = Arc::clone(&stream.credit);
        let listener = {
            let mut state = self.shared.state.lock();
            let known = state.taken.get(&connection).cloned();
            let listener = known
                .and_then(|(address, caller)| Some((state.listeners.get(&address)?.clone(), caller)))
                .filter(|_| end == End::Server);
            let Some(listener) = listener else { return };
            state.streams.insert(key, stream);
            listener
        };
        let (Listener { mut routes, admit }, caller) = listener;
        head.extensions.insert(connection);
        admit(caller, &mut head.extensions);
        let port = self.clone();
        let body = Body::new(IncomingBody::new(incoming, self.clone(), key, None));
        let task = tokio::spawn(async move {
            let Ok(response) = routes.call(http::Request::from_parts(head, body)).await;
            let (mut head, body) = response.into_parts();
            head.extensions.clear();
            port.send(key, Content::Response(Box::new(head)));
            send_body(&port, key, &credit, body).await;
            port.shared.state.lock().streams.remove(&key);
        });
        self.set_task(key, task.abort_handle());
    }

    fn arrived(&self, key: StreamKey, frame: Frame<Bytes>) {
        let state = self.shared.state.lock();
        if let Some(body) = state.streams.get(&key).and_then(|stream| stream.body.as_ref()) {
            // Whoever reads it may not want the rest.
            let _ = body.send(Ok(frame));
        }
    }

    fn body_ended(&self, key: StreamKey) {
        let mut state = self.shared.state.lock();
        let (_, end, _) = key;
        match end {
            // With the response the call is over, whatever of the request was not sent.
            End::Client => {
                let stream = state.streams.remove(&key);
                drop(state);
                if let Some(task) = stream.and_then(|stream| stream.task) {
                    task.abort();
                }
            }
            End::Server => {
                if let Some(stream) = state.streams.get_mut(&key) {
                    stream.body = None;
                }
            }
        }
    }
}
