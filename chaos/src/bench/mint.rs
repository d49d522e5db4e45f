//! Payments made ahead of time: genuine stateless invoices and genuine onions, so that during a measurement
//! the payers cost nothing but sending.
//!
//! An invoice's hash and payment secret are issued with the cluster's keys by the code that the API calls; only
//! the BOLT 11 text around them, which no replica ever sees again, is not signed. The onions are LDK's.

use super::BenchError;
use crate::{
    cluster::Cluster,
    payer::{
        FrontPeer as _,
        invoice::{Hint, PayableInvoice},
        onion::{self, Hop, PartTerms},
    },
};
use mux_proto::{
    lndsim::v1::AddHtlcRequest,
    mux::v1::{AddInvoiceRequest, add_invoice_request::What},
};
use mux_raft::{
    machine::model::{InvoiceKind, InvoiceTerms},
    types::{Msat, NodePubkey, PaymentSecret},
};
use muxd::{
    keys::{ClusterKeys, ClusterSeed},
    secrets::KEY_EPOCH,
};
use std::time::Duration;

/// What every part carries. Small, so that channels last for millions.
pub(super) const PART_MSAT: u64 = 1_000;

/// Blocks that a payer adds to the invoice's delta.
const RESERVE_BLOCKS: u32 = 6;

/// Of the invoices made here.
const EXPIRY: Duration = Duration::from_secs(24 * 3600);

/// How payments are split and where their parts go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// One part, through the front nodes in turn.
    Single,
    /// One part, through this front node.
    SingleAt(usize),
    /// So many parts, over the front nodes in turn.
    Parts(usize),
}

/// An HTLC ready to be offered.
pub(super) struct Part {
    /// Which front node.
    pub(super) lane: usize,
    pub(super) htlc: AddHtlcRequest,
}

/// A payment ready to be made.
pub(super) struct Payment {
    pub(super) parts: Vec<Part>,
}

/// A way in, with the channels that payers have to the front node.
#[derive(Clone)]
struct Way {
    hint: Hint,
    channels: Vec<u64>,
}

/// Makes payments. Cheap to share.
#[derive(Clone)]
pub(super) struct Mint {
    keys: ClusterKeys,
    payee: NodePubkey,
    min_final_cltv: u32,
    height: u32,
    expires_at_ms: u64,
    ways: Vec<Way>,
}

impl Mint {
    /// Learns from a real invoice what payers learn from one.
    pub(super) async fn open(cluster: &Cluster) -> Result<Self, BenchError> {
        let request = AddInvoiceRequest {
            amount_msat: PART_MSAT,
            what: Some(What::Description("sample".into())),
            expiry_secs: EXPIRY.as_secs(),
            stateless: true,
            ..AddInvoiceRequest::default()
        };
        let sample = cluster.merchant().add_invoice(request).await?;
        let invoice = PayableInvoice::parse(&sample.payment_request)
            .map_err(|error| BenchError::Missing(error.to_string()))?;
        let seed = ClusterSeed::load(&cluster.dir().join("cluster").join("seed"))
            .map_err(|error| BenchError::Missing(error.to_string()))?;
        let mut ways = Vec::new();
        let mut height = 0;
        for lnd in &cluster.lnds {
            let hint = invoice.hints.iter().find(|hint| hint.front == lnd.node).cloned();
            let hint = hint.ok_or_else(|| BenchError::Missing(format!("no hint for {}", lnd.alias)))?;
            let channels = lnd.state().await?.channels.iter().map(|channel| channel.chan_id).collect();
            height = lnd.peer.height().await.map_err(crate::cluster::ClusterError::from)?;
            ways.push(Way { hint, channels });
        }
        Ok(Self {
            keys: ClusterKeys::derive(&seed),
            payee: invoice.payee,
            min_final_cltv: invoice.min_final_cltv,
            height,
            expires_at_ms: sample.expires_at_ms,
            ways,
        })
    }

    /// Makes this many payments on all cores, off the async threads.
    pub(super) async fn make(&self, count: usize, shape: Shape) -> Result<Vec<Payment>, BenchError> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let mut jobs = Vec::new();
        // In one piece each, or the front nodes would not take turns in the whole.
        let share = count.div_ceil(cores).max(1);
        for first in (0..count).step_by(share) {
            let mint = self.clone();
            let share = first..count.min(first + share);
            jobs.push(tokio::task::spawn_blocking(move || {
                share.map(|number| mint.payment(number, shape)).collect::<Result<Vec<_>, _>>()
            }));
        }
        let mut all = Vec::with_capacity(count);
        for job in jobs {
            all.extend(job.await.map_err(|error| BenchError::Missing(error.to_string()))??);
        }
        Ok(all)
    }

    /// One payment; `number` chooses front nodes and channels.
    pub(super) fn payment(&self, number: usize, shape: Shape) -> Result<Payment, BenchError> {
        let parts = match shape {
            Shape::Single | Shape::SingleAt(_) => 1,
            Shape::Parts(parts) => parts,
        };
        let total_msat = PART_MSAT * u64::try_from(parts).unwrap_or(1);
        let terms = InvoiceTerms {
            kind: InvoiceKind::Stateless,
            amount_msat: Msat(total_msat),
            expires_at_ms: self.expires_at_ms,
            min_final_cltv: u16::try_from(self.min_final_cltv).unwrap_or(u16::MAX),
            key_epoch: KEY_EPOCH,
        };
        let (secret, hash) = self
            .keys
            .secrets()
            .issue(&terms, &mut rand::rng())
            .map_err(|error| BenchError::Missing(error.to_string()))?;
        let parts = (0..parts).map(|part| {
            let lane = match shape {
                Shape::SingleAt(lane) => lane,
                Shape::Single | Shape::Parts(_) => (number + part) % self.ways.len(),
            };
            self.part(lane, number, hash, &secret, total_msat)
        });
        Ok(Payment { parts: parts.collect::<Result<_, _>>()? })
    }

    fn part(
        &self,
        lane: usize,
        number: usize,
        hash: mux_raft::types::PaymentHash,
        secret: &PaymentSecret,
        total_msat: u64,
    ) -> Result<Part, BenchError> {
        let way = &self.ways[lane];
        let fee_msat = way.hint.fee_msat(PART_MSAT).unwrap_or(0);
        let hop = Hop {
            front: way.hint.front,
            payee: self.payee,
            scid: way.hint.scid,
            fee_msat,
            cltv_delta: way.hint.cltv_delta,
        };
        let terms = PartTerms {
            amount_msat: PART_MSAT,
            total_msat,
            height: self.height,
            final_cltv: self.min_final_cltv + RESERVE_BLOCKS,
            hash,
            secret: secret.clone(),
        };
        let onion =
            onion::build_last_hop(&hop, &terms).map_err(|error| BenchError::Missing(error.to_string()))?;
        let htlc = AddHtlcRequest {
            chan_id: way.channels[number / self.ways.len() % way.channels.len()],
            payment_hash: hash.0.to_vec().into(),
            incoming_amount_msat: onion.amount_msat + fee_msat,
            outgoing_amount_msat: onion.amount_msat,
            incoming_expiry: onion.expiry + u32::from(way.hint.cltv_delta),
            outgoing_expiry: onion.expiry,
            outgoing_requested_chan_id: way.hint.scid,
            onion_blob: onion.packet.into(),
            ..AddHtlcRequest::default()
        };
        Ok(Part { lane, htlc })
    }

    /// What all HTLCs of this many parts bring the front nodes, fees included.
    pub(super) fn received_msat(&self, parts: u64) -> u64 {
        let fee_msat = self.ways.first().and_then(|way| way.hint.fee_msat(PART_MSAT)).unwrap_or(0);
        parts.saturating_mul(PART_MSAT + fee_msat)
    }
}
