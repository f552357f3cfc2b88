//! Those who push, cancel and retry.

use std::sync::Arc;
use std::time::Duration;

use goflow_core::{Content, Deadline, Error, QueueName, Task, TaskId, Unique};
use tokio::time::{sleep, timeout};

use crate::cast::Cast;
use crate::handler::TYPES;
use crate::plan::TaskPlan;
use crate::world::World;

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(6);

/// The pause before a push is repeated.
const PAUSE: Duration = Duration::from_millis(150);

/// How long a client waits for its task's end.
const WAIT: Duration = Duration::from_secs(3);

/// The client of a task: does what the plan says, until that is done.
pub(crate) async fn run(world: Arc<World>, cast: Cast, plan: TaskPlan) {
    let mut id = None;
    for (at, engine) in &plan.pushes {
        world.at(*at).await;
        id = push(&world, &cast, &plan, *engine).await.or(id);
    }
    let Some(id) = id else {
        return;
    };
    let mut changes: Vec<_> = [(plan.cancel, true), (plan.retry, false)]
        .into_iter()
        .filter_map(|(at, cancels)| Some((at?, cancels)))
        .collect();
    changes.sort_unstable();
    let waits = changes.is_empty();
    for (at, cancels) in changes {
        world.at(at).await;
        change(&world, &cast, id, plan.number, cancels).await;
    }
    if waits {
        let engine = plan.number % world.plan.engines;
        let ended = cast.with_engine(engine, async |queue| queue.wait_record(id, WAIT).await);
        if let Ok(Some(Ok(record))) = timeout(PATIENCE, ended).await {
            world.note_of(id, format_args!("is {} for who waits for it", record.state));
        }
    }
}

/// Pushes a task: once, or with an idempotency key until there is an answer.
async fn push(world: &Arc<World>, cast: &Cast, plan: &TaskPlan, engine: usize) -> Option<TaskId> {
    let key = plan.keyed.then(|| format!("key {}", plan.number));
    for engine in (engine..).take(100) {
        let mut task = match task(world, plan) {
            Ok(task) => task,
            Err(error) => {
                world.note(format_args!("t{} is no task: {error}", plan.number));
                return None;
            }
        };
        if let Some(key) = &key {
            task = task.idempotency_key(key);
        }
        let engine = engine % world.plan.engines;
        let pushed = cast.with_engine(engine, async |queue| queue.push(task).await);
        match timeout(PATIENCE, pushed).await {
            Ok(Some(Ok(id))) => {
                if let Some(key) = &key {
                    world.check(|history| history.watch.keyed(key, id));
                }
                return Some(id);
            }
            // Nothing was asked of anyone yet.
            Ok(None | Some(Err(Error::NotStarted))) => {}
            failed => {
                let reason = match failed {
                    Ok(Some(Err(error))) => error.to_string(),
                    _ => "no answer".to_owned(),
                };
                world.note(format_args!(
                    "a push of t{} through engine {engine} fails: {reason}",
                    plan.number
                ));
                // Without a key nobody knows whether there is a task now.
                key.as_ref()?;
            }
        }
        sleep(PAUSE).await;
    }
    world.note(format_args!("t{} cannot be pushed", plan.number));
    None
}

fn task(world: &World, plan: &TaskPlan) -> Result<Task, Error> {
    let payload = Content::json(&plan.number).map_err(|error| Error::invalid(error.to_string()))?;
    let mut task = Task::new(TYPES[usize::from(plan.rare)], payload)?
        .max_attempts(plan.max_attempts)
        .backoff(plan.backoff.clone())
        .priority(plan.priority);
    if plan.elsewhere {
        task = task.queue("elsewhere")?;
    }
    if let Some(delay) = plan.delay {
        // The same each time it is pushed.
        let first = plan.pushes.first().map_or(Duration::ZERO, |(at, _)| *at);
        task = if plan.by_time {
            task.run_at(world.day() + first + delay)
        } else {
            task.delay(delay)
        };
    }
    if let Some(timeout) = plan.timeout {
        task = task.timeout(timeout);
    }
    if let Some(deadline) = plan.deadline {
        task = task.deadline(Deadline::After(deadline));
    }
    if let Some(key) = plan.unique {
        task = task.unique(Unique::while_live(format!("unique {key}")));
    }
    Ok(task)
}

async fn change(world: &Arc<World>, cast: &Cast, id: TaskId, number: usize, cancels: bool) {
    let engine = number % world.plan.engines;
    let changed = cast.with_engine(engine, async |queue| {
        if cancels {
            queue.cancel(id).await
        } else {
            queue.retry(id).await
        }
    });
    let what = if cancels { "cancel" } else { "retry" };
    let answer = match timeout(PATIENCE, changed).await {
        Ok(Some(Ok(record))) => format!("is answered: {}", record.state),
        Ok(Some(Err(error))) => format!("is refused: {error}"),
        _ => "gets no answer".to_owned(),
    };
    world.note_of(
        id,
        format_args!("a {what} through engine {engine} {answer}"),
    );
}

/// Pauses or resumes the first queue, however often it has to be asked for.
pub(crate) async fn set_paused(cast: &Cast, engines: usize, paused: bool) {
    let queue = QueueName::default();
    for engine in (0..engines).cycle() {
        let asked = cast.with_engine(engine, async |asked| {
            if paused {
                asked.pause_queue(&queue).await
            } else {
                asked.resume_queue(&queue).await
            }
        });
        if matches!(timeout(PATIENCE, asked).await, Ok(Some(Ok(())))) {
            return;
        }
        sleep(PAUSE).await;
    }
}
