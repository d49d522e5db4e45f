//! Making invoices: stored ones (in the log before they are handed out) and stateless ones (no quorum
//! needed; the log hears of them with their first HTLC).

use super::context::{Context, deadline, tell_hash};
use super::error::ApiError;
use super::hints;
use super::view::bytes;
use crate::invoice::{self, InvoiceDescription, InvoiceHash, InvoiceSpec, IssuedInvoice};
use mux_proto::mux::v1 as proto;
use mux_raft::archive::{InvoiceOrder, InvoicePage};
use mux_raft::consensus::Committed;
use mux_raft::machine::command::NewInvoice;
use mux_raft::machine::model::Invoice;
use mux_raft::machine::{Command, Rejection, Reply, RequestId, State};
use mux_raft::types::{LogTimeMs, Msat, PaymentHash, PaymentSecret};
use sha2::{Digest as _, Sha256};
use std::sync::atomic::Ordering;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

/// Longest idempotency key.
const KEY_BYTES_MAX: usize = 64;

/// An invoice as a client asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) amount_msat: Msat,
    pub(super) description: InvoiceDescription,
    /// 0: the default.
    pub(super) expiry_secs: u64,
    /// 0: the default.
    pub(super) min_final_cltv: u32,
    pub(super) stateless: bool,
    /// Empty: none.
    pub(super) idempotency_key: String,
}

/// An invoice as it is handed out.
#[derive(Clone, Debug)]
pub(super) struct Made {
    pub(super) hash: PaymentHash,
    pub(super) secret: PaymentSecret,
    pub(super) payment_request: String,
    pub(super) expires_at_ms: LogTimeMs,
    /// 0 for a stateless one.
    pub(super) add_index: u64,
    /// For people.
    pub(super) warnings: Vec<String>,
}

/// `mux.v1.InvoiceService/AddInvoice`
pub(super) async fn add_invoice(
    context: &Context,
    request: Request<proto::AddInvoiceRequest>,
) -> Result<Response<proto::AddInvoiceResponse>, Status> {
    let deadline = deadline(request.metadata());
    let request = request.into_inner();
    let description = match request.what {
        Some(proto::add_invoice_request::What::DescriptionHash(hash)) => {
            InvoiceDescription::Hash(hash_32(&hash)?)
        }
        Some(proto::add_invoice_request::What::Description(text)) => InvoiceDescription::Plain(text),
        None => InvoiceDescription::Plain(String::new()),
    };
    let wanted = Wanted {
        amount_msat: Msat(request.amount_msat),
        description,
        expiry_secs: request.expiry_secs,
        min_final_cltv: request.min_final_cltv,
        stateless: request.stateless,
        idempotency_key: request.idempotency_key,
    };
    let made = context.make(&wanted, deadline).await?;
    Ok(Response::new(proto::AddInvoiceResponse {
        hash: bytes(&made.hash.0),
        payment_request: made.payment_request,
        add_index: made.add_index,
        payment_secret: bytes(&made.secret.0),
        expires_at_ms: made.expires_at_ms,
        warnings: made.warnings,
    }))
}

impl Context {
    /// Makes an invoice, and stores it unless it is stateless.
    pub(super) async fn make(&self, wanted: &Wanted, deadline: Instant) -> Result<Made, ApiError> {
        check_key(wanted)?;
        let (spec, warning) = match self.spec(wanted) {
            // A replica that has just been added, or that lags, knows none yet.
            Err(ApiError::Precondition(_)) => {
                self.catch_up(deadline).await?;
                self.spec(wanted)?
            }
            spec => spec?,
        };
        let warnings: Vec<String> = warning.into_iter().collect();
        let now_secs = self.now_secs();
        let issued = invoice::create(&self.keys, self.config.network, &spec, now_secs, &mut rand::rng())
            .map_err(|error| ApiError::Invalid(error.to_string()))?;
        if wanted.stateless {
            tell_hash(&issued.hash);
            return Ok(Made {
                hash: issued.hash,
                secret: issued.secret,
                payment_request: issued.payment_request,
                expires_at_ms: issued.terms.expires_at_ms,
                add_index: 0,
                warnings,
            });
        }
        self.store(wanted, issued, warnings, deadline).await
    }

    /// Waits until this replica knows what the cluster knows.
    async fn catch_up(&self, deadline: Instant) -> Result<(), ApiError> {
        let barrier = tokio::time::timeout_at(deadline, self.consensus.read_barrier()).await;
        let why = match barrier {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        Err(ApiError::Unavailable(format!(
            "this replica knows of no front node, and has not heard from the cluster whether there is one ({why}): ask \
             another replica, or this one again when its /readyz says ready"
        )))
    }

    /// With what there is to say about its hints.
    fn spec(&self, wanted: &Wanted) -> Result<(InvoiceSpec, Option<String>), ApiError> {
        let defaults = &self.config.invoices;
        let min_final_cltv = match wanted.min_final_cltv {
            0 => defaults.min_final_cltv,
            blocks => u16::try_from(blocks)
                .map_err(|_| ApiError::Invalid(format!("min_final_cltv of {blocks} blocks is too great")))?,
        };
        let links = (self.links)();
        let turn = self.rotation.fetch_add(1, Ordering::Relaxed);
        let amount_msat = wanted.amount_msat;
        let hints::Chosen { hints, warning } =
            self.read(|state| hints::choose(state, &links, amount_msat, defaults.hints, turn))?;
        let spec = InvoiceSpec {
            hash: if wanted.stateless { InvoiceHash::Stateless } else { InvoiceHash::Stored },
            amount_msat,
            description: wanted.description.clone(),
            expiry_s: if wanted.expiry_secs == 0 { defaults.expiry_secs } else { wanted.expiry_secs },
            min_final_cltv,
            hints,
        };
        Ok((spec, warning))
    }

    /// Expiry goes by log time. In contact with a quorum a replica knows it to a second or so, however wrong
    /// its own clock is; without, log time stands still and its own clock is the better guess.
    fn now_secs(&self) -> u64 {
        let (log_ms, wall_ms) = (self.read(State::time_ms), self.wiring.clock.wall_ms());
        let quorum = self.consensus.status().borrow().quorum;
        (if quorum && log_ms > 0 { log_ms } else { wall_ms.max(log_ms) }) / 1_000
    }

    async fn store(
        &self,
        wanted: &Wanted,
        issued: IssuedInvoice,
        warnings: Vec<String>,
        deadline: Instant,
    ) -> Result<Made, ApiError> {
        let (description, description_hash) = match &wanted.description {
            InvoiceDescription::Plain(text) => (text.clone(), None),
            InvoiceDescription::Hash(hash) => (String::new(), Some(*hash)),
        };
        let hash = issued.hash;
        let command = Command::AddInvoice(Box::new(NewInvoice {
            hash,
            secret: issued.secret,
            terms: issued.terms,
            payment_request: issued.payment_request,
            description,
            description_hash,
        }));
        let stored = match self.submit(command, request_id(&wanted.idempotency_key), deadline).await {
            Ok(Committed { reply: Reply::InvoiceAdded { add_index }, .. }) => {
                self.numbered(add_index).await?
            }
            Ok(other) => return Err(ApiError::Internal(format!("unexpected reply {:?}", other.reply))),
            // Nobody else knows the hash: an earlier attempt of this very call was committed after all.
            Err(ApiError::Rejected(Rejection::InvoiceExists(existing))) if existing == hash => {
                self.find_invoice(hash).await?.map(|found| found.invoice)
            }
            Err(error) => return Err(error),
        };
        let Some(stored) = stored else {
            return Err(ApiError::NotFound("the invoice of this key is no longer kept".into()));
        };
        if stored.hash != hash {
            same(wanted, &stored)?;
        }
        // An earlier call's invoice names what was chosen then.
        let warnings = if stored.hash == hash { warnings } else { Vec::new() };
        Ok(Made {
            hash: stored.hash,
            secret: stored.secret,
            payment_request: stored.payment_request,
            expires_at_ms: stored.terms.expires_at_ms,
            add_index: stored.add_index,
            warnings,
        })
    }

    /// A repeated key gets the first call's number, and so its invoice.
    async fn numbered(&self, add_index: u64) -> Result<Option<Invoice>, ApiError> {
        let recent = self.read(|state| {
            let next = state.invoices_after(add_index.saturating_sub(1)).next();
            next.filter(|invoice| invoice.add_index == add_index).cloned()
        });
        if recent.is_some() {
            return Ok(recent);
        }
        let order = InvoiceOrder::Added;
        let page = InvoicePage { order, first: add_index, last: add_index, newest_first: false, limit: 1 };
        let found = self.look_up(move |cell| cell.list_invoices(page)).await?;
        Ok(found.into_iter().next().map(|found| found.invoice))
    }
}

/// Whether the invoice that a key stands for is the one that is asked for.
fn same(wanted: &Wanted, stored: &Invoice) -> Result<(), ApiError> {
    let described = match &wanted.description {
        InvoiceDescription::Plain(text) => *text == stored.description && stored.description_hash.is_none(),
        InvoiceDescription::Hash(hash) => stored.description_hash == Some(*hash),
    };
    if described && stored.terms.amount_msat == wanted.amount_msat {
        Ok(())
    } else {
        Err(ApiError::Exists("the idempotency key stands for an invoice with other content".into()))
    }
}

fn check_key(wanted: &Wanted) -> Result<(), ApiError> {
    if wanted.idempotency_key.len() > KEY_BYTES_MAX {
        return Err(ApiError::Invalid(format!("idempotency_key is longer than {KEY_BYTES_MAX} bytes")));
    }
    if wanted.stateless && !wanted.idempotency_key.is_empty() {
        return Err(ApiError::Invalid("a stateless invoice cannot have an idempotency_key".into()));
    }
    Ok(())
}

/// The same key gives the same id at every replica; without a key the invoice's hash is name enough.
fn request_id(key: &str) -> Option<RequestId> {
    if key.is_empty() {
        return None;
    }
    let digest = Sha256::new().chain_update(b"idempotency key v1").chain_update(key).finalize();
    let mut id = [0; 16];
    id.copy_from_slice(&digest[..16]);
    Some(RequestId(id))
}

fn hash_32(bytes: &[u8]) -> Result<[u8; 32], ApiError> {
    bytes.try_into().map_err(|_| ApiError::Invalid("description_hash must have 32 bytes".into()))
}
