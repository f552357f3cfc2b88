//! Those who wait for a task's end in this process.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foldhash::HashMap;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::id::TaskId;

/// How long it is remembered that a task has ended.
const REMEMBERED: Duration = Duration::from_millis(100);

/// Wakes those who wait for a task.
#[derive(Debug, Default)]
pub(super) struct Waiters(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    waiting: HashMap<TaskId, Arc<Notify>>,
    /// What ended lately, as it was told.
    ended: VecDeque<(Instant, Vec<TaskId>)>,
}

/// A place among those who wait; dropping it gives it up.
#[derive(Debug)]
pub(super) struct Waiter<'a> {
    waiters: &'a Waiters,
    id: TaskId,
    woken: Arc<Notify>,
}

impl Waiters {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for `id` from now on: who then looks into the store misses nothing.
    pub(super) fn register(&self, id: TaskId) -> Waiter<'_> {
        let woken = self.inner().waiting.entry(id).or_default().clone();
        Waiter {
            waiters: self,
            id,
            woken,
        }
    }

    /// Wakes whoever waits for one of these.
    pub(super) fn wake(&self, ids: &[TaskId]) {
        let waiting = &self.inner().waiting;
        if waiting.is_empty() {
            return;
        }
        ids.iter()
            .filter_map(|id| waiting.get(id))
            .for_each(|woken| woken.notify_waiters());
    }

    /// Remembers for a while that these have ended: before those who wait are [woken](Self::wake).
    pub(super) fn remember(&self, ids: &[TaskId]) {
        let now = Instant::now();
        let ended = &mut self.inner().ended;
        while let Some((at, _)) = ended.front()
            && now.duration_since(*at) > REMEMBERED
        {
            ended.pop_front();
        }
        ended.push_back((now, ids.to_vec()));
    }
}

impl Waiter<'_> {
    /// Ends when the task is said to have finished after this call.
    pub(super) fn woken(&self) -> tokio::sync::futures::Notified<'_> {
        self.woken.notified()
    }

    /// Whether the task is remembered to have ended.
    pub(super) fn has_ended(&self) -> bool {
        let inner = self.waiters.inner();
        inner.ended.iter().any(|(_, ids)| ids.contains(&self.id))
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let waiting = &mut self.waiters.inner().waiting;
        // The map's and this one's: nobody else waits for it.
        if Arc::strong_count(&self.woken) == 2 {
            waiting.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_has_ended_is_remembered_for_a_while() {
        let waiters = Waiters::default();
        let (ended, other) = (TaskId::new(), TaskId::new());
        waiters.remember(&[ended]);
        tokio::time::advance(REMEMBERED).await;
        waiters.remember(&[]);
        assert!(waiters.register(ended).has_ended());
        assert!(!waiters.register(other).has_ended());
        tokio::time::advance(Duration::from_millis(1)).await;
        waiters.remember(&[]);
        assert!(!waiters.register(ended).has_ended());
    }

    /// Whoever looks what is remembered after it has begun to wait misses nothing.
    #[tokio::test]
    async fn an_end_is_remembered_or_told() {
        let waiters = Waiters::default();
        let id = TaskId::new();
        let waiter = waiters.register(id);
        let woken = waiter.woken();
        assert!(!waiter.has_ended());
        waiters.remember(&[id]);
        waiters.wake(&[id]);
        woken.await;
        assert!(waiter.has_ended());
    }
}
