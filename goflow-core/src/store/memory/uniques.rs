//! Unique keys, and the tasks that have them.

use std::collections::HashMap;

use tokio::time::Instant;

use crate::id::TaskId;
use crate::name::Namespace;
use crate::store::Error;
use crate::task::TaskSpec;

type Name = (Namespace, String);

#[derive(Debug, Default)]
pub(super) struct Uniques {
    taken: HashMap<Name, Holder>,
}

#[derive(Debug)]
struct Holder {
    task: TaskId,
    /// None: for as long as the task is unfinished.
    until: Option<Instant>,
}

impl Uniques {
    /// The task that has the key which `spec` asks for.
    pub(super) fn holder(&self, spec: &TaskSpec, now: Instant) -> Option<TaskId> {
        let holder = self.taken.get(&name(spec)?)?;
        let is_taken = holder.until.is_none_or(|until| until > now);
        is_taken.then_some(holder.task)
    }

    /// Gives the task the key it asks for.
    pub(super) fn take(&mut self, spec: &TaskSpec, now: Instant) {
        let (Some(name), Some(unique)) = (name(spec), &spec.unique) else {
            return;
        };
        let until = unique.period.map(|period| now + period);
        let task = spec.id;
        self.taken.insert(name, Holder { task, until });
    }

    /// The same for a task that is reopened; for a period it had its key from its push on.
    pub(super) fn retake(&mut self, spec: &TaskSpec, now: Instant) -> Result<(), Error> {
        if spec
            .unique
            .as_ref()
            .is_none_or(|unique| unique.period.is_some())
        {
            return Ok(());
        }
        if let Some(other) = self.holder(spec, now) {
            return Err(Error::Duplicate(other));
        }
        self.take(spec, now);
        Ok(())
    }

    /// The task has ended: a key that it had for no longer is free.
    pub(super) fn free(&mut self, spec: &TaskSpec) {
        if let Some(name) = name(spec)
            && let Some(holder) = self.taken.get(&name)
            && holder.task == spec.id
            && holder.until.is_none()
        {
            self.taken.remove(&name);
        }
    }

    /// Forgets what is too old.
    pub(super) fn expire(&mut self, now: Instant) {
        self.taken
            .retain(|_, holder| holder.until.is_none_or(|until| until > now));
    }
}

/// The key of a task within its namespace.
pub(super) fn name(spec: &TaskSpec) -> Option<Name> {
    let unique = spec.unique.as_ref()?;
    Some((spec.namespace.clone(), unique.key.clone()))
}
