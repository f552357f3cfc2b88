//! A row: what decides what becomes of a task, and what is shown of it.

use std::sync::Arc;

use time::OffsetDateTime;
use tokio::time::Instant;

use super::Now;
use crate::content::Content;
use crate::id::WorkerId;
use crate::record::{FailedAttempt, TaskRecord};
use crate::state::{Live, State};
use crate::task::TaskSpec;

/// A task. There are many, and who pushes, who applies outcomes and who waits pass each of them from core to core: what few
/// of them have lies elsewhere.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) spec: Arc<TaskSpec>,
    /// What decides, until the end.
    pub(super) live: Live,
    /// When an engine must next look at it; none while the broker is known to have it, or being given it.
    pub(super) due: Option<Instant>,
    /// When it ended.
    pub(super) finished: Option<Instant>,
    pub(super) finished_at: Option<OffsetDateTime>,
    pub(super) started_at: Option<OffsetDateTime>,
    /// The worker of the last outcome.
    pub(super) worker: Option<WorkerId>,
    pub(super) result: Option<Content>,
    extra: Option<Box<Extra>>,
}

/// What few tasks have.
#[derive(Debug, Default)]
pub(super) struct Extra {
    /// When it ends as expired.
    pub(super) deadline: Option<Now>,
    /// When it is due, as it is shown while it waits.
    pub(super) due_at: Option<OffsetDateTime>,
    /// The last error.
    pub(super) error: Option<String>,
    /// Every failed attempt.
    pub(super) attempts: Vec<FailedAttempt>,
}

impl Row {
    /// Of a queued task that had no outcome yet.
    pub(super) fn new(spec: Arc<TaskSpec>, dispatch: u32) -> Box<Self> {
        let live = Live {
            state: State::Queued,
            attempt: 1,
            max_attempts: spec.max_attempts,
            dispatch,
            waiting: false,
            starts: 0,
            last_start: None,
            unserved: 0,
        };
        Box::new(Self {
            spec,
            live,
            due: None,
            finished: None,
            finished_at: None,
            started_at: None,
            worker: None,
            result: None,
            extra: None,
        })
    }

    pub(super) fn has_ended(&self) -> bool {
        self.finished.is_some()
    }

    pub(super) fn is_unserved(&self) -> bool {
        self.live.waiting && self.live.unserved > 0
    }

    pub(super) fn deadline(&self) -> Option<Now> {
        self.extra.as_ref()?.deadline
    }

    /// What few tasks have, to be changed: this one has it from now on.
    pub(super) fn extra(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    /// What few tasks have, to be changed if this one has it.
    pub(super) fn extra_if_any(&mut self) -> Option<&mut Extra> {
        self.extra.as_deref_mut()
    }

    pub(super) fn error(&self) -> Option<&str> {
        self.extra.as_ref()?.error.as_deref()
    }

    /// What is shown of it.
    pub(super) fn record(&self) -> TaskRecord {
        let record = self.brief();
        let attempts = self.extra.as_ref().map(|extra| extra.attempts.clone());
        TaskRecord {
            attempts: attempts.unwrap_or_default(),
            ..record
        }
    }

    /// What is shown of it, without its failed attempts.
    pub(super) fn brief(&self) -> TaskRecord {
        let (live, extra) = (&self.live, self.extra.as_ref());
        let crashes = match live.state {
            State::Crashed => live.starts,
            _ => live.crashes(),
        };
        TaskRecord {
            spec: self.spec.clone(),
            state: live.state,
            attempt: live.attempt,
            max_attempts: live.max_attempts,
            dispatch: live.dispatch,
            result: self.result.clone(),
            error: extra.and_then(|extra| extra.error.clone()),
            attempts: Vec::new(),
            worker: self.worker,
            crashes,
            unserved: self.is_unserved(),
            progress: None,
            due_at: extra
                .and_then(|extra| extra.due_at)
                .filter(|_| live.waiting),
            started_at: self.started_at,
            finished_at: self.finished_at,
            payload_omitted: false,
            result_omitted: false,
        }
    }
}
