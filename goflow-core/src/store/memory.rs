//! The store in memory: records of this process.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use time::OffsetDateTime;
use tokio::time::Instant;
use uuid::Uuid;

use super::{Accepted, Applied, AtOnce, Change, Claim, Due, Error, KvStore, NewTasks, TaskStore};
use crate::ambient;
use crate::broker::Identity;
use crate::id::{StoreId, TaskId};
use crate::name::{QueueName, TaskType};
use crate::outcome::Outcome;
use crate::record::{DeadGroup, Filter, Page, PageRequest, QueueCounts, TaskRecord};
use crate::state::Policy;
use crate::task::TaskSpec;

mod accept;
mod apply;
mod bind;
mod dead;
mod due;
mod index;
mod keys;
mod order;
mod row;
mod scan;
mod tables;
mod uniques;

use row::Row;
use tables::Tables;

/// What a [`MemoryStore`] keeps.
#[derive(Debug, Clone)]
pub struct Options {
    /// Most unfinished tasks; further ones are refused with [`Error::Full`]. Default: 1,000,000.
    pub max_live: usize,
    /// Most finished tasks: the one that finished first goes first. Default: 100,000. Zero keeps none.
    pub keep_finished: usize,
    /// How long a finished task is kept. Default: 1 h. Zero keeps none.
    pub keep_for: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_live: 1_000_000,
            keep_finished: 100_000,
            keep_for: Duration::from_secs(60 * 60),
        }
    }
}

/// A store whose records end with the process.
#[derive(Debug)]
pub struct MemoryStore {
    id: StoreId,
    options: Options,
    tables: Mutex<Tables>,
}

/// Rows that are changed while the lock is held. Who pushes meanwhile waits for it, and after some microseconds sleeps.
const CHANGED_AT_ONCE: usize = 4;

/// How often the lock is looked at before whoever wants it sleeps: for a task it is held for less than a microsecond, and to be
/// woken takes several.
const LOOKS: usize = 100;

/// The two clocks, read once a call: one decides, the other is shown.
#[derive(Debug, Clone, Copy)]
struct Now {
    instant: Instant,
    shown: OffsetDateTime,
}

impl Now {
    fn read() -> Self {
        Self {
            instant: Instant::now(),
            shown: ambient::now_utc(),
        }
    }
}

impl MemoryStore {
    /// An empty store with an id of its own.
    pub fn new(options: Options) -> Self {
        Self {
            id: StoreId(ambient::new_ordered_id()),
            options,
            tables: Mutex::default(),
        }
    }

    /// Nothing in here panics halfway through a change, so a poisoned lock guards sound tables.
    fn tables(&self) -> MutexGuard<'_, Tables> {
        for _ in 0..LOOKS {
            if let Ok(tables) = self.tables.try_lock() {
                return tables;
            }
            std::hint::spin_loop();
        }
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops finished tasks that are too old or too many; their rows are freed without the lock.
    fn evict(&self, now: Now) {
        let mut gone = Vec::new();
        loop {
            self.tables().evict(&self.options, now, &mut gone);
            if gone.len() < CHANGED_AT_ONCE {
                return;
            }
            gone.clear();
        }
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new(Options::default())
    }
}

#[async_trait]
impl KvStore<TaskId, TaskRecord> for MemoryStore {
    async fn get(&self, key: &TaskId) -> Result<Option<TaskRecord>, Error> {
        Ok(self.record(*key))
    }
}

impl AtOnce for MemoryStore {
    fn record(&self, id: TaskId) -> Option<TaskRecord> {
        self.tables().row(id).map(Row::record)
    }

    fn accept_one(
        &self,
        spec: &Arc<TaskSpec>,
        broker: Uuid,
        dispatch: &mut dyn FnMut() -> bool,
    ) -> Result<(), Error> {
        let row = Row::new(spec.clone(), 1);
        self.tables()
            .accept_one(row, broker, self.options.max_live)?;
        let doubt = Doubt(self, spec.id);
        if dispatch() {
            std::mem::forget(doubt);
        }
        Ok(())
    }
}

/// Has a task looked at whose dispatch did not come to its end, when dropped.
struct Doubt<'a>(&'a MemoryStore, TaskId);

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        self.0.tables().doubt_dispatch(self.1, Instant::now());
    }
}

#[async_trait]
impl TaskStore for MemoryStore {
    fn id(&self) -> StoreId {
        self.id
    }

    fn is_durable(&self) -> bool {
        false
    }

    fn at_once(&self) -> Option<&dyn AtOnce> {
        Some(self)
    }

    async fn bind(&self, broker: &Identity) -> Result<(), Error> {
        if let Some(bound) = broker.store.filter(|store| *store != self.id) {
            return Err(Error::Foreign {
                bound,
                this: self.id,
            });
        }
        self.tables().bind(broker, Now::read())
    }

    async fn ping(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn accept(&self, requests: &[NewTasks]) -> Vec<Result<Vec<Accepted>, Error>> {
        let (limit, now) = (self.options.max_live, Now::read());
        let mut tables = self.tables();
        requests
            .iter()
            .map(|request| tables.accept(request, limit, now))
            .collect()
    }

    async fn apply(&self, outcomes: &[&Outcome], policy: &Policy) -> Result<Vec<Applied>, Error> {
        let now = Now::read();
        let mut applied = Vec::with_capacity(outcomes.len());
        for some in outcomes.chunks(CHANGED_AT_ONCE) {
            let mut tables = self.tables();
            applied.extend(some.iter().map(|it| tables.apply(it, policy, now)));
        }
        // Not before: a task may have ended twice in one batch.
        self.evict(now);
        Ok(applied)
    }

    async fn claim_due(&self, limit: usize, claim: Claim<'_>) -> Result<Due, Error> {
        let now = Now::read();
        let due = self.tables().claim_due(limit, claim, now);
        if !due.expired.is_empty() {
            self.evict(now);
        }
        Ok(due)
    }

    async fn confirm_dispatched(
        &self,
        broker: Uuid,
        dispatches: &[(TaskId, u32)],
    ) -> Result<bool, Error> {
        let mut tables = self.tables();
        if tables.is_bound_to_other(broker) {
            return Ok(false);
        }
        for (id, dispatch) in dispatches {
            tables.confirm(*id, *dispatch);
        }
        Ok(true)
    }

    async fn wake_unserved(&self, queue: &QueueName, types: &[TaskType]) -> Result<u64, Error> {
        let now = Now::read();
        let mut tables = self.tables();
        Ok(types
            .iter()
            .map(|task_type| tables.wake_unserved(queue, task_type, now))
            .sum())
    }

    async fn cancel(&self, id: TaskId) -> Result<Change, Error> {
        let now = Now::read();
        let change = self.tables().cancel(id, now);
        self.evict(now);
        Ok(change)
    }

    async fn retry(&self, id: TaskId) -> Result<Change, Error> {
        self.tables().reopen(id, Now::read())
    }

    async fn list(&self, filter: &Filter, page: PageRequest) -> Result<Page, Error> {
        Ok(self.scan_page(filter, page).await)
    }

    async fn dead(&self, since: OffsetDateTime, limit: usize) -> Result<Vec<DeadGroup>, Error> {
        Ok(self.group_dead(since, limit).await)
    }

    async fn set_paused(&self, queue: &QueueName, paused: bool) -> Result<(), Error> {
        let queues = &mut self.tables().paused;
        if paused {
            queues.insert(queue.clone());
        } else {
            queues.remove(queue);
        }
        Ok(())
    }

    async fn paused(&self) -> Result<Vec<QueueName>, Error> {
        Ok(self.tables().paused.iter().cloned().collect())
    }

    async fn queue_counts(&self) -> Result<Vec<QueueCounts>, Error> {
        Ok(self.count_queues().await)
    }

    async fn maintain(&self) -> Result<(), Error> {
        let now = Now::read();
        let mut tables = self.tables();
        tables.keys.expire(now.instant);
        tables.index.uniques.expire(now.instant);
        drop(tables);
        self.evict(now);
        Ok(())
    }

    async fn close(&self) {
        self.tables().claim = None;
    }
}

#[cfg(test)]
mod tests;
