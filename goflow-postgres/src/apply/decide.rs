//! What the outcomes of a batch do to one task. A batch may hold several of a task; only what remains is written.

use std::time::Duration;

use goflow_core::limits::clip_error;
use goflow_core::outcome::{Outcome, Verdict};
use goflow_core::record::FailedAttempt;
use goflow_core::state::{Live, Next, Policy};
use goflow_core::store::{Applied, crash_error};
use goflow_core::{Backoff, Content, QueueName, State, TaskSpec, TaskType, WorkerId};
use time::OffsetDateTime;

use crate::push_options::PushOptions;
use crate::rows::{LiveRow, undecodable};

/// A task that is locked, and what becomes of it.
#[derive(Debug)]
pub(super) struct Pending<'o> {
    /// What decides.
    pub(super) live: Live,
    backoff: Backoff,
    queue: QueueName,
    task_type: TaskType,
    pub(super) options: PushOptions,
    /// The task, when it has no row yet.
    pub(super) rowless: Option<&'o TaskSpec>,
    pub(super) fate: Fate<'o>,
    /// The error of the last failure, or of the crash.
    pub(super) error: Option<String>,
    pub(super) worker: Option<WorkerId>,
    pub(super) started_at: Option<OffsetDateTime>,
    /// Attempts that failed.
    pub(super) failures: Vec<FailedAttempt>,
}

/// What is to be written of a task.
#[derive(Debug)]
pub(super) enum Fate<'o> {
    /// Nothing.
    Unchanged,
    /// That it ended: at the time its worker says, if one does.
    Finished {
        state: State,
        result: Option<&'o Content>,
        ended: Option<OffsetDateTime>,
    },
    /// That it waits.
    Waits(Duration),
    /// That a delivery runs.
    Started,
}

impl<'o> Pending<'o> {
    pub(super) fn of_row(row: LiveRow) -> Result<Self, sqlx::Error> {
        Ok(Self::new(
            row.live()?,
            row.backoff(),
            row.options(),
            row.queue.try_into().map_err(undecodable)?,
            row.task_type.try_into().map_err(undecodable)?,
        ))
    }

    /// A task without a row, at the attempt and dispatch that the outcome speaks of.
    pub(super) fn rowless(outcome: &'o Outcome) -> Option<Self> {
        let spec = outcome.spec.as_deref()?;
        let live = Live {
            state: State::Queued,
            attempt: outcome.attempt,
            max_attempts: spec.max_attempts,
            dispatch: outcome.dispatch,
            waiting: false,
            starts: 0,
            last_start: None,
            unserved: 0,
        };
        let new = Self::new(
            live,
            spec.backoff.clone(),
            PushOptions::of(spec),
            spec.queue.clone(),
            spec.task_type.clone(),
        );
        Some(Self {
            rowless: Some(spec),
            ..new
        })
    }

    fn new(
        live: Live,
        backoff: Backoff,
        options: PushOptions,
        queue: QueueName,
        task_type: TaskType,
    ) -> Self {
        Self {
            live,
            backoff,
            queue,
            task_type,
            options,
            rowless: None,
            fate: Fate::Unchanged,
            error: None,
            worker: None,
            started_at: None,
            failures: Vec::new(),
        }
    }

    pub(super) fn apply(&mut self, outcome: &'o Outcome, policy: &Policy) -> Applied {
        if matches!(self.fate, Fate::Finished { .. }) {
            return Applied::Stale;
        }
        let served = matches!(outcome.verdict, Verdict::Unserved)
            && policy
                .served
                .contains(&(self.queue.clone(), self.task_type.clone()));
        let next = self
            .live
            .next(outcome, &self.backoff, served, rand::random());
        if next == Next::Stale {
            return Applied::Stale;
        }
        self.note(outcome);
        match next {
            Next::Finish(state) => {
                let result = match &outcome.verdict {
                    Verdict::Succeeded(content) => Some(content),
                    _ => None,
                };
                let mut ended = Some(outcome.finished_at);
                if state == State::Crashed {
                    self.error = Some(crash_error(self.live.starts));
                    ended = None;
                }
                self.fate = Fate::Finished {
                    state,
                    result,
                    ended,
                };
                Applied::Finished(state)
            }
            Next::Wait {
                state,
                attempt,
                wait,
                unserved,
            } => {
                self.live = Live {
                    state,
                    attempt,
                    unserved,
                    waiting: true,
                    starts: 0,
                    ..self.live.clone()
                };
                self.fate = Fate::Waits(wait);
                Applied::Waits(wait)
            }
            Next::Started { starts } => {
                self.live.starts = starts;
                self.live.last_start = outcome.start();
                self.fate = Fate::Started;
                Applied::Noted
            }
            Next::Stale => Applied::Stale,
        }
    }

    fn note(&mut self, outcome: &Outcome) {
        self.worker = Some(outcome.worker);
        self.started_at = outcome.started_at.or(self.started_at);
        if let Verdict::Failed { error, .. } = &outcome.verdict {
            let error = clip_error(error);
            self.error = Some(error.clone());
            self.failures.push(FailedAttempt {
                attempt: outcome.attempt,
                error,
                worker: Some(outcome.worker),
                started_at: outcome.started_at,
                finished_at: outcome.finished_at,
            });
        }
    }

    /// Deliveries that started and ended without an outcome, when the task ends in `state`.
    pub(super) fn crashes(&self, state: State) -> u32 {
        if state == State::Crashed {
            self.live.starts
        } else {
            self.live.crashes()
        }
    }
}
