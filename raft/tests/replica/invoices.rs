//! Invoices for a cluster: created and canceled, or paid.

use crate::cluster::Cluster;
use futures::StreamExt as _;
use mux_raft::archive::{FoundInvoice, InvoicePage};
use mux_raft::consensus::{Consensus as _, ProposeError};
use mux_raft::machine::command::{
    CancelScope, ChainTip, FinalOutcome, HtlcFinal, HtlcOffer, NewInvoice, OFFERS_PER_ENTRY_MAX,
};
use mux_raft::machine::model::{FrontNodePolicy, InvoiceKind, InvoiceTerms, Verdict};
use mux_raft::machine::reply::OfferReply;
use mux_raft::machine::{Command, Reply, RequestId};
use mux_raft::types::{CircuitKey, Msat, NodePubkey, PaymentHash, PaymentSecret, ReplicaId};

const NODE: NodePubkey = NodePubkey([4; 33]);

pub(crate) fn hash(number: u64) -> PaymentHash {
    let mut bytes = [0xa4; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    PaymentHash(bytes)
}

pub(crate) fn key(number: u64) -> CircuitKey {
    CircuitKey { node: NODE, chan_id: 7, htlc_id: number }
}

fn terms(kind: InvoiceKind, expires_at_ms: u64) -> InvoiceTerms {
    InvoiceTerms { kind, amount_msat: Msat(1_000), expires_at_ms, min_final_cltv: 80, key_epoch: 0 }
}

/// Commits at a replica and returns the answer.
pub(crate) async fn run(cluster: &Cluster, id: ReplicaId, command: Command) -> Reply {
    cluster.ask(id, command).await
}

/// The cluster at the level of the archive.
pub(crate) async fn raise(cluster: &Cluster, id: ReplicaId) {
    assert_eq!(run(cluster, id, Command::raise_feature_level()).await, Reply::Done);
}

/// Adds invoices with a text of this length and cancels them: each is archived at once.
pub(crate) async fn add_and_cancel(
    cluster: &Cluster,
    id: ReplicaId,
    numbers: std::ops::Range<u64>,
    text: usize,
) {
    let each = futures::stream::iter(numbers).for_each_concurrent(16, |number| async move {
        let added = run(cluster, id, new(number, text, in_a_minute(cluster, id))).await;
        assert!(matches!(added, Reply::InvoiceAdded { .. }), "{added:?}");
        // It may have expired meanwhile.
        run(cluster, id, cancelling(number)).await;
    });
    each.await;
}

/// Adds an invoice with a text of this length, for a minute.
pub(crate) async fn add(
    cluster: &Cluster,
    id: ReplicaId,
    number: u64,
    text: usize,
) -> Result<(), ProposeError> {
    add_until(cluster, id, number, text, in_a_minute(cluster, id)).await
}

/// By log time.
fn in_a_minute(cluster: &Cluster, id: ReplicaId) -> u64 {
    cluster.replica(id).state().read(|state| state.time_ms()) + 60_000
}

fn new(number: u64, text: usize, expires_at_ms: u64) -> Command {
    Command::AddInvoice(Box::new(NewInvoice {
        hash: hash(number),
        secret: PaymentSecret([9; 32]),
        terms: terms(InvoiceKind::Stored, expires_at_ms),
        payment_request: "x".repeat(text),
        description: String::new(),
        description_hash: None,
    }))
}

fn cancelling(number: u64) -> Command {
    Command::CancelInvoice { hash: hash(number), scope: CancelScope::Invoice }
}

/// Adds an invoice with a text of this length that can be paid until then, log time.
pub(crate) async fn add_until(
    cluster: &Cluster,
    id: ReplicaId,
    number: u64,
    text: usize,
    expires_at_ms: u64,
) -> Result<(), ProposeError> {
    let added = cluster.replica(id).propose(new(number, text, expires_at_ms), None).await?.reply;
    assert!(matches!(added, Reply::InvoiceAdded { .. }), "{added:?}");
    Ok(())
}

/// Cancels an invoice, whatever comes of it: it is finished then.
pub(crate) async fn cancel(cluster: &Cluster, id: ReplicaId, number: u64) -> Result<(), ProposeError> {
    cluster.replica(id).propose(cancelling(number), None).await.map(|_| ())
}

/// Invoices that are paid, many in an entry, by HTLCs that a front node's link reports.
pub(crate) async fn pay(cluster: &Cluster, id: ReplicaId, numbers: std::ops::Range<u64>) {
    let policy = FrontNodePolicy { scid: 1, fee_base_msat: 0, fee_ppm: 0, cltv_delta: 80 };
    run(cluster, id, Command::PutFrontNode { node: NODE, alias: "a".into(), policy }).await;
    run(cluster, id, Command::AssignLink { node: NODE, replica: Some(id) }).await;
    let stream = RequestId(rand::random());
    let Reply::Session(session) = run(cluster, id, Command::LinkUp { node: NODE, replica: id, stream }).await
    else {
        panic!("no session")
    };
    let numbers: Vec<u64> = numbers.collect();
    for numbers in numbers.chunks(OFFERS_PER_ENTRY_MAX) {
        let tip = Some(ChainTip { height: 1_000, hash: [0; 32], synced: true });
        run(cluster, id, Command::LinkReport { node: NODE, session, tip, inactive_channels: Vec::new() })
            .await;
        let offers = numbers.iter().map(|number| offer(*number)).collect();
        match run(cluster, id, Command::OfferHtlcs { node: NODE, session, offers }).await {
            Reply::Offers(replies) => {
                assert!(
                    replies.iter().all(|reply| *reply == OfferReply::Decided(Verdict::Settle)),
                    "{replies:?}"
                );
            }
            other => panic!("{other:?}"),
        }
        let settled =
            |number: &u64| HtlcFinal { chan_id: 7, htlc_id: *number, outcome: FinalOutcome::Settled };
        let finals = numbers.iter().map(settled).collect();
        run(cluster, id, Command::HtlcFinals { node: NODE, finals }).await;
    }
}

fn offer(number: u64) -> HtlcOffer {
    HtlcOffer {
        chan_id: 7,
        htlc_id: number,
        hash: hash(number),
        secret: PaymentSecret([6; 32]),
        terms: terms(InvoiceKind::Stateless, 9_000_000_000_000),
        total_msat: Msat(1_000),
        outgoing_amount_msat: Msat(1_000),
        incoming_amount_msat: Msat(1_000),
        outgoing_expiry: 1_080,
        incoming_expiry: 1_160,
        auto_fail_height: 1_141,
        on_chain: false,
    }
}

/// The next HTLC of a link that is already up, for an invoice that is archived: what it is told.
pub(crate) async fn replay(cluster: &Cluster, id: ReplicaId, number: u64) -> OfferReply {
    let front = |state: &mux_raft::machine::State| state.front_node(&NODE).map(|front| front.last_session);
    let session = cluster.replica(id).state().read(front).unwrap();
    match run(cluster, id, Command::OfferHtlcs { node: NODE, session, offers: vec![offer(number)] }).await {
        Reply::Offers(replies) => replies[0],
        other => panic!("{other:?}"),
    }
}

/// All invoices that a replica knows, by add_index, wherever they are.
pub(crate) fn listed(cluster: &Cluster, id: ReplicaId) -> Vec<FoundInvoice> {
    let order = mux_raft::archive::InvoiceOrder::Added;
    let page = InvoicePage { order, first: 1, last: u64::MAX, newest_first: false, limit: usize::MAX };
    cluster.replica(id).state().list_invoices(page).unwrap()
}
