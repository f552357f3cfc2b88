//! The history of each task as one observer after the other got to know it, given to the invariants that all tiers
//! share.

use goflow_conformance::invariants::{Violation, Watch};
use goflow_core::record::{FailedAttempt, TaskRecord};
use goflow_core::{Content, State, Task, TaskId, TaskSpec, WorkerId};
use time::OffsetDateTime;

use super::{Case, Facts, Finding};
use crate::history::{Answer, Asked, Event, Seen};
use crate::work::{Start, Work};

/// The idempotency keys of all tasks.
#[derive(Debug, Default)]
pub(super) struct Keys(Watch);

/// Checks the life of one task.
pub(super) fn check(facts: &Facts, case: &Case<'_>, keys: &mut Keys, findings: &mut Vec<Finding>) {
    let work = facts.load.work(case.n);
    let mut ids: Vec<TaskId> = Vec::new();
    for event in case.events {
        let Some(id) = event.accepted() else {
            continue;
        };
        if event.asked == Asked::PushKeyed
            && let Some(key) = work.key()
            && let Err(violation) = keys.0.keyed(&key, id)
        {
            findings.push(found(case.n, violation));
        }
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    for id in ids {
        let Some(spec) = spec(facts, &work, id) else {
            continue;
        };
        let mut observer = Observer::new(spec);
        if let Err(violation) = observer.observe(case) {
            findings.push(found(case.n, violation));
        }
    }
}

fn found(n: u32, violation: Violation) -> Finding {
    Finding::of(violation.invariant, n, Some(violation.task), violation.seen)
}

/// The task as it was pushed.
fn spec(facts: &Facts, work: &Work, id: TaskId) -> Option<TaskSpec> {
    let mut task = Task::new("mark", Content::json(&work.job).ok()?).ok()?;
    task = task.max_attempts(work.max_attempts);
    task = match work.start {
        Start::Now => task,
        Start::Delay(delay) => task.delay(delay),
        Start::RunAt(wait) => task.run_at(facts.load.written_at(work.job.n) + wait),
    };
    let spec = task.into_spec().ok()?;
    Some(TaskSpec { id, ..spec })
}

/// Tells a watch of one task what was seen of it.
struct Observer {
    watch: Watch,
    spec: TaskSpec,
    last: Option<State>,
    /// Gateways do not tell dispatches: as many as must have been.
    dispatch: u32,
    attempt: u32,
    /// Retries that nobody knows the fate of.
    loose_retries: usize,
    cancelled: bool,
}

impl Observer {
    fn new(spec: TaskSpec) -> Self {
        let mut watch = Watch::default();
        watch.accepted(&spec);
        Self {
            watch,
            spec,
            last: None,
            dispatch: 0,
            attempt: 1,
            loose_retries: 0,
            cancelled: false,
        }
    }

    fn observe(&mut self, case: &Case<'_>) -> Result<(), Violation> {
        for event in case.events {
            self.event(event)?;
        }
        let id = self.spec.id;
        let records = || case.records.iter().filter(move |record| record.id == id);
        for record in records() {
            // First who may have reopened it, so that its last attempts are known to the runs.
            if self.was_reopened(&record.seen) {
                self.read(&record.seen)?;
            }
        }
        for entry in case
            .ledger
            .iter()
            .filter(|entry| entry.task == self.spec.id)
        {
            if entry.end.is_none() {
                self.watch
                    .started(entry.task, entry.attempt, moment(entry.at))?;
            }
        }
        for record in records() {
            self.read(&record.seen)?;
        }
        Ok(())
    }

    fn event(&mut self, event: &Event) -> Result<(), Violation> {
        match (&event.answer, event.asked) {
            (Answer::Task(seen), Asked::Cancel) => {
                if !self.cancelled {
                    self.watch.cancelled(self.spec.id)?;
                }
                self.cancelled = true;
                self.read(seen)
            }
            (Answer::Task(seen), Asked::Retry) => self.reopened(seen),
            (Answer::Task(seen), _) => self.read(seen),
            (Answer::Unknown(_), Asked::Retry) => {
                self.loose_retries += 1;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Whether what is seen can only be because of a retry that nobody got an answer to.
    fn was_reopened(&self, seen: &Seen) -> bool {
        let over = self.last.is_some_and(State::is_terminal);
        self.loose_retries > 0 && over && seen.attempt > self.attempt
    }

    fn reopened(&mut self, seen: &Seen) -> Result<(), Violation> {
        self.cancelled = false;
        let record = self.record(seen);
        // The answer is the task right after.
        self.note(seen);
        self.watch.reopened(&record)
    }

    fn read(&mut self, seen: &Seen) -> Result<(), Violation> {
        if self.was_reopened(seen) {
            self.loose_retries -= 1;
            return self.reopened(seen);
        }
        let record = self.record(seen);
        self.note(seen);
        self.watch.read(&record)
    }

    fn note(&mut self, seen: &Seen) {
        (self.last, self.attempt) = (Some(seen.state), seen.attempt);
    }

    fn record(&mut self, seen: &Seen) -> TaskRecord {
        let waited = matches!(self.last, Some(State::Scheduled | State::Retrying));
        if waited && (self.last != Some(seen.state) || seen.attempt > self.attempt) {
            self.dispatch += 1;
        }
        let failed = |attempt: &crate::history::SeenAttempt| FailedAttempt {
            attempt: attempt.attempt,
            error: attempt.error.clone(),
            worker: None,
            started_at: None,
            finished_at: attempt.finished_at,
        };
        TaskRecord {
            spec: self.spec.clone().into(),
            state: seen.state,
            attempt: seen.attempt,
            max_attempts: seen.max_attempts,
            dispatch: self.dispatch,
            result: seen
                .result
                .as_ref()
                .map(|text| Content::new(text.clone(), "application/json")),
            error: seen.error.clone(),
            attempts: seen.attempts.iter().map(failed).collect(),
            worker: seen.worker.map(WorkerId),
            crashes: seen.crashes,
            unserved: false,
            progress: None,
            due_at: seen.due_at,
            started_at: seen.started_at,
            finished_at: seen.finished_at,
            payload_omitted: false,
            result_omitted: false,
        }
    }
}

fn moment(at: crate::clock::Micros) -> OffsetDateTime {
    let nanos = i128::from(at) * 1_000;
    OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}
