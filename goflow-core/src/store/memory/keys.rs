//! Idempotency keys, for as long as they are remembered.

use std::collections::{HashMap, VecDeque};

use tokio::time::Instant;

use crate::id::TaskId;
use crate::name::Namespace;
use crate::store::{Error, IDEMPOTENCY_WINDOW, IdempotencyKey};

/// Most keys remembered: the oldest goes first.
const MAX_KEYS: usize = 100_000;

type Name = (Namespace, String);

#[derive(Debug, Default)]
pub(super) struct Keys {
    known: HashMap<Name, (TaskId, u64)>,
    by_age: VecDeque<(Instant, Name)>,
}

impl Keys {
    /// The task the key was first used for.
    pub(super) fn find(
        &self,
        namespace: &Namespace,
        key: &IdempotencyKey,
    ) -> Result<Option<TaskId>, Error> {
        match self.known.get(&(namespace.clone(), key.key.clone())) {
            Some((_, hash)) if *hash != key.body_hash => Err(Error::KeyReused),
            Some((id, _)) => Ok(Some(*id)),
            None => Ok(None),
        }
    }

    /// Remembers a key that is not known.
    pub(super) fn insert(
        &mut self,
        namespace: Namespace,
        key: IdempotencyKey,
        id: TaskId,
        now: Instant,
    ) {
        if self.by_age.len() >= MAX_KEYS
            && let Some((_, oldest)) = self.by_age.pop_front()
        {
            self.known.remove(&oldest);
        }
        let name = (namespace, key.key);
        self.by_age.push_back((now, name.clone()));
        self.known.insert(name, (id, key.body_hash));
    }

    /// Forgets what is too old.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some((since, _)) = self.by_age.front()
            && now.duration_since(*since) >= IDEMPOTENCY_WINDOW
            && let Some((_, name)) = self.by_age.pop_front()
        {
            self.known.remove(&name);
        }
    }
}
