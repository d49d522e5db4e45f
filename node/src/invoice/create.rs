use super::currency;
use crate::keys::{ClusterKeys, Network};
use crate::secrets::{KEY_EPOCH, TermsError};
use bitcoin::hashes::{Hash as _, sha256};
use lightning_invoice::{
    Bolt11Invoice, Bolt11InvoiceDescription, CreationError, Description, InvoiceBuilder,
    PaymentSecret as WireSecret, RouteHint, RouteHintHop, RoutingFees, Sha256,
};
use mux_raft::machine::model::{FrontNodePolicy, InvoiceKind, InvoiceTerms};
use mux_raft::types::{Msat, NodePubkey, PaymentHash, PaymentSecret};
use rand::CryptoRng;
use secp256k1::{PublicKey, SECP256K1};
use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Bytes of a description that BOLT 11 can carry.
pub const DESCRIPTION_BYTES_MAX: usize = 639;

/// Longest expiry: a year.
pub const EXPIRY_S_MAX: u64 = 365 * 24 * 3600;

/// Expiry if the caller names none: BOLT 11's own default.
pub const DEFAULT_EXPIRY_S: u64 = 3600;

/// Blocks that the payer leaves for the last hop if the caller names no number.
pub const DEFAULT_MIN_FINAL_CLTV: u16 = 80;

/// From what LND takes itself, to what leaves payers room for a route.
pub const MIN_FINAL_CLTV_RANGE: RangeInclusive<u16> = 24..=1008;

/// Most hints: LND's limit. Three or four are what fits into a code that phones can scan.
pub const HINTS_MAX: usize = 20;

/// All bitcoin there will ever be.
const SUPPLY_MSAT: u64 = 21_000_000 * 100_000_000 * 1000;

/// Whose preimage it is, and whether the cluster knows the invoice before it is paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvoiceHash {
    /// Our preimage; the invoice is put into the log before it is handed out.
    Stored,
    /// Our preimage; the log hears of it with its first HTLC.
    Stateless,
    /// The caller's hash (hold invoice); put into the log.
    Hold(PaymentHash),
}

/// What an invoice is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvoiceDescription {
    /// Text, at most [`DESCRIPTION_BYTES_MAX`] bytes, possibly none.
    Plain(String),
    /// SHA-256 of a text that is found elsewhere.
    Hash([u8; 32]),
}

/// A way to the virtual node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hint {
    /// The front node.
    pub node: NodePubkey,
    /// Virtual scid, fee and expiry delta of the hop.
    pub policy: FrontNodePolicy,
}

/// An invoice to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvoiceSpec {
    /// Whose hash.
    pub hash: InvoiceHash,
    /// Zero: the payer chooses.
    pub amount_msat: Msat,
    /// What for.
    pub description: InvoiceDescription,
    /// How long it can be paid, from now; 1..=[`EXPIRY_S_MAX`].
    pub expiry_s: u64,
    /// Within [`MIN_FINAL_CLTV_RANGE`].
    pub min_final_cltv: u16,
    /// Most preferred first; at least one, at most [`HINTS_MAX`], no node and no scid twice.
    pub hints: Vec<Hint>,
}

/// An invoice that was made. Nobody has stored it yet.
#[derive(Clone, PartialEq, Eq)]
pub struct IssuedInvoice {
    /// The BOLT 11 text.
    pub payment_request: String,
    /// Its hash.
    pub hash: PaymentHash,
    /// Its payment secret.
    pub secret: PaymentSecret,
    /// What the secret says.
    pub terms: InvoiceTerms,
}

impl fmt::Debug for IssuedInvoice {
    /// Without the text: it has the payment secret in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IssuedInvoice({}, {:?})", self.hash, self.terms)
    }
}

/// Why an invoice cannot be made. The caller asked for something impossible.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvoiceError {
    /// Below zero.
    #[error("the amount is negative: {0} msat")]
    NegativeAmount(i64),
    /// More than can exist.
    #[error("the amount is more than there are bitcoin: {0} msat")]
    AmountTooLarge(u64),
    /// Longer than [`DESCRIPTION_BYTES_MAX`].
    #[error("the description has {0} bytes, at most 639 are possible: use a description hash")]
    DescriptionTooLong(usize),
    /// Zero, or longer than a year.
    #[error("the expiry is {0} s: it must be from 1 s to a year (31536000 s)")]
    Expiry(u64),
    /// Out of [`MIN_FINAL_CLTV_RANGE`].
    #[error("min_final_cltv_expiry is {0}: it must be from 24 to 1008 blocks")]
    MinFinalCltv(u16),
    /// Nobody could find the virtual node.
    #[error("no front node can be announced: none is known, healthy and chosen")]
    NoHints,
    /// More than [`HINTS_MAX`].
    #[error("{0} route hints: at most 20 are possible")]
    TooManyHints(usize),
    /// Payers drop such hints.
    #[error("front node {0} or its scid appears twice among the route hints")]
    DuplicateHint(NodePubkey),
    /// Its public key is not one.
    #[error("front node {0} has no valid public key")]
    InvalidHint(NodePubkey),
    /// The clock is off by millennia.
    #[error("the time {0} s since the epoch does not fit into an invoice")]
    Timestamp(u64),
}

/// An amount as protobuf's signed integers give it.
///
/// # Errors
/// Negative ones, and ones above 21 million bitcoin.
pub fn amount_msat(value: i64) -> Result<Msat, InvoiceError> {
    let value = u64::try_from(value).map_err(|_| InvoiceError::NegativeAmount(value))?;
    if value > SUPPLY_MSAT { Err(InvoiceError::AmountTooLarge(value)) } else { Ok(Msat(value)) }
}

/// Makes and signs an invoice. `now_s` is in seconds since the Unix epoch.
///
/// # Errors
/// [`InvoiceError`] says what is wrong with the request.
pub fn create(
    keys: &ClusterKeys,
    network: Network,
    spec: &InvoiceSpec,
    now_s: u64,
    rng: &mut (impl CryptoRng + ?Sized),
) -> Result<IssuedInvoice, InvoiceError> {
    check(spec)?;
    let expires_at_s = now_s.checked_add(spec.expiry_s).ok_or(InvoiceError::Timestamp(now_s))?;
    let terms = InvoiceTerms {
        kind: match spec.hash {
            InvoiceHash::Stored => InvoiceKind::Stored,
            InvoiceHash::Stateless => InvoiceKind::Stateless,
            InvoiceHash::Hold(_) => InvoiceKind::Hold,
        },
        amount_msat: spec.amount_msat,
        expires_at_ms: expires_at_s.checked_mul(1000).ok_or(InvoiceError::Timestamp(now_s))?,
        min_final_cltv: spec.min_final_cltv,
        key_epoch: KEY_EPOCH,
    };
    let issued = match spec.hash {
        InvoiceHash::Stored | InvoiceHash::Stateless => keys.secrets().issue(&terms, rng),
        InvoiceHash::Hold(hash) => keys.secrets().issue_for_hash(&terms, &hash).map(|secret| (secret, hash)),
    };
    let (secret, hash) = issued.map_err(|error| match error {
        TermsError::Amount(amount) => InvoiceError::AmountTooLarge(amount),
        TermsError::Expiry(_) | TermsError::KeyEpoch(_) | TermsError::Kind(_) => {
            InvoiceError::Timestamp(now_s)
        }
    })?;
    let payment_request = sign(keys, network, spec, now_s, (&hash, &secret))?.to_string();
    Ok(IssuedInvoice { payment_request, hash, secret, terms })
}

fn check(spec: &InvoiceSpec) -> Result<(), InvoiceError> {
    if spec.amount_msat.0 > SUPPLY_MSAT {
        return Err(InvoiceError::AmountTooLarge(spec.amount_msat.0));
    }
    if let InvoiceDescription::Plain(text) = &spec.description
        && text.len() > DESCRIPTION_BYTES_MAX
    {
        return Err(InvoiceError::DescriptionTooLong(text.len()));
    }
    if !(1..=EXPIRY_S_MAX).contains(&spec.expiry_s) {
        return Err(InvoiceError::Expiry(spec.expiry_s));
    }
    if !MIN_FINAL_CLTV_RANGE.contains(&spec.min_final_cltv) {
        return Err(InvoiceError::MinFinalCltv(spec.min_final_cltv));
    }
    check_hints(&spec.hints)
}

fn check_hints(hints: &[Hint]) -> Result<(), InvoiceError> {
    if hints.is_empty() {
        return Err(InvoiceError::NoHints);
    }
    if hints.len() > HINTS_MAX {
        return Err(InvoiceError::TooManyHints(hints.len()));
    }
    let (mut nodes, mut scids) = (BTreeSet::new(), BTreeSet::new());
    for hint in hints {
        if !nodes.insert(hint.node) || !scids.insert(hint.policy.scid) {
            return Err(InvoiceError::DuplicateHint(hint.node));
        }
    }
    Ok(())
}

fn sign(
    keys: &ClusterKeys,
    network: Network,
    spec: &InvoiceSpec,
    now_s: u64,
    (hash, secret): (&PaymentHash, &PaymentSecret),
) -> Result<Bolt11Invoice, InvoiceError> {
    let description = match &spec.description {
        InvoiceDescription::Plain(text) => Bolt11InvoiceDescription::Direct(
            Description::new(text.clone()).map_err(|_| InvoiceError::DescriptionTooLong(text.len()))?,
        ),
        InvoiceDescription::Hash(hash) => {
            Bolt11InvoiceDescription::Hash(Sha256(sha256::Hash::from_byte_array(*hash)))
        }
    };
    let mut builder = InvoiceBuilder::new(currency(network))
        .invoice_description(description)
        .payment_hash(sha256::Hash::from_byte_array(hash.0))
        .duration_since_epoch(Duration::from_secs(now_s))
        .min_final_cltv_expiry_delta(u64::from(spec.min_final_cltv))
        .payment_secret(WireSecret(secret.0))
        .basic_mpp()
        .expiry_time(Duration::from_secs(spec.expiry_s));
    if spec.amount_msat != Msat::ZERO {
        builder = builder.amount_milli_satoshis(spec.amount_msat.0);
    }
    for hint in &spec.hints {
        builder = builder.private_route(route_hint(hint)?);
    }
    let signed = builder.build_signed(|digest| SECP256K1.sign_ecdsa_recoverable(digest, keys.node_secret()));
    signed.map_err(|error| match error {
        CreationError::InvalidAmount => InvoiceError::AmountTooLarge(spec.amount_msat.0),
        CreationError::DescriptionTooLong => InvoiceError::DescriptionTooLong(0),
        // Lengths of routes and deltas were checked; what is left is the time.
        CreationError::TimestampOutOfBounds
        | CreationError::RouteTooLong
        | CreationError::MissingRouteHints
        | CreationError::MinFinalCltvExpiryDeltaTooShort => InvoiceError::Timestamp(now_s),
    })
}

fn route_hint(hint: &Hint) -> Result<RouteHint, InvoiceError> {
    let src_node_id =
        PublicKey::from_slice(&hint.node.0).map_err(|_| InvoiceError::InvalidHint(hint.node))?;
    Ok(RouteHint(vec![RouteHintHop {
        src_node_id,
        short_channel_id: hint.policy.scid,
        fees: RoutingFees {
            base_msat: hint.policy.fee_base_msat,
            proportional_millionths: hint.policy.fee_ppm,
        },
        cltv_expiry_delta: hint.policy.cltv_delta,
        htlc_minimum_msat: None,
        htlc_maximum_msat: None,
    }]))
}
