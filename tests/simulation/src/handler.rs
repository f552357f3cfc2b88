//! What handlers do: as the plan says, and noted.

use std::future::pending;
use std::panic::resume_unwind;
use std::sync::Arc;

use goflow_core::{Content, Ctx, HandlerError, Handlers, TaskId};
use tokio::time::sleep;

use crate::actor::Actor;
use crate::plan::{End, Step};
use crate::runs::{Ended, result};
use crate::world::World;

/// The type that every worker serves, and the one that only the first does.
pub(crate) const TYPES: [&str; 2] = ["common", "rare"];

/// The task of the plan that a payload names.
pub(crate) fn number_of(payload: &Content) -> Option<usize> {
    std::str::from_utf8(&payload.bytes).ok()?.parse().ok()
}

/// The handlers of a worker.
pub(crate) fn handlers(world: &Arc<World>, actor: Actor) -> anyhow::Result<Handlers> {
    let mut handlers = Handlers::default();
    let types = if actor == Actor::Worker(0) {
        &TYPES[..]
    } else {
        &TYPES[..1]
    };
    for task_type in types {
        let world = world.clone();
        let handler = move |ctx: Ctx, number: usize| {
            let world = world.clone();
            async move { handle(world, actor, ctx, number).await }
        };
        handlers.register(task_type, handler)?;
    }
    Ok(handlers)
}

async fn handle(
    world: Arc<World>,
    actor: Actor,
    ctx: Ctx,
    number: usize,
) -> Result<String, HandlerError> {
    let (task, attempt) = (ctx.task_id(), ctx.attempt());
    let mut running = Running::start(&world, actor, task, attempt);
    let step = step(&world, number, task, attempt);
    sleep(step.takes).await;
    let number = running.number;
    match step.end {
        End::Succeed => {
            running.end(Ended::Succeeded);
            Ok(result(number))
        }
        End::Fail => {
            running.end(Ended::Failed);
            Err(HandlerError::retry(format_args!("run {number} failed")))
        }
        End::FailForGood => {
            running.end(Ended::Failed);
            Err(HandlerError::permanent(format_args!(
                "run {number} failed for good"
            )))
        }
        End::Snooze(wait) => {
            running.end(Ended::Snoozed);
            Err(HandlerError::snooze(wait))
        }
        End::Panic => {
            running.end(Ended::Failed);
            // As a panic, but for the report of it.
            resume_unwind(Box::new("as planned"))
        }
        End::UntilTold => {
            ctx.cancelled().await;
            running.end(Ended::Failed);
            Err(HandlerError::retry("told to stop"))
        }
        End::Never => pending().await,
    }
}

fn step(world: &World, number: usize, task: TaskId, attempt: u32) -> Step {
    let succeed = Step {
        takes: std::time::Duration::ZERO,
        end: End::Succeed,
    };
    let Some(plan) = world.plan.task(number) else {
        return succeed;
    };
    let place = (attempt as usize).clamp(1, plan.steps.len()) - 1;
    let step = plan.steps.get(place).copied().unwrap_or(succeed);
    match step.end {
        End::Snooze(_) if world.history().runs.has_snoozed(task, attempt) => succeed,
        _ => step,
    }
}

/// A call of a handler; it is noted as aborted when it is dropped before it ends.
struct Running {
    world: Arc<World>,
    actor: Actor,
    task: TaskId,
    number: usize,
}

impl Running {
    fn start(world: &Arc<World>, actor: Actor, task: TaskId, attempt: u32) -> Self {
        let (number, beside) = world.history().runs.start(task, attempt, actor);
        world.note_of(
            task,
            format_args!("attempt {attempt} runs on {actor}: run {number}"),
        );
        let now = world.now_utc();
        world.check(|history| history.watch.started(task, attempt, now));
        if let Some(other) = beside
            && !world.plan.allows_overlaps()
        {
            let violation = goflow_conformance::invariants::Violation {
                invariant: "overlap",
                task,
                seen: format!(
                    "attempt {attempt} runs on {actor} while {other}, which is well, still runs it"
                ),
            };
            world.check(|_| Err(violation));
        }
        Self {
            world: world.clone(),
            actor,
            task,
            number,
        }
    }

    fn end(&mut self, ended: Ended) {
        let Self {
            world,
            actor,
            task,
            number,
        } = self;
        if world.history().runs.end(*number, ended) {
            world.note_of(*task, format_args!("run {number} on {actor}: {ended:?}"));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end(Ended::Aborted);
    }
}
