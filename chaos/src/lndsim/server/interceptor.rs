//! One interceptor stream: the client's answers in, one at a time; offers out, one at a time.

use std::{sync::Arc, time::Duration};

use mux_proto::routerrpc::{ForwardHtlcInterceptRequest, ForwardHtlcInterceptResponse};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::{
    super::core::{Input, StreamId},
    node::{Node, StreamPort, ToStream},
};

/// How long the error that ends a stream may take to fit behind unread offers.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs until the stream is over, then frees the slot.
pub(super) async fn run(
    node: Arc<Node>,
    port: StreamPort,
    inbound: Streaming<ForwardHtlcInterceptResponse>,
    body: mpsc::Sender<Result<ForwardHtlcInterceptRequest, Status>>,
) {
    let StreamPort { id, outbound, taken } = port;
    let over = CancellationToken::new();
    let reader = async {
        let half_closed = read(&node, id, inbound, &taken, &over).await;
        if half_closed {
            // LND's handler returns what Recv gave it.
            drop(body.send_timeout(Err(Status::unknown("EOF")), END_TIMEOUT).await);
        }
        node.close_stream(id);
        over.cancel();
    };
    let writer = async {
        write(&node, id, outbound, &body, &over).await;
        node.close_stream(id);
        over.cancel();
    };
    tokio::join!(reader, writer);
}

/// Reads answers; each waits for the event loop. `true` if the client closed its side in order.
async fn read(
    node: &Node,
    id: StreamId,
    mut inbound: Streaming<ForwardHtlcInterceptResponse>,
    taken: &Notify,
    over: &CancellationToken,
) -> bool {
    loop {
        tokio::select! {
            () = over.cancelled() => return false,
            () = thawed(node) => {}
        }
        let message = tokio::select! {
            () = over.cancelled() => return false,
            message = inbound.message() => message,
        };
        match message {
            Ok(Some(answer)) => drop(node.apply(Input::StreamAnswer(id, Box::new(answer)))),
            Ok(None) => return true,
            Err(_) => return false,
        }
        tokio::select! {
            () = over.cancelled() => return false,
            () = taken.notified() => {}
        }
    }
}

async fn thawed(node: &Node) {
    let mut changed = node.changed.subscribe();
    while node.read(|core| core.reads_frozen()) {
        if changed.changed().await.is_err() {
            return;
        }
    }
}

async fn write(
    node: &Node,
    id: StreamId,
    mut outbound: mpsc::Receiver<ToStream>,
    body: &mpsc::Sender<Result<ForwardHtlcInterceptRequest, Status>>,
    over: &CancellationToken,
) {
    loop {
        let message = tokio::select! {
            biased;
            message = outbound.recv() => message,
            () = over.cancelled() => return,
            () = body.closed() => return,
        };
        match message {
            Some(ToStream::Offer(offer)) => {
                let sent = tokio::select! {
                    sent = body.send(Ok(*offer)) => sent,
                    () = over.cancelled() => return,
                };
                if sent.is_err() {
                    return;
                }
                drop(node.apply(Input::StreamSent(id)));
            }
            Some(ToStream::End(status)) => {
                drop(body.send_timeout(Err(status), END_TIMEOUT).await);
                return;
            }
            None => return,
        }
    }
}
