//! A row: what decides what becomes of a task, and what is shown of it.

use std::sync::Arc;

use tokio::time::Instant;

use super::Now;
use crate::record::TaskRecord;
use crate::state::{Live, State};
use crate::task::TaskSpec;

/// A task.
#[derive(Debug)]
pub(super) struct Row {
    /// What decides until the end; it has the last word over the same fields of `record`.
    pub(super) live: Live,
    pub(super) record: TaskRecord,
    /// When an engine must next look at it; none while the broker is known to have it.
    pub(super) due: Option<Instant>,
    /// When it ends as expired.
    pub(super) deadline: Option<Now>,
    /// When it ended.
    pub(super) finished: Option<Instant>,
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
            backoff: spec.backoff.clone(),
        };
        Box::new(Self {
            live,
            record: TaskRecord::new(spec),
            due: None,
            deadline: None,
            finished: None,
        })
    }

    pub(super) fn has_ended(&self) -> bool {
        self.finished.is_some()
    }

    pub(super) fn is_unserved(&self) -> bool {
        self.live.waiting && self.live.unserved > 0
    }

    /// Brings the shown fields up to date with those that decide.
    pub(super) fn sync(&mut self) {
        self.record.state = self.live.state;
        self.record.attempt = self.live.attempt;
        self.record.max_attempts = self.live.max_attempts;
        self.record.dispatch = self.live.dispatch;
        self.record.crashes = self.live.crashes();
        self.record.unserved = self.is_unserved();
        if !self.live.waiting {
            self.record.due_at = None;
        }
    }
}
