//! Accepting requests.

use std::collections::hash_map::Entry;
use std::iter;
use std::sync::Arc;
use std::time::Duration;

use foldhash::{HashMap, HashSet};
use uuid::Uuid;

use super::due::set_due;
use super::row::Row;
use super::tables::Tables;
use super::{Now, uniques};
use crate::id::TaskId;
use crate::state::State;
use crate::store::{Accepted, DISPATCH_DEADLINE, Error, NewTasks};
use crate::task::{Start, TaskSpec};
use crate::unique::OnConflict;

impl Tables {
    pub(super) fn accept(
        &mut self,
        request: &NewTasks,
        limit: usize,
        now: Now,
    ) -> Result<Vec<Accepted>, Error> {
        let NewTasks { tasks, key } = request;
        let Some(first) = tasks.first() else {
            return Err(refused("a request without tasks"));
        };
        if key.is_some() && tasks.len() > 1 {
            return Err(refused("an idempotency key is for a single task"));
        }
        if tasks.iter().any(|spec| has_nul(spec)) {
            return Err(refused(
                "headers, tags, unique keys and content types must not contain NUL",
            ));
        }
        if let Some(key) = key {
            self.keys.expire(now.instant);
            if let Some(id) = self.keys.find(&first.namespace, key)? {
                return Ok(vec![known(id)]);
            }
        }
        let holders = self.holders(tasks, now)?;
        self.check(tasks, &holders, limit)?;
        if let Some(key) = key {
            let id = holders.first().copied().flatten().unwrap_or(first.id);
            self.keys
                .insert(first.namespace.clone(), key.clone(), id, now.instant);
        }
        let accepted = tasks.iter().zip(or_none(&holders));
        Ok(accepted
            .map(|(spec, holder)| match holder {
                Some(id) => known(id),
                None => self.take_in(spec.clone(), now),
            })
            .collect())
    }

    /// Accepts the task of a row that nobody need look at, for `broker` is about to have it.
    pub(super) fn accept_one(
        &mut self,
        row: Box<Row>,
        broker: Uuid,
        limit: usize,
    ) -> Result<(), Error> {
        if self.is_bound_to_other(broker) {
            return Err(Error::Claimed);
        }
        let id = row.spec.id;
        let Entry::Vacant(place) = self.rows.entry(id) else {
            return Err(Error::Exists);
        };
        if self.index.order.live() >= limit {
            return Err(Error::Full { limit });
        }
        place.insert(row);
        self.index.order.add(id);
        Ok(())
    }

    /// For each task the one that has its unique key already, be it an earlier one of these; empty if none asks for a key.
    fn holders(&self, tasks: &[Arc<TaskSpec>], now: Now) -> Result<Vec<Option<TaskId>>, Error> {
        if tasks.iter().all(|spec| spec.unique.is_none()) {
            return Ok(Vec::new());
        }
        let mut firsts: HashMap<_, TaskId> = HashMap::default();
        let mut holder_of = |spec: &TaskSpec| {
            let (Some(name), Some(unique)) = (uniques::name(spec), &spec.unique) else {
                return Ok(None);
            };
            let taken = self.index.uniques.holder(spec, now.instant);
            match (
                taken.or_else(|| firsts.get(&name).copied()),
                unique.on_conflict,
            ) {
                (Some(holder), OnConflict::Reject) => Err(Error::Duplicate(holder)),
                (Some(holder), OnConflict::Existing) => Ok(Some(holder)),
                (None, _) => {
                    firsts.insert(name, spec.id);
                    Ok(None)
                }
            }
        };
        tasks.iter().map(|spec| holder_of(spec)).collect()
    }

    /// Whether all of those can be accepted that nobody keeps out.
    fn check(
        &self,
        tasks: &[Arc<TaskSpec>],
        holders: &[Option<TaskId>],
        limit: usize,
    ) -> Result<(), Error> {
        let (mut count, mut seen) = (0, HashSet::default());
        let new = tasks
            .iter()
            .zip(or_none(holders))
            .filter(|(_, holder)| holder.is_none());
        for (spec, _) in new {
            count += 1;
            if self.contains(spec.id) || (tasks.len() > 1 && !seen.insert(spec.id)) {
                return Err(Error::Exists);
            }
        }
        if self.index.order.live() + count > limit {
            return Err(Error::Full { limit });
        }
        Ok(())
    }

    fn take_in(&mut self, spec: Arc<TaskSpec>, now: Now) -> Accepted {
        let id = spec.id;
        let wait = match spec.start {
            Start::Now => Duration::ZERO,
            Start::After(delay) => delay,
            Start::At(time) => Duration::try_from(time - now.shown).unwrap_or_default(),
        };
        self.index.uniques.take(&spec, now.instant);
        let deadline = spec.deadline.map(|deadline| now.deadline(deadline));
        let is_late = deadline.is_some_and(|deadline| deadline.instant <= now.instant);
        let dispatch_now = wait.is_zero() && !is_late;
        let mut row = Row::new(spec, u32::from(dispatch_now));
        if deadline.is_some() {
            row.extra().deadline = deadline;
        }
        if dispatch_now {
            row.look_again(DISPATCH_DEADLINE, now);
        } else {
            row.live.state = State::Scheduled;
            row.live.waiting = true;
            set_due(&mut row, wait, now);
        }
        self.insert(row);
        Accepted { id, dispatch_now }
    }
}

/// The holders of each task's key; nobody where none was looked for.
fn or_none(holders: &[Option<TaskId>]) -> impl Iterator<Item = Option<TaskId>> {
    holders.iter().copied().chain(iter::repeat(None))
}

/// A task that was there before.
fn known(id: TaskId) -> Accepted {
    Accepted {
        id,
        dispatch_now: false,
    }
}

/// What a durable store cannot keep, no store takes: the two must not differ.
pub(super) fn has_nul(spec: &TaskSpec) -> bool {
    let pairs = spec.headers.iter().chain(&spec.tags);
    let key = spec.unique.as_ref().map(|unique| &unique.key);
    spec.payload.content_type.contains('\0')
        || key.is_some_and(|key| key.contains('\0'))
        || pairs
            .flat_map(|(k, v)| [k, v])
            .any(|text| text.contains('\0'))
}

fn refused(reason: &str) -> Error {
    Error::Refused {
        reason: reason.to_owned(),
    }
}
