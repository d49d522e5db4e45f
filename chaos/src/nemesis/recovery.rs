//! The end of a round: all faults are over, and within a bound everything must work again, through every replica.

use super::{NemesisError, clients::roster::Roster, faults::Engine, round::World};
use crate::{
    cluster::{ClusterError, ReplicaClient},
    ledger::check::Violation,
    payer::{Payer, PaymentPlan},
};
use mux_proto::{
    lndsim::v1::channel_entry::Status,
    mux::v1::{AddInvoiceRequest, InvoiceState, Settings, add_invoice_request::What},
};
use mux_raft::types::PaymentHash;
use std::time::Duration;
use tokio::{task::JoinSet, time::Instant};

/// How long it may take until every replica works again.
const HEAL_MAX: Duration = Duration::from_secs(60);

/// How long the payments that are under way may take to end.
const REST_MAX: Duration = Duration::from_secs(240);

/// After this long only what is on chain has not ended, and waits for blocks.
const CHAIN_AFTER: Duration = Duration::from_secs(8);

/// Blocks found at a time, and between them, until then.
const BLOCKS: u32 = 12;
const BLOCKS_EVERY: Duration = Duration::from_secs(2);

/// Before a call is repeated.
const TRY_AGAIN: Duration = Duration::from_millis(50);

/// What is paid to see that it works.
const FRESH_MSAT: u64 = 90_000;

/// Who settles from now on.
pub(super) async fn set_auto_settle(roster: &Roster, auto_settle: bool) -> Result<(), NemesisError> {
    let deadline = Instant::now() + HEAL_MAX;
    let settings = Settings { auto_settle: Some(auto_settle), ..Settings::default() };
    let clients = roster.all();
    for (_, client) in clients.iter().cycle() {
        match client.update_settings(settings).await {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() > deadline => return Err(ClusterError::from(error).into()),
            Err(_) => tokio::time::sleep(TRY_AGAIN).await,
        }
    }
    Ok(())
}

/// How long it took until an invoice was made, paid and seen as settled through each replica, in milliseconds.
pub(super) async fn heal(engine: &mut Engine, world: &World, payer: &Payer) -> Result<u64, Violation> {
    let began = Instant::now();
    let violation = |evidence: String| Violation { rule: "not_healed", evidence };
    engine.cluster.wait_ready(HEAL_MAX).await.map_err(|error| violation(error.to_string()))?;
    let mut paid = JoinSet::new();
    for (id, client) in world.roster.all() {
        let payer = payer.clone();
        paid.spawn(async move {
            let fresh = tokio::time::timeout(HEAL_MAX, fresh(&client, &payer)).await;
            match fresh {
                Ok(Ok(())) => Ok(()),
                Ok(Err(why)) => Err(format!("replica-{id}: {why}")),
                Err(_) => Err(format!("replica-{id}: no invoice was made, paid and settled in {HEAL_MAX:?}")),
            }
        });
    }
    while let Some(ended) = paid.join_next().await {
        let ended = ended.unwrap_or_else(|error| Err(error.to_string()));
        ended.map_err(violation)?;
    }
    Ok(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX))
}

async fn fresh(client: &ReplicaClient, payer: &Payer) -> Result<(), String> {
    let request = AddInvoiceRequest {
        amount_msat: FRESH_MSAT,
        what: Some(What::Description("fresh".into())),
        ..AddInvoiceRequest::default()
    };
    let made = loop {
        match client.add_invoice(request.clone()).await {
            Ok(made) => break made,
            Err(_) => tokio::time::sleep(TRY_AGAIN).await,
        }
    };
    let hash = PaymentHash::try_from(made.hash.as_ref()).map_err(|error| error.to_string())?;
    payer
        .pay(&PaymentPlan::new("fresh, after the faults", made.payment_request, 2))
        .await
        .map_err(|error| error.to_string())?;
    loop {
        match client.invoice(hash).await {
            Ok(Some(invoice)) if invoice.state() == InvoiceState::Settled => return Ok(()),
            _ => tokio::time::sleep(TRY_AGAIN).await,
        }
    }
}

/// Waits for everything that is under way, and mines while channels are on chain.
pub(super) async fn rest(engine: &mut Engine, mut work: JoinSet<()>) -> Vec<Violation> {
    let began = Instant::now();
    let mut mined = began + CHAIN_AFTER;
    let mut violations = Vec::new();
    loop {
        match tokio::time::timeout(BLOCKS_EVERY, work.join_next()).await {
            Ok(None) if !any_on_chain(engine).await => return violations,
            Ok(None) => tokio::time::sleep(BLOCKS_EVERY).await,
            Ok(Some(Err(error))) => {
                violations.push(Violation { rule: "client_failed", evidence: error.to_string() });
            }
            Ok(Some(Ok(()))) | Err(_) => {}
        }
        if began.elapsed() > REST_MAX {
            let evidence = format!("{} clients, {REST_MAX:?} after all faults", work.len());
            violations.push(Violation { rule: "no_rest", evidence });
            return violations;
        }
        if mined.elapsed() >= BLOCKS_EVERY && Instant::now() > mined && any_on_chain(engine).await {
            mined = Instant::now();
            // A node that does not answer is asked again.
            let _ = super::faults::mine(&engine.cluster.lnds, BLOCKS).await;
        }
    }
}

/// Whether a channel has been closed and not everything of it is decided.
async fn any_on_chain(engine: &Engine) -> bool {
    for lnd in &engine.cluster.lnds {
        let Ok(state) = lnd.state().await else { return true };
        let waits = |status| matches!(status, Status::Closing | Status::ForceClosed);
        if state.channels.iter().any(|channel| waits(channel.status())) {
            return true;
        }
    }
    false
}
