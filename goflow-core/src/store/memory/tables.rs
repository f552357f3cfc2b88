//! The rows, with the orders they are looked up in.

use std::collections::BTreeSet;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use foldhash::HashMap;
use tokio::time::Instant;
use uuid::Uuid;

use super::due::set_due;
use super::index::Index;
use super::keys::Keys;
use super::row::Row;
use super::{CHANGED_AT_ONCE, Now, Options};
use crate::id::TaskId;
use crate::name::QueueName;
use crate::state::{Live, State};
use crate::store::{Change, Error};

pub(super) type Rows = HashMap<TaskId, Box<Row>>;

#[derive(Debug, Default)]
pub(super) struct Tables {
    /// All of them: looked up far more often than they are listed.
    pub(super) rows: Rows,
    pub(super) index: Index,
    pub(super) keys: Keys,
    pub(super) paused: BTreeSet<QueueName>,
    /// Which broker the rows speak of.
    pub(super) broker: Option<Uuid>,
    /// The in-process broker that has the store to itself, until then.
    pub(super) claim: Option<(Uuid, Instant)>,
}

impl Tables {
    pub(super) fn row(&self, id: TaskId) -> Option<&Row> {
        self.rows.get(&id).map(|row| &**row)
    }

    pub(super) fn contains(&self, id: TaskId) -> bool {
        self.rows.contains_key(&id)
    }

    /// Takes a new task in.
    pub(super) fn insert(&mut self, row: Box<Row>) {
        self.index.add(&row);
        self.rows.insert(row.spec.id, row);
    }

    /// A task that has not ended, taken out of the index to be changed; the one that `adopt` gives if there is none.
    pub(super) fn take_out(
        &mut self,
        id: TaskId,
        adopt: impl FnOnce() -> Option<Box<Row>>,
    ) -> Option<(&mut Row, &mut Index)> {
        let row = match self.rows.entry(id) {
            Entry::Occupied(row) if row.get().has_ended() => return None,
            Entry::Occupied(row) => {
                let row = row.into_mut();
                self.index.take_out(row);
                row
            }
            Entry::Vacant(place) => {
                let row = place.insert(adopt()?);
                self.index.order.add(id);
                row
            }
        };
        Some((row, &mut self.index))
    }

    /// Takes out some of the finished tasks that are too old or too many.
    #[expect(clippy::vec_box, reason = "they are taken out as they are")]
    pub(super) fn evict(&mut self, options: &Options, now: Now, gone: &mut Vec<Box<Row>>) {
        let Self { rows, index, .. } = self;
        while gone.len() < CHANGED_AT_ONCE
            && let Some(id) = index.evict(options, now, |id, at| {
                rows.get(&id).is_some_and(|row| row.finished == Some(at))
            })
        {
            gone.extend(rows.remove(&id));
        }
    }

    pub(super) fn cancel(&mut self, id: TaskId, now: Now) -> Change {
        let change = match self.take_out(id, || None) {
            Some((row, index)) => {
                index.finish(row, State::Cancelled, now.shown, now);
                Change::Done
            }
            None => Change::Forbidden,
        };
        let row = self.row(id);
        row.map_or(Change::Unknown, |row| change(Box::new(row.record())))
    }

    pub(super) fn reopen(&mut self, id: TaskId, now: Now) -> Result<Change, Error> {
        let Some(row) = self.rows.get_mut(&id) else {
            return Ok(Change::Unknown);
        };
        if !row.has_ended() || row.live.state == State::Succeeded {
            return Ok(Change::Forbidden(Box::new(row.record())));
        }
        self.index.uniques.retake(&row.spec, now.instant)?;
        row.finished = None;
        row.finished_at = None;
        if row.has_expired(now) {
            row.extra().deadline = None;
            Arc::make_mut(&mut row.spec).deadline = None;
        }
        row.live = Live {
            state: State::Queued,
            attempt: row.live.attempt + 1,
            max_attempts: row.live.attempt + row.spec.max_attempts,
            dispatch: row.live.dispatch,
            waiting: true,
            starts: 0,
            last_start: None,
            unserved: 0,
        };
        set_due(row, Duration::ZERO, now);
        self.index.add(row);
        Ok(Change::Done(Box::new(row.record())))
    }
}
