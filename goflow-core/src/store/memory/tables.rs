//! The rows, and the orders they are looked up in.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

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

/// A task that has not ended.
#[derive(Debug)]
pub(super) struct Row {
    /// What decides; it has the last word over the same fields of `record`.
    pub(super) live: Live,
    pub(super) record: TaskRecord,
    /// When an engine must next look at it; none while the broker is known to have it.
    pub(super) due: Option<Instant>,
    /// When it ends as expired.
    pub(super) deadline: Option<Now>,
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
        })
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

/// A task that has.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) record: TaskRecord,
    at: Instant,
    deadline: Option<Now>,
}

#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) live: BTreeMap<TaskId, Box<Row>>,
    pub(super) finished: BTreeMap<TaskId, Box<Finished>>,
    pub(super) keys: Keys,
    pub(super) uniques: Uniques,
    pub(super) paused: BTreeSet<QueueName>,
    pub(super) due: BTreeSet<(Instant, TaskId)>,
    /// What finished, in that order; tasks that were reopened since are still in it.
    by_finish: VecDeque<(Instant, TaskId)>,
    pub(super) unserved: HashMap<(QueueName, TaskType), BTreeSet<TaskId>>,
}

impl Tables {
    pub(super) fn record(&self, id: TaskId) -> Option<TaskRecord> {
        match self.live.get(&id) {
            Some(row) => Some(row.record.clone()),
            None => self.finished.get(&id).map(|row| row.record.clone()),
        }
    }

    pub(super) fn contains(&self, id: TaskId) -> bool {
        self.live.contains_key(&id) || self.finished.contains_key(&id)
    }

    /// Takes a row out, with its entries in the indexes, to be changed and [put](Self::put) back or ended.
    pub(super) fn take(&mut self, id: TaskId) -> Option<Box<Row>> {
        let row = self.live.remove(&id)?;
        if let Some(due) = row.due {
            self.due.remove(&(due, id));
        }
        if row.is_unserved() {
            let place = (
                row.record.spec.queue.clone(),
                row.record.spec.task_type.clone(),
            );
            if let Some(ids) = self.unserved.get_mut(&place) {
                ids.remove(&id);
                if ids.is_empty() {
                    self.unserved.remove(&place);
                }
            }
        }
        Some(row)
    }

    pub(super) fn put(&mut self, mut row: Box<Row>) {
        row.sync();
        let id = row.record.spec.id;
        if let Some(due) = row.due {
            self.due.insert((due, id));
        }
        if row.is_unserved() {
            let place = (
                row.record.spec.queue.clone(),
                row.record.spec.task_type.clone(),
            );
            self.unserved.entry(place).or_default().insert(id);
        }
        self.live.insert(id, row);
    }

    /// Ends a task that was taken out.
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
        let Row {
            mut record,
            live,
            deadline,
            ..
        } = *row;
        self.uniques.free(&record.spec);
        if state == State::Crashed {
            record.crashes = live.starts;
        }
        record.finished_at = Some(ended);
        let id = record.spec.id;
        self.by_finish.push_back((now.instant, id));
        let at = now.instant;
        self.finished.insert(
            id,
            Box::new(Finished {
                record,
                at,
                deadline,
            }),
        );
    }

    /// Drops finished tasks that are too old or too many.
    pub(super) fn evict(&mut self, options: &Options, now: Now) {
        while let Some((at, id)) = self.by_finish.front().copied() {
            let counts = self.finished.get(&id).is_some_and(|row| row.at == at);
            let expired = now.instant.duration_since(at) >= options.keep_for;
            if counts && !expired && self.finished.len() <= options.keep_finished {
                break;
            }
            self.by_finish.pop_front();
            if counts {
                self.finished.remove(&id);
            }
        }
    }

    pub(super) fn cancel(&mut self, id: TaskId, now: Now) -> Change {
        match self.take(id) {
            Some(row) => {
                self.finish(row, State::Cancelled, now.shown, now);
                self.record(id)
                    .map_or(Change::Unknown, |record| Change::Done(Box::new(record)))
            }
            None => self.record(id).map_or(Change::Unknown, |record| {
                Change::Forbidden(Box::new(record))
            }),
        }
    }

    pub(super) fn reopen(&mut self, id: TaskId, now: Now) -> Result<Change, Error> {
        let forbidden = |record: TaskRecord| Change::Forbidden(Box::new(record));
        let Some(finished) = self.finished.get(&id) else {
            return Ok(self.record(id).map_or(Change::Unknown, forbidden));
        };
        if finished.record.state == State::Succeeded {
            return Ok(forbidden(finished.record.clone()));
        }
        self.uniques.retake(&finished.record.spec, now.instant)?;
        let Some(finished) = self.finished.remove(&id) else {
            return Ok(Change::Unknown);
        };
        let Finished {
            mut record,
            mut deadline,
            ..
        } = *finished;
        if deadline.is_some_and(|deadline| deadline.instant <= now.instant) {
            deadline = None;
            Arc::make_mut(&mut record.spec).deadline = None;
        }
        record.finished_at = None;
        let live = Live {
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
        let mut row = Box::new(Row {
            live,
            record,
            due: None,
            deadline,
        });
        set_due(&mut row, Duration::ZERO, now);
        row.sync();
        let record = row.record.clone();
        self.put(row);
        Ok(Change::Done(Box::new(record)))
    }
}
