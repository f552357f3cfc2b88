//! What an engine must look at, and when.

use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::Now;
use super::index::{Index, move_due};
use super::row::Row;
use super::tables::Tables;
use crate::broker::Tombstone;
use crate::id::TaskId;
use crate::name::{QueueName, TaskType};
use crate::state::State;
use crate::store::{Claim, DISPATCH_DEADLINE, Dispatch, Due, EXPIRED_ERROR, HELD_FOR, LATE_FOR};
use crate::task::Deadline;

impl Tables {
    pub(super) fn claim_due(&mut self, limit: usize, claim: Claim<'_>, now: Now) -> Due {
        let last = (now.instant, TaskId::from(Uuid::max()));
        let waits_or_is_late = |id: &TaskId| {
            let row = self.rows.get(id);
            row.is_some_and(|row| row.live.waiting || row.has_expired(now))
        };
        let due = self.index.due.range(..=last).map(|(_, id)| *id);
        let ids: Vec<_> = match claim {
            Claim::All(_) => due.take(limit).collect(),
            Claim::WaitingOrLate => due.filter(waits_or_is_late).take(limit).collect(),
            Claim::Late => self.index.late_for(LATE_FOR, now).take(limit).collect(),
        };
        let mut due = Due {
            looked_at: ids.len(),
            ..Due::default()
        };
        for id in ids {
            let Some((row, index)) = self.take_out(id, || None) else {
                continue;
            };
            if row.has_expired(now) {
                due.expired.push(Tombstone {
                    task: id,
                    dispatch: row.live.dispatch,
                });
                row.extra().error = Some(EXPIRED_ERROR.to_owned());
                index.finish(row, State::Expired, now.shown, now);
                continue;
            }
            if !row.live.waiting && matches!(claim, Claim::All(held) if held.contains(&id)) {
                row.look_again(HELD_FOR, now);
                index.put_back(row);
                continue;
            }
            if row.live.waiting {
                row.live.waiting = false;
                row.live.state = State::Queued;
                row.live.dispatch += 1;
            }
            row.look_again(DISPATCH_DEADLINE, now);
            due.dispatches.push(Dispatch {
                spec: row.spec.clone(),
                attempt: row.live.attempt,
                dispatch: row.live.dispatch,
            });
            index.put_back(row);
        }
        due
    }

    pub(super) fn confirm(&mut self, id: TaskId, dispatch: u32) {
        if let Some(row) = self.rows.get_mut(&id)
            && !row.has_ended()
            && !row.live.waiting
            && row.live.dispatch == dispatch
        {
            let deadline = row.deadline().map(|deadline| deadline.instant);
            move_due(&mut self.index.due, row, deadline);
        }
    }

    /// Has a row that was just accepted looked at, for the broker has not taken it.
    pub(super) fn doubt_dispatch(&mut self, id: TaskId, now: Instant) {
        if let Some(row) = self.rows.get_mut(&id)
            && !row.has_ended()
            && !row.live.waiting
            && row.due.is_none()
        {
            move_due(&mut self.index.due, row, Some(now + DISPATCH_DEADLINE));
        }
    }

    /// Makes every row due that the broker was thought to have.
    pub(super) fn redispatch_all(&mut self, now: Now) {
        let Index { order, due, .. } = &mut self.index;
        for id in order.live_ids() {
            if let Some(row) = self.rows.get_mut(&id)
                && !row.live.waiting
            {
                move_due(due, row, Some(now.instant));
            }
        }
    }

    pub(super) fn wake_unserved(
        &mut self,
        queue: &QueueName,
        task_type: &TaskType,
        now: Now,
    ) -> u64 {
        let place = (queue.clone(), task_type.clone());
        let Index { unserved, due, .. } = &mut self.index;
        let Some(ids) = unserved.get(&place) else {
            return 0;
        };
        for id in ids {
            if let Some(row) = self.rows.get_mut(id) {
                move_due(due, row, Some(now.instant));
                row.extra().due_at = Some(now.shown);
            }
        }
        ids.len() as u64
    }
}

impl Row {
    pub(super) fn has_expired(&self, now: Now) -> bool {
        self.deadline()
            .is_some_and(|deadline| deadline.instant <= now.instant)
    }

    /// Has an engine look at the row after `wait`, or at its deadline if that comes first.
    pub(super) fn look_again(&mut self, wait: Duration, now: Now) {
        let (at, deadline) = (now.instant + wait, self.deadline().map(|it| it.instant));
        self.due = Some(deadline.map_or(at, |deadline| deadline.min(at)));
    }

    fn no_later(&self, time: Now) -> Now {
        match self.deadline() {
            Some(deadline) if deadline.instant < time.instant => deadline,
            _ => time,
        }
    }
}

impl Now {
    fn after(self, wait: Duration) -> Self {
        // A wait beyond what the clock can hold is as good as the longest one that pushes may ask for.
        let wait = wait.min(2 * crate::limits::MAX_DELAY);
        Self {
            instant: self.instant + wait,
            shown: self.shown + wait,
        }
    }

    /// When a task that is accepted now expires. What has passed already passes now.
    pub(super) fn deadline(self, deadline: Deadline) -> Self {
        match deadline {
            Deadline::After(wait) => self.after(wait),
            Deadline::At(time) => {
                self.after(Duration::try_from(time - self.shown).unwrap_or_default())
            }
        }
    }
}

/// Lets a row wait, no longer than until its deadline.
pub(super) fn set_due(row: &mut Row, wait: Duration, now: Now) {
    let due = row.no_later(now.after(wait));
    row.due = Some(due.instant);
    row.extra().due_at = Some(due.shown);
}
