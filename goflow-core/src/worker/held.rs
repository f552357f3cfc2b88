//! The deliveries a worker holds, from receipt until their ack is confirmed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use foldhash::fast::FixedState;
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::broker::{Delivery, Lease, Tombstone};
use crate::ctx::Attempt;
use crate::id::TaskId;
use crate::signal::HeldTask;
use crate::task::TaskMessage;

/// The lease of a queue, as last read from the broker; shared by all deliveries from it.
#[derive(Debug, Clone)]
pub(super) struct QueueLease(Arc<AtomicU64>);

impl QueueLease {
    pub(super) fn new(lease: Duration) -> Self {
        let cell = Self(Arc::default());
        cell.set(lease);
        cell
    }

    pub(super) fn set(&self, lease: Duration) {
        let millis = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
        self.0.store(millis.max(1), Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
}

/// By key. In the same order each time, as everything in a simulation is.
type Entries = HashMap<u64, Arc<Entry>, FixedState>;

/// All deliveries held right now.
#[derive(Debug, Default)]
pub(super) struct Held {
    entries: Mutex<Entries>,
    next_key: AtomicU64,
}

#[derive(Debug)]
struct Entry {
    attempt: Arc<Attempt>,
    /// How many times it was delivered.
    count: u64,
    received: Instant,
    lease: Arc<dyn Lease>,
    queue_lease: QueueLease,
    /// When the lease was last known to start anew; none once it is known to be lost.
    leased_at: Mutex<Option<Instant>>,
}

impl Entry {
    fn message(&self) -> &Arc<TaskMessage> {
        self.attempt.message()
    }

    fn leased_at(&self) -> MutexGuard<'_, Option<Instant>> {
        self.leased_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn is_due(&self, now: Instant) -> bool {
        let third = self.queue_lease.get() / 3;
        self.leased_at()
            .is_some_and(|at| now.duration_since(at) >= third)
    }

    fn is_ours(&self, now: Instant) -> bool {
        let most = self.queue_lease.get() * 9 / 10;
        self.leased_at()
            .is_some_and(|at| now.duration_since(at) < most)
    }
}

/// A delivery, and its place among those that are held; dropping it gives it up.
#[derive(Debug)]
pub(super) struct Hold {
    held: Arc<Held>,
    key: u64,
    entry: Arc<Entry>,
}

impl Held {
    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a delivery in.
    pub(super) fn hold(
        self: &Arc<Self>,
        delivery: Delivery<TaskMessage>,
        queue_lease: &QueueLease,
    ) -> Hold {
        let key = self.next_key.fetch_add(1, Ordering::Relaxed);
        let entry = Arc::new(Entry {
            attempt: Attempt::new(delivery.message, delivery.leased_at),
            count: delivery.count,
            received: delivery.leased_at,
            lease: delivery.lease,
            queue_lease: queue_lease.clone(),
            leased_at: Mutex::new(Some(delivery.leased_at)),
        });
        self.entries().insert(key, entry.clone());
        Hold {
            held: self.clone(),
            key,
            entry,
        }
    }

    /// Leases of which a third has passed, the oldest first.
    pub(super) fn to_renew(&self, now: Instant) -> Vec<(u64, Arc<dyn Lease>)> {
        let entries = self.entries();
        let due = entries.iter().filter(|(_, entry)| entry.is_due(now));
        let mut due: Vec<_> = due.map(|(key, e)| (*key, e.lease.clone())).collect();
        drop(entries);
        due.sort_unstable_by_key(|(key, _)| *key);
        due
    }

    /// Notes that these leases started anew at `when`.
    pub(super) fn renewed(&self, keys: &[u64], when: Instant) {
        self.note(keys, Some(when));
    }

    /// Notes that these leases are no more.
    pub(super) fn lost(&self, keys: &[u64]) {
        self.note(keys, None);
    }

    fn note(&self, keys: &[u64], leased_at: Option<Instant>) {
        let entries = self.entries();
        for entry in keys.iter().filter_map(|key| entries.get(key)) {
            *entry.leased_at() = leased_at;
        }
    }

    /// The checkpoints that are to be saved, those of the latest deliveries last: a task may have been delivered twice.
    pub(super) fn take_checkpoints(&self) -> Vec<(TaskId, Bytes)> {
        let entries = self.entries();
        let fresh = |(key, e): (&u64, &Arc<Entry>)| {
            Some((*key, e.message().spec.id, e.attempt.take_checkpoint()?))
        };
        let mut fresh: Vec<_> = entries.iter().filter_map(fresh).collect();
        drop(entries);
        fresh.sort_unstable_by_key(|(key, ..)| *key);
        let fresh = fresh.into_iter();
        fresh.map(|(_, id, checkpoint)| (id, checkpoint)).collect()
    }

    /// Tells whoever runs one of these that it was cancelled.
    pub(super) fn cancel(&self, tombstone: Tombstone) {
        let entries = self.entries();
        let meant = |e: &&Arc<Entry>| {
            e.message().spec.id == tombstone.task && e.message().dispatch <= tombstone.dispatch
        };
        entries
            .values()
            .filter(meant)
            .for_each(|entry| entry.attempt.ending().cancel());
    }

    /// The deliveries as heartbeats show them, oldest first.
    pub(super) fn list(&self) -> Vec<HeldTask> {
        let held = |e: &Arc<Entry>| HeldTask {
            id: e.message().spec.id,
            queue: e.message().spec.queue.clone(),
            attempt: e.message().attempt,
            started_at: e.attempt.started_at(),
            progress: e.attempt.progress(),
        };
        let entries = self.entries();
        let mut list: Vec<_> = entries.iter().map(|(key, e)| (*key, held(e))).collect();
        drop(entries);
        list.sort_unstable_by_key(|(key, task)| (task.id, *key));
        list.into_iter().map(|(_, task)| task).collect()
    }

    /// Whether a handler that still runs was called after `from` and before `to`.
    pub(super) fn any_started_between(&self, from: OffsetDateTime, to: OffsetDateTime) -> bool {
        let started_at = |entry: &Arc<Entry>| entry.attempt.started_at();
        let between = |entry| started_at(entry).is_some_and(|at| from < at && at <= to);
        self.entries().values().any(between)
    }

    pub(super) fn len(&self) -> usize {
        self.entries().len()
    }
}

impl Hold {
    pub(super) fn attempt(&self) -> &Arc<Attempt> {
        &self.entry.attempt
    }

    pub(super) fn message(&self) -> &Arc<TaskMessage> {
        self.entry.message()
    }

    pub(super) fn lease(&self) -> &Arc<dyn Lease> {
        &self.entry.lease
    }

    /// How many times it was delivered.
    pub(super) fn count(&self) -> u64 {
        self.entry.count
    }

    /// When its first lease began.
    pub(super) fn received(&self) -> Instant {
        self.entry.received
    }

    /// Whether the lease has surely not expired: only then may the handler be called, or the delivery be given back.
    /// After the expiry the message is another worker's, who would run it too, or whom a nack would hit.
    pub(super) fn is_ours(&self, now: Instant) -> bool {
        self.entry.is_ours(now)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.held.entries().remove(&self.key);
    }
}
