//! The rows, and the orders they are looked up in.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use foldhash::HashMap;
use time::OffsetDateTime;
use tokio::time::Instant;

use super::due::set_due;
use super::keys::Keys;
use super::uniques::Uniques;
use super::{Now, Options};
use crate::id::TaskId;
use crate::name::{QueueName, TaskType};
use crate::record::TaskRecord;
use crate::state::{Live, State};
use crate::store::{Change, Error};
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
    finished: Option<Instant>,
}

impl Row {
    pub(super) fn new(spec: Arc<TaskSpec>, live: Live) -> Box<Self> {
        let record = TaskRecord {
            spec,
            state: live.state,
            attempt: live.attempt,
            max_attempts: live.max_attempts,
            dispatch: live.dispatch,
            result: None,
            error: None,
            attempts: Vec::new(),
            worker: None,
            crashes: 0,
            unserved: false,
            progress: None,
            due_at: None,
            started_at: None,
            finished_at: None,
            payload_omitted: false,
            result_omitted: false,
        };
        Box::new(Self {
            live,
            record,
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

#[derive(Debug, Default)]
pub(super) struct Tables {
    /// All of them: looked up far more often than they are listed.
    pub(super) rows: HashMap<TaskId, Box<Row>>,
    /// Those that have not ended, in the order of lists.
    pub(super) live: BTreeSet<TaskId>,
    /// Those that have.
    pub(super) finished: BTreeSet<TaskId>,
    pub(super) keys: Keys,
    pub(super) uniques: Uniques,
    pub(super) paused: BTreeSet<QueueName>,
    pub(super) due: BTreeSet<(Instant, TaskId)>,
    /// What finished, in that order; tasks that were reopened since are still in it.
    by_finish: VecDeque<(Instant, TaskId)>,
    pub(super) unserved: HashMap<(QueueName, TaskType), BTreeSet<TaskId>>,
}

impl Tables {
    pub(super) fn record(&self, id: TaskId) -> Option<&TaskRecord> {
        self.rows.get(&id).map(|row| &row.record)
    }

    pub(super) fn contains(&self, id: TaskId) -> bool {
        self.rows.contains_key(&id)
    }

    /// A task that has not ended, taken out with its entries in the indexes, to be changed and [put](Self::put) back or
    /// ended.
    pub(super) fn take(&mut self, id: TaskId) -> Option<Box<Row>> {
        let row = match self.rows.entry(id) {
            Entry::Occupied(row) if !row.get().has_ended() => row.remove(),
            _ => return None,
        };
        if let Some(due) = row.due {
            self.due.remove(&(due, id));
        }
        if row.is_unserved() {
            let place = place(&row);
            if let Some(ids) = self.unserved.get_mut(&place) {
                ids.remove(&id);
                if ids.is_empty() {
                    self.unserved.remove(&place);
                }
            }
        }
        Some(row)
    }

    /// Takes a new task in.
    pub(super) fn insert(&mut self, row: Box<Row>) {
        self.live.insert(row.record.spec.id);
        self.put(row);
    }

    /// Puts back a task that was taken out.
    pub(super) fn put(&mut self, mut row: Box<Row>) {
        row.sync();
        let id = row.record.spec.id;
        self.due.extend(row.due.map(|due| (due, id)));
        if row.is_unserved() {
            self.unserved.entry(place(&row)).or_default().insert(id);
        }
        self.rows.insert(id, row);
    }

    /// Ends a task that was taken out, or never in.
    pub(super) fn finish(
        &mut self,
        mut row: Box<Row>,
        state: State,
        ended: OffsetDateTime,
        now: Now,
    ) {
        row.live.state = state;
        row.live.waiting = false;
        row.sync();
        self.uniques.free(&row.record.spec);
        if state == State::Crashed {
            row.record.crashes = row.live.starts;
        }
        row.record.finished_at = Some(ended);
        row.due = None;
        row.finished = Some(now.instant);
        let id = row.record.spec.id;
        self.live.remove(&id);
        self.finished.insert(id);
        self.by_finish.push_back((now.instant, id));
        self.rows.insert(id, row);
    }

    /// Drops finished tasks that are too old or too many.
    pub(super) fn evict(&mut self, options: &Options, now: Now) {
        while let Some((at, id)) = self.by_finish.front().copied() {
            let counts = self
                .rows
                .get(&id)
                .is_some_and(|row| row.finished == Some(at));
            let expired = now.instant.duration_since(at) >= options.keep_for;
            if counts && !expired && self.finished.len() <= options.keep_finished {
                break;
            }
            self.by_finish.pop_front();
            if counts {
                self.finished.remove(&id);
                self.rows.remove(&id);
            }
        }
    }

    pub(super) fn cancel(&mut self, id: TaskId, now: Now) -> Change {
        let change = match self.take(id) {
            Some(row) => {
                self.finish(row, State::Cancelled, now.shown, now);
                Change::Done
            }
            None => Change::Forbidden,
        };
        let record = self.record(id);
        record.map_or(Change::Unknown, |record| change(Box::new(record.clone())))
    }

    pub(super) fn reopen(&mut self, id: TaskId, now: Now) -> Result<Change, Error> {
        let Some(row) = self.rows.get(&id) else {
            return Ok(Change::Unknown);
        };
        if !row.has_ended() || row.record.state == State::Succeeded {
            return Ok(Change::Forbidden(Box::new(row.record.clone())));
        }
        self.uniques.retake(&row.record.spec, now.instant)?;
        let Some(mut row) = self.rows.remove(&id) else {
            return Ok(Change::Unknown);
        };
        self.finished.remove(&id);
        row.finished = None;
        let record = &mut row.record;
        if row
            .deadline
            .is_some_and(|deadline| deadline.instant <= now.instant)
        {
            row.deadline = None;
            Arc::make_mut(&mut record.spec).deadline = None;
        }
        record.finished_at = None;
        row.live = Live {
            state: State::Queued,
            attempt: record.attempt + 1,
            max_attempts: record.attempt + record.spec.max_attempts,
            dispatch: record.dispatch,
            waiting: true,
            starts: 0,
            last_start: None,
            unserved: 0,
            backoff: record.spec.backoff.clone(),
        };
        set_due(&mut row, Duration::ZERO, now);
        row.sync();
        let record = row.record.clone();
        self.insert(row);
        Ok(Change::Done(Box::new(record)))
    }
}

/// What a worker must serve for the row to go on.
fn place(row: &Row) -> (QueueName, TaskType) {
    let spec = &row.record.spec;
    (spec.queue.clone(), spec.task_type.clone())
}
