//! The rows, and the orders they are looked up in.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::Instant;

use super::keys::Keys;
use super::{Now, Options};
use crate::id::TaskId;
use crate::name::{QueueName, TaskType};
use crate::record::TaskRecord;
use crate::state::{Live, State};
use crate::store::{Change, DISPATCH_DEADLINE, Dispatch};
use crate::task::TaskSpec;

/// A task that has not ended.
#[derive(Debug)]
pub(super) struct Row {
    /// What decides; it has the last word over the same fields of `record`.
    pub(super) live: Live,
    pub(super) record: TaskRecord,
    /// When an engine must next look at it; none while the broker is known to have it.
    pub(super) due: Option<Instant>,
}

impl Row {
    pub(super) fn new(spec: TaskSpec, live: Live) -> Box<Self> {
        let record = TaskRecord {
            spec,
            state: live.state,
            attempt: live.attempt,
            dispatch: live.dispatch,
            result: None,
            error: None,
            attempts: Vec::new(),
            worker: None,
            crashes: 0,
            unserved: false,
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
        })
    }

    pub(super) fn is_unserved(&self) -> bool {
        self.live.waiting && self.live.unserved > 0
    }

    /// Brings the shown fields up to date with those that decide.
    pub(super) fn sync(&mut self) {
        self.record.state = self.live.state;
        self.record.attempt = self.live.attempt;
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
}

#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) live: BTreeMap<TaskId, Box<Row>>,
    pub(super) finished: BTreeMap<TaskId, Box<Finished>>,
    pub(super) keys: Keys,
    due: BTreeSet<(Instant, TaskId)>,
    by_finish: BTreeSet<(Instant, TaskId)>,
    unserved: HashMap<(QueueName, TaskType), BTreeSet<TaskId>>,
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
            mut record, live, ..
        } = *row;
        if state == State::Crashed {
            record.crashes = live.starts;
        }
        record.finished_at = Some(ended);
        let id = record.spec.id;
        self.by_finish.insert((now.instant, id));
        let at = now.instant;
        self.finished.insert(id, Box::new(Finished { record, at }));
    }

    /// Drops finished tasks that are too old or too many.
    pub(super) fn evict(&mut self, options: &Options, now: Now) {
        while let Some((at, id)) = self.by_finish.first().copied() {
            let expired = now.instant.duration_since(at) >= options.keep_for;
            if !expired && self.by_finish.len() <= options.keep_finished {
                break;
            }
            self.by_finish.pop_first();
            self.finished.remove(&id);
        }
    }

    pub(super) fn claim_due(&mut self, limit: usize, now: Now) -> Vec<Dispatch> {
        let last = (now.instant, TaskId::from(uuid::Uuid::max()));
        let due = self.due.range(..=last).take(limit);
        let ids: Vec<_> = due.map(|(_, id)| *id).collect();
        let mut claimed = Vec::with_capacity(ids.len());
        for id in ids {
            let Some(mut row) = self.take(id) else {
                continue;
            };
            if row.live.waiting {
                row.live.waiting = false;
                row.live.state = State::Queued;
                row.live.dispatch += 1;
            }
            row.due = Some(now.instant + DISPATCH_DEADLINE);
            claimed.push(Dispatch {
                spec: row.record.spec.clone(),
                attempt: row.live.attempt,
                dispatch: row.live.dispatch,
            });
            self.put(row);
        }
        claimed
    }

    pub(super) fn confirm(&mut self, id: TaskId, dispatch: u32) {
        if let Some(row) = self.live.get_mut(&id)
            && !row.live.waiting
            && row.live.dispatch == dispatch
            && let Some(due) = row.due.take()
        {
            self.due.remove(&(due, id));
        }
    }

    /// Makes every row due that the broker was thought to have.
    pub(super) fn redispatch_all(&mut self, now: Now) {
        for (id, row) in self.live.iter_mut().filter(|(_, row)| !row.live.waiting) {
            if let Some(due) = row.due.replace(now.instant) {
                self.due.remove(&(due, *id));
            }
            self.due.insert((now.instant, *id));
        }
    }

    pub(super) fn wake_unserved(
        &mut self,
        queue: &QueueName,
        task_type: &TaskType,
        now: Now,
    ) -> u64 {
        let place = (queue.clone(), task_type.clone());
        let Some(ids) = self.unserved.get(&place) else {
            return 0;
        };
        for id in ids {
            let Some(row) = self.live.get_mut(id) else {
                continue;
            };
            if let Some(due) = row.due.replace(now.instant) {
                self.due.remove(&(due, *id));
            }
            self.due.insert((now.instant, *id));
            row.record.due_at = Some(now.shown);
        }
        ids.len() as u64
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

    pub(super) fn reopen(&mut self, id: TaskId, now: Now) -> Change {
        let Some(finished) = self.finished.remove(&id) else {
            return self.record(id).map_or(Change::Unknown, |record| {
                Change::Forbidden(Box::new(record))
            });
        };
        if finished.record.state == State::Succeeded {
            let record = finished.record.clone();
            self.finished.insert(id, finished);
            return Change::Forbidden(Box::new(record));
        }
        let Finished { record, at } = *finished;
        self.by_finish.remove(&(at, id));
        let live = Live {
            state: State::Queued,
            attempt: record.attempt + 1,
            max_attempts: record.attempt + record.spec.max_attempts,
            dispatch: record.dispatch,
            waiting: true,
            starts: 0,
            unserved: 0,
            backoff: record.spec.backoff.clone(),
        };
        let mut row = Box::new(Row {
            live,
            record,
            due: None,
        });
        row.record.finished_at = None;
        set_due(&mut row, Duration::ZERO, now);
        row.sync();
        let record = row.record.clone();
        self.put(row);
        Change::Done(Box::new(record))
    }
}

/// Lets a row wait.
pub(super) fn set_due(row: &mut Row, wait: Duration, now: Now) {
    // A wait beyond what the clock can hold is as good as the longest one that pushes may ask for.
    let wait = wait.min(2 * crate::limits::MAX_DELAY);
    row.due = Some(now.instant + wait);
    row.record.due_at = Some(now.shown + wait);
}
