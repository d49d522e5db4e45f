//! Forwards that are none of the cluster's business: an HTLC over a real channel of a front node. The cluster
//! must let them pass, whatever state it is in.

use super::{
    HtlcOutcome, NewHtlc, Payer, PeerError,
    failure::{self, Action},
    part,
};
use crate::ledger::{
    Expectation, FailureSource, PartEnd, PartFailure, PartRecord, PaymentEnd, PaymentId, PaymentOrder,
};
use mux_raft::types::{PaymentHash, Preimage};
use rand::RngCore as _;
use tokio::time::Instant;

/// Bytes of an onion packet.
const ONION_LEN: usize = 1366;

/// See [`Payer::pay_foreign`].
pub(super) async fn pay(payer: &Payer, peer: usize, outgoing_chan_id: u64, amount_msat: u64) -> PaymentId {
    let mut preimage = [0; 32];
    let mut onion = vec![0; ONION_LEN];
    {
        let mut rng = payer.rng.lock();
        rng.fill_bytes(&mut preimage);
        rng.fill_bytes(&mut onion[1..]);
    }
    let hash = Preimage(preimage).payment_hash();
    let id = payer.ledger.begin(PaymentOrder {
        label: "not for us".into(),
        hash,
        total_msat: amount_msat,
        expect: Expectation::Settle,
        stored: false,
        foreign: true,
    });
    let htlc = ForeignHtlc { hash, preimage, onion, outgoing_chan_id, amount_msat };
    let sent = retry(payer, id, peer, &htlc);
    let end = match tokio::time::timeout(payer.patience.give_up_after, sent).await {
        Err(_) => PaymentEnd::Undecided,
        Ok(Err(error)) => PaymentEnd::NotSent(error.to_string()),
        Ok(Ok(PartEnd::Settled { .. })) => PaymentEnd::Settled,
        Ok(Ok(PartEnd::Failed(failure))) => PaymentEnd::Failed(failure),
    };
    payer.ledger.end(id, end);
    id
}

/// As any payer does: a temporary failure is tried again, for a while.
async fn retry(payer: &Payer, id: PaymentId, peer: usize, htlc: &ForeignHtlc) -> Result<PartEnd, PeerError> {
    let started = Instant::now();
    loop {
        let sent = send(payer, id, peer, htlc).await;
        let again = match &sent {
            Ok(PartEnd::Failed(failure)) => failure::action(failure) != Action::GiveUp,
            Err(PeerError::Unavailable(_)) => true,
            Ok(PartEnd::Settled { .. }) | Err(PeerError::Refused(_)) => false,
        };
        if !again || started.elapsed() > payer.patience.retry_for {
            return sent;
        }
        tokio::time::sleep(payer.patience.backoff).await;
    }
}

struct ForeignHtlc {
    hash: PaymentHash,
    preimage: [u8; 32],
    onion: Vec<u8>,
    outgoing_chan_id: u64,
    amount_msat: u64,
}

async fn send(
    payer: &Payer,
    id: PaymentId,
    peer: usize,
    foreign: &ForeignHtlc,
) -> Result<PartEnd, PeerError> {
    /// An ordinary forwarding hop.
    const CLTV_DELTA: u32 = 80;
    const FINAL_CLTV: u32 = 83;
    let front = &payer.peers[peer];
    let height = front.height().await?;
    let htlc = NewHtlc {
        hash: Some(foreign.hash),
        incoming_amount_msat: foreign.amount_msat + foreign.amount_msat / 1000 + 1000,
        outgoing_amount_msat: foreign.amount_msat,
        incoming_expiry: height + FINAL_CLTV + CLTV_DELTA,
        outgoing_expiry: height + FINAL_CLTV,
        outgoing_scid: foreign.outgoing_chan_id,
        onion: foreign.onion.clone().into(),
        downstream_preimage: foreign.preimage.to_vec().into(),
    };
    let key = front.add_htlc(htlc).await?;
    let part = payer.ledger.part_sent(
        id,
        PartRecord {
            front: front.node(),
            chan_id: key.chan_id,
            htlc_id: key.htlc_id,
            amount_msat: foreign.amount_msat,
            sent_unix_ms: payer.ledger.now_unix_ms(),
            ended_unix_ms: 0,
            end: None,
        },
    );
    let outcome = front.outcome(key).await;
    // The virtual node has no part in this one: a packet of it would be a mix-up.
    let end = match outcome {
        HtlcOutcome::Packet(_) => {
            PartEnd::Failed(PartFailure { source: FailureSource::Unreadable, code: 0, data: String::new() })
        }
        other => part::end_of(other, &foreign.hash, None),
    };
    payer.ledger.part_ended(id, part, end.clone());
    Ok(end)
}
