//! Accepting requests.

use std::collections::HashSet;
use std::time::Duration;

use super::Now;
use super::tables::{Row, Tables, set_due};
use crate::state::{Live, State};
use crate::store::{Accepted, DISPATCH_DEADLINE, Error, NewTasks};
use crate::task::{Start, TaskSpec};

impl Tables {
    pub(super) fn accept(
        &mut self,
        request: NewTasks,
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
        if let Some(key) = &key {
            self.keys.expire(now.instant);
            if let Some(id) = self.keys.find(&first.namespace, key)? {
                return Ok(vec![Accepted {
                    id,
                    dispatch_now: false,
                }]);
            }
        }
        self.check(&tasks, limit)?;
        if let Some(key) = key {
            self.keys
                .insert(first.namespace.clone(), key, first.id, now.instant);
        }
        Ok(tasks
            .into_iter()
            .map(|spec| self.insert(spec, now))
            .collect())
    }

    /// Whether all of them can be accepted.
    fn check(&self, tasks: &[TaskSpec], limit: usize) -> Result<(), Error> {
        let mut seen = HashSet::new();
        if tasks
            .iter()
            .any(|spec| self.contains(spec.id) || (tasks.len() > 1 && !seen.insert(spec.id)))
        {
            return Err(Error::Exists);
        }
        if tasks.iter().any(has_nul) {
            return Err(refused(
                "headers, tags and content types must not contain NUL",
            ));
        }
        if self.live.len() + tasks.len() > limit {
            return Err(Error::Full { limit });
        }
        Ok(())
    }

    fn insert(&mut self, spec: TaskSpec, now: Now) -> Accepted {
        let id = spec.id;
        let wait = match spec.start {
            Start::Now => Duration::ZERO,
            Start::After(delay) => delay,
            Start::At(time) => Duration::try_from(time - now.shown).unwrap_or_default(),
        };
        let dispatch_now = wait.is_zero();
        let mut row = Row::new_live(spec, u32::from(dispatch_now));
        if dispatch_now {
            row.due = Some(now.instant + DISPATCH_DEADLINE);
        } else {
            row.live.state = State::Scheduled;
            row.live.waiting = true;
            set_due(&mut row, wait, now);
        }
        self.put(row);
        Accepted { id, dispatch_now }
    }
}

impl Row {
    /// The row of a queued task that had no outcome yet.
    pub(super) fn new_live(spec: TaskSpec, dispatch: u32) -> Box<Self> {
        let live = Live {
            state: State::Queued,
            attempt: 1,
            max_attempts: spec.max_attempts,
            dispatch,
            waiting: false,
            starts: 0,
            unserved: 0,
            backoff: spec.backoff.clone(),
        };
        Self::new(spec, live)
    }
}

/// What a durable store cannot keep, no store takes: the two must not differ.
pub(super) fn has_nul(spec: &TaskSpec) -> bool {
    let pairs = spec.headers.iter().chain(&spec.tags);
    spec.payload.content_type.contains('\0')
        || pairs
            .flat_map(|(k, v)| [k, v])
            .any(|text| text.contains('\0'))
}

fn refused(reason: &str) -> Error {
    Error::Refused {
        reason: reason.to_owned(),
    }
}
