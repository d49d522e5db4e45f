//! The payer against a front node that is only a table of answers.

use super::*;
use crate::ledger::{Expectation, FailureSource, PaymentEnd};
use lightning_invoice::PaymentSecret as InvoiceSecret;
use lightning_invoice::{Currency, InvoiceBuilder, RouteHint, RouteHintHop, RoutingFees};
use mux_raft::types::Preimage;
use parking_lot::Mutex;
use secp256k1::{Secp256k1, SecretKey};
use std::collections::VecDeque;

const PREIMAGE: [u8; 32] = [3; 32];

/// Answers every HTLC with the next outcome of its script; settles when the script is at its end.
struct Scripted {
    node: NodePubkey,
    script: Mutex<VecDeque<Result<HtlcOutcome, PeerError>>>,
    taken: Mutex<Vec<NewHtlc>>,
}

impl Scripted {
    fn new(number: u8, script: Vec<Result<HtlcOutcome, PeerError>>) -> Arc<Self> {
        Arc::new(Self { node: front(number), script: Mutex::new(script.into()), taken: Mutex::default() })
    }
}

#[async_trait]
impl FrontPeer for Scripted {
    fn node(&self) -> NodePubkey {
        self.node
    }

    async fn height(&self) -> Result<BlockHeight, PeerError> {
        Ok(800_000)
    }

    async fn add_htlc(&self, htlc: NewHtlc) -> Result<HtlcKey, PeerError> {
        let mut script = self.script.lock();
        if script.front().is_some_and(Result::is_err) {
            return Err(script.pop_front().unwrap().err().unwrap());
        }
        let mut taken = self.taken.lock();
        taken.push(htlc);
        Ok(HtlcKey { chan_id: 1, htlc_id: taken.len() as u64 })
    }

    async fn outcome(&self, _key: HtlcKey) -> HtlcOutcome {
        match self.script.lock().pop_front() {
            Some(Ok(outcome)) => outcome,
            Some(Err(error)) => panic!("{error}"),
            None => HtlcOutcome::Settled(PREIMAGE.to_vec().into()),
        }
    }
}

fn key(number: u8) -> SecretKey {
    SecretKey::from_slice(&[number; 32]).unwrap()
}

fn front(number: u8) -> NodePubkey {
    NodePubkey(key(number).public_key(&Secp256k1::new()).serialize())
}

fn invoice(amount_msat: Option<u64>, fronts: &[u8]) -> String {
    signed(amount_msat, &fronts.iter().map(|number| front(*number)).collect::<Vec<_>>())
}

/// An invoice over 10,000 msat with these front nodes in its hints.
pub(super) fn invoice_over(fronts: &[NodePubkey]) -> String {
    signed(Some(10_000), fronts)
}

fn signed(amount_msat: Option<u64>, fronts: &[NodePubkey]) -> String {
    let hash = Preimage(PREIMAGE).payment_hash();
    let mut builder = InvoiceBuilder::new(Currency::Regtest)
        .description("tea".into())
        .payment_hash(bitcoin::hashes::Hash::from_byte_array(hash.0))
        .payment_secret(InvoiceSecret([5; 32]))
        .current_timestamp()
        .min_final_cltv_expiry_delta(80)
        .basic_mpp();
    if let Some(amount_msat) = amount_msat {
        builder = builder.amount_milli_satoshis(amount_msat);
    }
    for (number, front) in (1..).zip(fronts) {
        builder = builder.private_route(RouteHint(vec![RouteHintHop {
            src_node_id: secp256k1::PublicKey::from_slice(&front.0).unwrap(),
            short_channel_id: (9_000_000 << 40) | number,
            fees: RoutingFees { base_msat: 10, proportional_millionths: 0 },
            cltv_expiry_delta: 80,
            htlc_minimum_msat: None,
            htlc_maximum_msat: None,
        }]));
    }
    let secp = Secp256k1::new();
    builder.build_signed(|message| secp.sign_ecdsa_recoverable(message, &key(99))).unwrap().to_string()
}

fn payer(peers: &[Arc<Scripted>]) -> Payer {
    let peers = peers.iter().map(|peer| peer.clone() as Arc<dyn FrontPeer>).collect();
    let patience = Patience {
        backoff: Duration::from_millis(1),
        give_up_after: Duration::from_secs(5),
        attempts_per_part: 4,
        ..Patience::default()
    };
    Payer::new(peers, Arc::new(Ledger::default()), patience, 1)
}

fn temporary() -> Result<HtlcOutcome, PeerError> {
    Ok(HtlcOutcome::FailedBy(FailureSource::FrontNode, TEMPORARY_CHANNEL_FAILURE))
}

#[tokio::test]
async fn parts_go_over_every_front_node_and_add_up() {
    let peers = [Scripted::new(1, vec![]), Scripted::new(2, vec![])];
    let payer = payer(&peers);
    let id = payer.pay(&PaymentPlan::new("two parts", invoice(Some(10_000), &[1, 2]), 2)).await.unwrap();
    let record = payer.ledger().payment(id);
    assert_eq!(record.ends, [PaymentEnd::Settled]);
    assert_eq!(record.settled_msat(), 10_000);
    for peer in &peers {
        let taken = peer.taken.lock();
        assert_eq!(taken.len(), 1);
        assert_eq!(taken[0].incoming_amount_msat, taken[0].outgoing_amount_msat + 10, "the hint's fee");
        assert_eq!(taken[0].outgoing_expiry, 800_083, "the invoice's delta and three blocks");
        assert_eq!(taken[0].incoming_expiry, 800_163, "and the hint's delta");
    }
}

#[tokio::test]
async fn temporary_failure_is_tried_over_another_hint() {
    let peers = [Scripted::new(1, vec![temporary(); 3].into_iter().collect()), Scripted::new(2, vec![])];
    let payer = payer(&peers);
    let id = payer.pay(&PaymentPlan::new("one part", invoice(Some(10_000), &[1, 2]), 1)).await.unwrap();
    assert_eq!(payer.ledger().payment(id).ends, [PaymentEnd::Settled]);
    assert_eq!(peers[1].taken.lock().len(), 1);
}

#[tokio::test]
async fn attempts_are_bounded() {
    let peers = [Scripted::new(1, (0..100).map(|_| temporary()).collect())];
    let payer = payer(&peers);
    let id = payer.pay(&PaymentPlan::new("hopeless", invoice(Some(10_000), &[1]), 1)).await.unwrap();
    let record = payer.ledger().payment(id);
    assert!(matches!(record.ends.as_slice(), [PaymentEnd::Failed(_)]));
    assert_eq!(record.parts.len(), 4);
}

#[tokio::test]
async fn front_node_that_is_down_is_no_end() {
    let down = || Err(PeerError::Unavailable("down".into()));
    let peers = [Scripted::new(1, vec![down(), down()])];
    let payer = payer(&peers);
    let id = payer.pay(&PaymentPlan::new("later", invoice(None, &[1]), 1).of(77)).await.unwrap();
    assert_eq!(payer.ledger().payment(id).ends, [PaymentEnd::Settled]);
}

#[tokio::test]
async fn wrong_preimage_is_not_a_settled_payment() {
    let peers = [Scripted::new(1, vec![Ok(HtlcOutcome::Settled(vec![4; 32].into()))])];
    let payer = payer(&peers);
    let id = payer.pay(&PaymentPlan::new("cheated", invoice(Some(10_000), &[1]), 1)).await.unwrap();
    let record = payer.ledger().payment(id);
    assert_eq!(record.ends, [PaymentEnd::Partial]);
    assert!(!record.has_preimage());
}

#[tokio::test]
async fn nothing_more_is_sent_once_a_part_is_settled() {
    let peers = [Scripted::new(1, vec![]), Scripted::new(2, (0..9).map(|_| temporary()).collect())];
    let mut payer = payer(&peers);
    payer.patience.backoff = Duration::from_millis(300);
    let id = payer.pay(&PaymentPlan::new("torn", invoice(Some(10_000), &[1, 2]), 2)).await.unwrap();
    let record = payer.ledger().payment(id);
    assert_eq!(record.ends, [PaymentEnd::Partial], "{record:?}");
    assert_eq!(record.parts.len(), 2, "an attempt that waits is withdrawn: {record:?}");
}

#[tokio::test]
async fn deviating_payers_say_what_must_happen() {
    let peers = [Scripted::new(1, vec![])];
    let payer = payer(&peers);
    let text = invoice(Some(10_000), &[1]);
    let prepare =
        |deviation| PaymentPlan::new("bad", text.clone(), 1).deviating(deviation).prepare(&payer).unwrap();
    let (order, route) = prepare(Deviation::TooLittle);
    assert_eq!((order.expect, route.total_msat), (Expectation::FailWith(INCORRECT_DETAILS), 5_000));
    let (_, honest) = prepare(Deviation::None);
    let (_, wrong) = prepare(Deviation::WrongSecret);
    assert!(wrong.secret != honest.secret && wrong.hash == honest.hash);
    let (probe, unknown) = prepare(Deviation::UnknownHash);
    assert!(unknown.hash != honest.hash && !probe.stored);
}
