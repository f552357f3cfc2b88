//! The orders that rows are looked up in.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use foldhash::HashMap;
use time::OffsetDateTime;
use tokio::time::Instant;

use super::order::Order;
use super::row::Row;
use super::uniques::Uniques;
use super::{Now, Options};
use crate::id::TaskId;
use crate::name::{QueueName, TaskType};
use crate::state::State;

/// A row that has not ended is [taken out](Self::take_out) before it is changed, and [put back](Self::put_back) or
/// [finished](Self::finish) afterwards.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) order: Order,
    /// When an engine must look at those that it must.
    pub(super) due: BTreeSet<(Instant, TaskId)>,
    /// What finished, in that order; tasks that were reopened since are still in it.
    by_finish: VecDeque<(Instant, TaskId)>,
    /// When those that have a deadline end as expired.
    deadlines: BTreeSet<(Instant, TaskId)>,
    pub(super) unserved: HashMap<(QueueName, TaskType), BTreeSet<TaskId>>,
    pub(super) uniques: Uniques,
}

impl Index {
    /// Takes in a row that is new, or live again.
    pub(super) fn add(&mut self, row: &Row) {
        let id = row.spec.id;
        self.order.add(id);
        let deadline = row.deadline().map(|deadline| (deadline.instant, id));
        self.deadlines.extend(deadline);
        self.put_back(row);
    }

    /// Those whose deadline has passed for so long, the oldest first.
    pub(super) fn late_for(&self, wait: Duration, now: Now) -> impl Iterator<Item = TaskId> {
        let deadlines = self.deadlines.iter();
        let late = deadlines.take_while(move |(deadline, _)| *deadline + wait <= now.instant);
        late.map(|(_, id)| *id)
    }

    /// Takes a live row out of the orders that a change may move it in.
    pub(super) fn take_out(&mut self, row: &Row) {
        let id = row.spec.id;
        if let Some(due) = row.due {
            self.due.remove(&(due, id));
        }
        if row.is_unserved() {
            let place = place(row);
            if let Some(ids) = self.unserved.get_mut(&place) {
                ids.remove(&id);
                if ids.is_empty() {
                    self.unserved.remove(&place);
                }
            }
        }
    }

    /// Puts back a row that was taken out.
    pub(super) fn put_back(&mut self, row: &Row) {
        let id = row.spec.id;
        self.due.extend(row.due.map(|due| (due, id)));
        if row.is_unserved() {
            self.unserved.entry(place(row)).or_default().insert(id);
        }
    }

    /// Ends a row that was taken out.
    pub(super) fn finish(&mut self, row: &mut Row, state: State, ended: OffsetDateTime, now: Now) {
        row.live.state = state;
        row.live.waiting = false;
        self.uniques.free(&row.spec);
        row.finished_at = Some(ended);
        row.due = None;
        row.finished = Some(now.instant);
        let id = row.spec.id;
        if let Some(deadline) = row.deadline() {
            self.deadlines.remove(&(deadline.instant, id));
        }
        self.order.end(id);
        self.by_finish.push_back((now.instant, id));
    }

    /// The row that finished first, if there are too many or it is too old; it is to be dropped then, if it `counts`:
    /// one that was reopened since does not.
    pub(super) fn evict(
        &mut self,
        options: &Options,
        now: Now,
        counts: impl Fn(TaskId, Instant) -> bool,
    ) -> Option<TaskId> {
        while let Some((at, id)) = self.by_finish.front().copied() {
            let counts = counts(id, at);
            let expired = now.instant.duration_since(at) >= options.keep_for;
            if counts && !expired && self.order.finished() <= options.keep_finished {
                break;
            }
            self.by_finish.pop_front();
            if counts {
                self.order.remove(id);
                return Some(id);
            }
        }
        None
    }
}

/// Changes when a live row is due.
pub(super) fn move_due(
    order: &mut BTreeSet<(Instant, TaskId)>,
    row: &mut Row,
    due: Option<Instant>,
) {
    let id = row.spec.id;
    if let Some(before) = std::mem::replace(&mut row.due, due) {
        order.remove(&(before, id));
    }
    order.extend(due.map(|due| (due, id)));
}

/// What a worker must serve for the row to go on.
fn place(row: &Row) -> (QueueName, TaskType) {
    let spec = &row.spec;
    (spec.queue.clone(), spec.task_type.clone())
}
