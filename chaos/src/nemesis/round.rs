//! One round: clients at work, faults, recovery, and a look at what the clients saw.

use super::{
    Doctor, NemesisError,
    clients::{Clients, Shown, application, cases, probe, roster::Roster, watcher::Watcher},
    faults::{Deck, Engine},
    recovery,
    verdict::{self, Told},
    waits,
};
use crate::{
    check::{events::Seen, history::History},
    demo::{Job, Load, Mix},
    ledger::Ledger,
    payer::Patience,
    story::Story,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::task::AbortOnDropHandle;

/// Invoices of the history at a time.
const CASES: u64 = 4;

/// Payers of the further load.
const PAYERS: usize = 3;

/// Between two payments of one of them: two cores are busy and not drowned.
const PAUSE: Duration = Duration::from_millis(60);

/// One payment in so many is a forward that is none of the cluster's business.
const FORWARD_EVERY: usize = 7;

/// Subscribers; the first is the application's.
const WATCHERS: u64 = 3;

/// What all rounds share.
pub(super) struct World {
    pub(super) roster: Roster,
    pub(super) ledger: Arc<Ledger>,
    pub(super) story: Story,
    pub(super) seed: u64,
}

/// What a round is like.
pub(super) struct RoundPlan {
    /// From 0.
    pub(super) number: u64,
    /// The cluster settles by itself.
    pub(super) auto_settle: bool,
    /// Faults come one at a time, each after everybody can pay again.
    pub(super) alone: bool,
    /// Of the faults.
    pub(super) duration: Duration,
    /// What is falsified before it is checked.
    pub(super) doctor: Vec<Doctor>,
}

impl RoundPlan {
    fn seed(&self, world: &World, who: u64) -> u64 {
        world.seed.wrapping_add(self.number << 16).wrapping_add(who)
    }
}

/// Runs it. `watched` is what each subscriber saw last in the rounds before.
pub(super) async fn run(
    engine: &mut Engine,
    deck: &mut Deck,
    world: &World,
    plan: &RoundPlan,
    watched: &mut Vec<Option<Seen>>,
) -> Result<Told, NemesisError> {
    let who = if plan.auto_settle { "the cluster settles by itself" } else { "an application settles" };
    let how = if plan.alone { "faults one at a time" } else { "faults" };
    world.story.say(format!("Round {}: {:?} of {how}; {who}.", plan.number + 1, plan.duration));
    recovery::set_auto_settle(&world.roster, plan.auto_settle).await?;
    let (over, is_over) = watch::channel(false);
    let clients = Clients {
        roster: world.roster.clone(),
        history: History::default(),
        known: Arc::default(),
        auto_settle: plan.auto_settle,
        shown: Shown::default(),
        over: is_over,
    };
    let seed = |who| plan.seed(world, who);
    let load = Load::new(&engine.cluster, world.ledger.clone(), Patience::default(), seed(1)).await?;
    let (watchers, application) = watch_events(&clients, watched, seed(2));
    let mut work = JoinSet::new();
    let doubles = cases::Doubles::default();
    for case in 0..CASES {
        let payer = load.payer().clone();
        work.spawn(cases::run(clients.clone(), payer, doubles.clone(), seed(100 + case)));
    }
    let next = Arc::new(AtomicUsize::new(usize::try_from(seed(3) % 1_000).unwrap_or(0)));
    for _ in 0..PAYERS {
        work.spawn(pay(clients.clone(), load.clone(), next.clone()));
    }
    let mut beats = Vec::new();
    // With an application in between it would be measured, too.
    for (lnd, who) in engine.cluster.lnds.iter().zip(200..).filter(|_| plan.auto_settle) {
        let own = probe::Beats::default();
        beats.push(own.clone());
        work.spawn(probe::run(clients.clone(), load.payer().clone(), lnd.node, own, seed(who)));
    }

    let so_far = engine.happened.len();
    if plan.alone {
        engine.torment_alone(deck, plan.duration, &beats).await?;
    } else {
        engine.torment(deck, plan.duration).await?;
    }
    engine.finish().await?;
    let healed = recovery::heal(engine, world, load.payer()).await;
    over.send_replace(true);
    let mut told = Told::default();
    told.heal(healed);
    told.violations.extend(recovery::rest(engine, work).await);
    told.violations.append(&mut engine.violations);
    let beats: Vec<_> = beats.iter().map(|beats| beats.lock().clone()).collect();
    told.waits_ms = waits::attribute(&engine.happened[so_far..], &beats);
    verdict::check_events(engine, &watchers, &plan.doctor, &mut told).await;
    drop(application);
    *watched = watchers.iter().map(|watcher| watcher.seen().last().cloned()).collect();
    verdict::check_history(&clients, &doubles, plan, &mut told).await;
    world.story.say(told.summary());
    Ok(told)
}

fn watch_events(
    clients: &Clients,
    watched: &[Option<Seen>],
    seed: u64,
) -> (Vec<Watcher>, AbortOnDropHandle<()>) {
    let mut watchers = Vec::new();
    let mut accepted = Vec::new();
    for (number, at) in (1..=WATCHERS).zip(0..) {
        let before = watched.get(at).cloned().flatten();
        let roster = clients.roster.clone();
        let (watcher, told) =
            Watcher::start(&format!("subscriber {number}"), roster, before, seed + 10 * number);
        watchers.push(watcher);
        accepted.push(told);
    }
    // The others only watch: nobody listens to them.
    let application = application::run(clients.clone(), accepted.swap_remove(0), seed);
    (watchers, AbortOnDropHandle::new(tokio::spawn(application)))
}

/// One payer after the other, also such as do not do what the invoice says.
async fn pay(clients: Clients, load: Load, next: Arc<AtomicUsize>) {
    while !clients.is_over() {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let job = if number.is_multiple_of(FORWARD_EVERY) {
            Job::Forward
        } else {
            Mix { honest: false }.job(number)
        };
        // An invoice that cannot be had is no payment: the cluster was without a quorum for a moment.
        let _ = load.run(job).await;
        tokio::time::sleep(PAUSE).await;
    }
}
