//! A small model of a store: what the port's documentation says a task is, in as few words as possible.

use std::time::Duration;

use goflow_core::backoff::MAX_BACKOFF;
use goflow_core::limits::MAX_DELAY;
use goflow_core::outcome::Verdict;
use goflow_core::state::CRASH_LIMIT;
use goflow_core::store::Applied;
use goflow_core::{State, TaskId, TaskSpec};
use tokio::time::Instant;

/// When a row must be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    Now,
    /// Some time between these.
    Between(Instant, Instant),
    /// Perhaps, not during a walk: a dispatch that nobody confirmed.
    Later,
    Never,
}

/// One task.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Model {
    pub(super) state: State,
    pub(super) attempt: u32,
    limit: u32,
    max_attempts: u32,
    pub(super) dispatch: u32,
    pub(super) waiting: bool,
    pub(super) due: Due,
    starts: u32,
    pub(super) failures: usize,
    /// The key it has while it is unfinished.
    pub(super) key: Option<String>,
    /// Between which times its deadline passes.
    pub(super) deadline: Option<(Instant, Instant)>,
}

impl Model {
    /// A task that is due at once, or as `due` says.
    pub(super) fn new(
        spec: &TaskSpec,
        due: Option<Due>,
        deadline: Option<(Instant, Instant)>,
    ) -> Self {
        let state = if due.is_some() {
            State::Scheduled
        } else {
            State::Queued
        };
        Self {
            state,
            attempt: 1,
            limit: spec.max_attempts,
            max_attempts: spec.max_attempts,
            dispatch: u32::from(due.is_none()),
            waiting: due.is_some(),
            due: due.unwrap_or(Due::Later),
            starts: 0,
            failures: 0,
            key: spec.unique.as_ref().map(|unique| unique.key.clone()),
            deadline,
        }
    }

    fn wait(&mut self, state: State, wait: Duration) -> Applied {
        (self.state, self.waiting, self.starts) = (state, true, 0);
        let until = Instant::now() + wait;
        self.due = if wait.is_zero() {
            Due::Now
        } else {
            Due::Between(until, until)
        };
        Applied::Waits(wait)
    }

    pub(super) fn end(&mut self, state: State) -> Applied {
        (self.state, self.waiting, self.due) = (state, false, Due::Never);
        Applied::Finished(state)
    }

    pub(super) fn is_live(&self) -> bool {
        !self.state.is_terminal()
    }

    /// Whether its deadline has passed; only to be asked when that is known.
    pub(super) fn is_late(&self) -> bool {
        self.deadline
            .is_some_and(|(_, latest)| Instant::now() >= latest)
    }

    /// Between which times something becomes of it by itself.
    pub(super) fn times(&self) -> impl Iterator<Item = (Instant, Instant)> {
        let due = match self.due {
            Due::Between(earliest, latest) => Some((earliest, latest)),
            _ => None,
        };
        due.into_iter().chain(self.deadline)
    }

    /// The store was asked before: what it waits for comes no later than this.
    pub(super) fn due_by(&mut self, time: Instant) {
        if let Due::Between(_, latest) = &mut self.due {
            *latest = time;
        }
    }

    /// Whether it is due; only to be asked when that is known.
    fn is_due(&self) -> bool {
        match self.due {
            Due::Now => true,
            Due::Between(_, latest) => Instant::now() >= latest,
            Due::Later | Due::Never => false,
        }
    }

    pub(super) fn apply(&mut self, attempt: u32, dispatch: u32, verdict: &Verdict) -> Applied {
        let current = dispatch == self.dispatch && !self.waiting;
        if !self.is_live() || attempt != self.attempt {
            return Applied::Stale;
        }
        match verdict {
            Verdict::Succeeded(_) => self.end(State::Succeeded),
            Verdict::Failed { permanent, .. } if *permanent || attempt >= self.limit => {
                self.failures += 1;
                self.end(State::Failed)
            }
            _ if !current => Applied::Stale,
            Verdict::Failed { retry_after, .. } => {
                self.failures += 1;
                self.attempt += 1;
                let wait = retry_after.unwrap_or_default().min(MAX_BACKOFF);
                self.wait(State::Retrying, wait)
            }
            Verdict::Snoozed { wait } => self.wait(State::Scheduled, (*wait).min(MAX_DELAY)),
            Verdict::Started if self.starts == CRASH_LIMIT => self.end(State::Crashed),
            Verdict::Started => {
                self.starts += 1;
                Applied::Noted
            }
            _ => self.wait(State::Queued, Duration::ZERO),
        }
    }

    pub(super) fn reopen(&mut self) {
        if self.is_late() {
            self.deadline = None;
        }
        self.limit = self.attempt + self.max_attempts;
        self.attempt += 1;
        self.wait(State::Queued, Duration::ZERO);
    }

    /// A claim gave it out: whether it may have, and as this attempt and dispatch.
    pub(super) fn claim(&mut self, attempt: u32, dispatch: u32, is_held: Option<bool>) -> bool {
        let due = match (self.waiting, is_held) {
            (true, _) => self.is_due(),
            (false, Some(false)) => self.due != Due::Never,
            (false, _) => false,
        };
        self.dispatch += u32::from(self.waiting);
        let live = self.is_live();
        (self.state, self.waiting, self.due) = (State::Queued, false, Due::Later);
        live && due && (attempt, dispatch) == (self.attempt, self.dispatch)
    }

    /// A claim did not give it out: whether it need not have.
    pub(super) fn pass_over(&mut self, is_held: Option<bool>) -> bool {
        if !self.is_due() {
            return true;
        }
        match (self.waiting, is_held) {
            (false, Some(true)) => {
                self.due = Due::Later;
                true
            }
            (false, None) => true,
            _ => false,
        }
    }
}

/// The unfinished task that has a key.
pub(super) fn holder<'a>(
    models: impl IntoIterator<Item = (&'a TaskId, &'a Model)>,
    key: &str,
) -> Option<TaskId> {
    let mut models = models.into_iter();
    let found = models.find(|(_, model)| model.is_live() && model.key.as_deref() == Some(key));
    found.map(|(id, _)| *id)
}
