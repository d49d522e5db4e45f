use crate::lndsim::Hosted;
use crate::lndsim::core::{Command, Rejected, Reply};
use crate::payer::{Ends, FrontPeer, HtlcKey, HtlcOutcome, NewHtlc, PeerError};
use async_trait::async_trait;
use mux_raft::types::{BlockHeight, NodePubkey};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::{Notify, oneshot};

/// Where the peers of a node's channels wait: what they want of it, and how their HTLCs ended. It outlives the node's
/// processes. Clones share it.
#[derive(Clone, Default)]
pub struct Desk {
    inner: Arc<Mutex<Inner>>,
    wanted: Arc<Notify>,
    ends: Ends,
}

#[derive(Default)]
struct Inner {
    open: bool,
    wishes: VecDeque<Wish>,
    /// Outcomes that were told.
    told: usize,
}

enum Wish {
    Height(oneshot::Sender<BlockHeight>),
    Add(Box<NewHtlc>, oneshot::Sender<Result<HtlcKey, PeerError>>),
}

impl Desk {
    /// The node has started.
    pub(super) fn open(&self) {
        self.inner.lock().open = true;
    }

    /// The node is gone: nobody is served.
    pub(super) fn close(&self) {
        let mut inner = self.inner.lock();
        inner.open = false;
        // Dropped, which tells those who wait.
        let wishes = std::mem::take(&mut inner.wishes);
        drop(inner);
        drop(wishes);
    }

    fn wish<T>(&self, wish: impl FnOnce(oneshot::Sender<T>) -> Wish) -> Option<oneshot::Receiver<T>> {
        let (answer, waiting) = oneshot::channel();
        let mut inner = self.inner.lock();
        if !inner.open {
            return None;
        }
        inner.wishes.push_back(wish(answer));
        drop(inner);
        self.wanted.notify_one();
        Some(waiting)
    }

    /// Serves all who wait, at a node that runs on this host, for as long as it does. What is wished for is done and
    /// answered in one step, which no crash cuts in two.
    pub(super) async fn serve(&self, node: &Hosted) {
        loop {
            while let Some(wish) = self.next() {
                carry_out(node, wish);
            }
            self.tell(node);
            let told = self.inner.lock().told;
            tokio::select! {
                biased;
                () = self.wanted.notified() => {}
                () = node.wait_for(|core| !core.outcomes_since(told).is_empty()) => {}
            }
        }
    }

    fn next(&self) -> Option<Wish> {
        self.inner.lock().wishes.pop_front()
    }

    fn tell(&self, node: &Hosted) {
        let mut inner = self.inner.lock();
        let news: Vec<_> = node.outcomes_since(inner.told);
        inner.told += news.len();
        drop(inner);
        news.into_iter().for_each(|outcome| self.ends.deliver(outcome));
    }
}

fn carry_out(node: &Hosted, wish: Wish) {
    // Whoever wished may be gone.
    match wish {
        Wish::Height(answer) => {
            let _ = answer.send(node.state().chain.unwrap_or_default().tip_height);
        }
        Wish::Add(htlc, answer) => {
            let _ = answer.send(match node.command(Command::AddHtlc((*htlc).into())) {
                Ok(Reply::Added(key)) => Ok(HtlcKey { chan_id: key.chan_id, htlc_id: key.htlc_id }),
                Ok(_) => Err(PeerError::Refused("an answer to something else".into())),
                Err(Rejected::Invalid(text)) => Err(PeerError::Refused(text)),
                Err(rejected) => Err(PeerError::Unavailable(rejected.to_string())),
            });
        }
    }
}

/// A node as the payers see it.
pub struct SimPeer {
    node: NodePubkey,
    desk: Desk,
}

impl SimPeer {
    /// Of this node.
    #[must_use]
    pub fn new(node: NodePubkey, desk: Desk) -> Self {
        Self { node, desk }
    }
}

fn down() -> PeerError {
    PeerError::Unavailable("the node is down".into())
}

#[async_trait]
impl FrontPeer for SimPeer {
    fn node(&self) -> NodePubkey {
        self.node
    }

    async fn height(&self) -> Result<BlockHeight, PeerError> {
        let waiting = self.desk.wish(Wish::Height).ok_or_else(down)?;
        waiting.await.map_err(|_| down())
    }

    async fn add_htlc(&self, htlc: NewHtlc) -> Result<HtlcKey, PeerError> {
        let waiting = self.desk.wish(|answer| Wish::Add(Box::new(htlc), answer)).ok_or_else(down)?;
        waiting.await.map_err(|_| down())?
    }

    async fn outcome(&self, key: HtlcKey) -> HtlcOutcome {
        self.desk.ends.of(key).await
    }
}
