//! Those who wait for a task's end in this process.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::HashMap;
use tokio::sync::Notify;

use crate::id::TaskId;

/// Wakes those who wait for a task.
#[derive(Debug, Default)]
pub(super) struct Waiters(Mutex<HashMap<TaskId, Arc<Notify>>>);

/// A place among those who wait; dropping it gives it up.
#[derive(Debug)]
pub(super) struct Waiter<'a> {
    waiters: &'a Waiters,
    id: TaskId,
    woken: Arc<Notify>,
}

impl Waiters {
    fn map(&self) -> MutexGuard<'_, HashMap<TaskId, Arc<Notify>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for `id` from now on: who then looks into the store misses nothing.
    pub(super) fn register(&self, id: TaskId) -> Waiter<'_> {
        let woken = self.map().entry(id).or_default().clone();
        Waiter {
            waiters: self,
            id,
            woken,
        }
    }

    /// Wakes whoever waits for one of these.
    pub(super) fn wake(&self, ids: &[TaskId]) {
        let map = self.map();
        if map.is_empty() {
            return;
        }
        ids.iter()
            .filter_map(|id| map.get(id))
            .for_each(|woken| woken.notify_waiters());
    }
}

impl Waiter<'_> {
    /// Ends when the task is said to have finished after this call.
    pub(super) fn woken(&self) -> tokio::sync::futures::Notified<'_> {
        self.woken.notified()
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut map = self.waiters.map();
        // The map's and this one's: nobody else waits for it.
        if Arc::strong_count(&self.woken) == 2 {
            map.remove(&self.id);
        }
    }
}
