//! Runs a plan.

use std::sync::Arc;
use std::time::Duration;

use goflow_conformance::invariants::Violation;
use goflow_core::faults::{self, Bug};
use goflow_core::record::{Filter, PageRequest};
use goflow_core::{KvStore, State, TaskId, TaskStore};
use tokio::runtime::Builder;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::cast::Cast;
use crate::client;
use crate::panics;
use crate::plan::{Fault, Plan};
use crate::report::Report;
use crate::world::{Death, World};

/// Within which every task ends once all is well: I1.
const LIMIT: Duration = Duration::from_secs(60);

/// How often it is looked whether tasks are left.
const LOOK: Duration = Duration::from_millis(250);

/// How long it goes on after the end of all tasks: what comes late must change nothing.
const AFTERMATH: Duration = Duration::from_millis(3_200);

/// How long an actor may need to be back.
const BACK: Duration = Duration::from_secs(10);

/// Runs a plan on this thread, with these bugs planted.
///
/// # Errors
/// What is wrong with the simulation itself.
pub fn run(plan: &Plan, bugs: &[Bug]) -> anyhow::Result<Report> {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()?;
    panics::watch();
    let planted = faults::plant(bugs.iter().copied());
    let report = runtime.block_on(simulate(plan, bugs));
    // What is left is dropped while its bugs are still planted.
    drop(runtime);
    drop(planted);
    let panicked = panics::first();
    let mut report = report?;
    if let (Some(seen), None) = (panicked, &report.violation) {
        report.violation = Some(Violation {
            invariant: "panic",
            task: TaskId::from(Uuid::nil()),
            seen,
        });
    }
    Ok(report)
}

async fn simulate(plan: &Plan, bugs: &[Bug]) -> anyhow::Result<Report> {
    let simulated = faults::simulate(plan.seed);
    let (world, deaths) = World::new(plan.clone(), simulated.now_utc());
    let cast = Cast::start(&world)?;
    let mut nemesis = JoinSet::new();
    nemesis.spawn(bury(cast.clone(), deaths));
    for (_, fault) in &plan.faults {
        nemesis.spawn(inflict(world.clone(), cast.clone(), fault.clone()));
    }
    let mut clients = JoinSet::new();
    for task in &plan.tasks {
        clients.spawn(client::run(world.clone(), cast.clone(), task.clone()));
    }
    world.at(plan.over()).await;
    while let Some(client) = clients.join_next().await {
        client?;
    }
    world.heal();
    timeout(BACK, async {
        while !cast.is_complete() {
            sleep(LOOK).await;
        }
    })
    .await?;
    settle(&world).await?;
    nemesis.shutdown().await;
    drop(cast);
    let lasted = world.age();
    let mut history = world.history();
    Ok(Report {
        plan: plan.clone(),
        bugs: bugs.to_vec(),
        fingerprint: history.fingerprint(),
        events: std::mem::take(&mut history.events),
        violation: history.violation.clone(),
        lasted,
    })
}

/// Waits until every task has ended and holds the end against what is promised.
async fn settle(world: &Arc<World>) -> anyhow::Result<()> {
    let healed = world.now_utc();
    while !world.is_broken() {
        read(world).await?;
        if world.history().watch.unfinished().is_empty() {
            break;
        }
        let now = world.now_utc();
        let late = |history: &mut crate::history::History| {
            let unfinished = history
                .watch
                .unfinished_after_heal(healed, now, LIMIT, |_| true);
            unfinished
                .into_iter()
                .next()
                .map_or(Ok::<_, Violation>(()), Err)
        };
        world.check(late);
        sleep(LOOK).await;
    }
    if !world.is_broken() {
        sleep(AFTERMATH).await;
        read(world).await?;
        let filter = Filter {
            states: vec![State::Scheduled, State::Queued, State::Retrying],
            ..Filter::default()
        };
        let left = world
            .store
            .list(
                &filter,
                PageRequest {
                    before: None,
                    limit: 100,
                },
            )
            .await?;
        world.check(|history| history.watch.drained(&left.tasks));
    }
    Ok(())
}

/// Reads every task.
async fn read(world: &World) -> anyhow::Result<()> {
    let all = world
        .store
        .list(
            &Filter::default(),
            PageRequest {
                before: None,
                limit: 100,
            },
        )
        .await?;
    for task in all.tasks {
        if let Some(record) = world.store.get(&task.spec.id).await? {
            world.check(|history| history.watch.read(&record));
        }
    }
    Ok(())
}

/// Has those die who are to, and come back.
async fn bury(cast: Cast, mut deaths: UnboundedReceiver<Death>) {
    let mut dying = JoinSet::new();
    while let Some(death) = deaths.recv().await {
        let cast = cast.clone();
        dying.spawn(async move { cast.kill(death).await });
    }
}

/// Does what a fault of the plan is.
async fn inflict(world: Arc<World>, cast: Cast, fault: Fault) {
    match fault {
        Fault::Kill { actor, at, down } => {
            world.at(at).await;
            let life = cast.life(actor);
            world.kill(Death { actor, life, down });
        }
        Fault::Pause { actor, at, lasts } => {
            world.at(at).await;
            world.pause(actor, lasts);
        }
        Fault::Wipe { at } => {
            world.at(at).await;
            world.note("the broker loses its state");
            world.broker.wipe().await;
        }
        Fault::Away { server, at, lasts } => {
            world.at(at).await;
            world.take_away(server, lasts);
        }
        Fault::PausedQueue { at, lasts } => {
            world.at(at).await;
            client::set_paused(&cast, world.plan.engines, true).await;
            sleep(lasts).await;
            client::set_paused(&cast, world.plan.engines, false).await;
        }
        // Found where the call is made.
        Fault::Call { .. } => {}
    }
}
