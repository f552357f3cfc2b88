//! Tasks that say how each of their runs is to go, and the ledger of those runs.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use goflow::{Ctx, HandlerError, TaskId};
use goflow_conformance::dice::Dice;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// A run of the handler: the number of runs before it is its result.
type Running = Pin<Box<dyn Future<Output = Result<usize, HandlerError>> + Send>>;

/// How one run goes.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) enum Step {
    Succeed,
    Fail,
    FailFor(Duration),
    FailForGood,
    Snooze(Duration),
    Panic,
    /// Until it is told to stop.
    Hang,
    Work(Duration),
}

impl Step {
    pub(super) fn random(dice: &mut Dice) -> Self {
        let short = Duration::from_millis(dice.roll(100));
        match dice.roll(10) {
            0 => Self::Succeed,
            1 | 2 => Self::Fail,
            3 => Self::FailFor(short),
            4 => Self::FailForGood,
            5 => Self::Snooze(short),
            6 => Self::Panic,
            7 => Self::Hang,
            _ => Self::Work(short),
        }
    }
}

/// One call of a handler.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) task: TaskId,
    pub(super) attempt: u32,
    pub(super) at: OffsetDateTime,
    step: Step,
}

/// Every call of a handler, in order; cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Ledger {
    runs: Arc<Mutex<Vec<Run>>>,
    heard: usize,
}

impl Ledger {
    /// Notes a run; which one of its task it is, from 0, and how it is to go.
    fn note(&self, ctx: &Ctx, script: &[Step]) -> (usize, Step) {
        let mut runs = self.runs.lock().unwrap();
        let task = ctx.task_id();
        let number = runs.iter().filter(|one| one.task == task).count();
        let step = script.get(number).copied().unwrap_or(Step::Succeed);
        runs.push(Run {
            task,
            attempt: ctx.attempt(),
            at: OffsetDateTime::now_utc(),
            step,
        });
        (number, step)
    }

    /// Whether this run of a task was one that went well.
    pub(super) fn went_well(&self, task: TaskId, number: usize) -> bool {
        let runs = self.runs.lock().unwrap();
        let mut runs = runs.iter().filter(|one| one.task == task);
        let step = runs.nth(number).map(|run| run.step);
        matches!(step, Some(Step::Succeed | Step::Work(_)))
    }

    /// The runs since the last time it was asked.
    pub(super) fn news(&mut self) -> Vec<Run> {
        let news = self.runs.lock().unwrap()[self.heard..].to_vec();
        self.heard += news.len();
        news
    }

    /// The handler: each run of a task goes as its payload says, and well if that says nothing of it. It returns
    /// the number of the run.
    pub(super) fn handler(&self) -> impl Fn(Ctx, Vec<Step>) -> Running + Send + Sync + 'static {
        let ledger = self.clone();
        move |ctx, script| {
            let (run, step) = ledger.note(&ctx, &script);
            Box::pin(async move { go(&ctx, step).await.map(|()| run) })
        }
    }
}

async fn go(ctx: &Ctx, step: Step) -> Result<(), HandlerError> {
    match step {
        Step::Succeed => Ok(()),
        Step::Fail => Err(HandlerError::retry("no")),
        Step::FailFor(wait) => Err(HandlerError::retry_after(wait, "not yet")),
        Step::FailForGood => Err(HandlerError::permanent("never")),
        Step::Snooze(wait) => Err(HandlerError::snooze(wait)),
        Step::Panic => panic!("as it was told to"),
        Step::Hang => {
            ctx.cancelled().await;
            Err(HandlerError::retry("told to stop"))
        }
        Step::Work(time) => {
            tokio::time::sleep(time).await;
            Ok(())
        }
    }
}
