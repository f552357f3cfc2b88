//! The deliveries a worker holds, from receipt until their ack is confirmed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use time::OffsetDateTime;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::broker::{Lease, Tombstone};
use crate::ctx::Reports;
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

/// All deliveries held right now.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// By key, so that the oldest come first.
    entries: Mutex<BTreeMap<u64, Arc<Entry>>>,
    next_key: AtomicU64,
}

#[derive(Debug)]
struct Entry {
    message: Arc<TaskMessage>,
    /// Once the handler was called: when, and what it says.
    run: OnceLock<(OffsetDateTime, Arc<Reports>)>,
    ending: CancellationToken,
    lease: Arc<dyn Lease>,
    queue_lease: QueueLease,
    /// When the lease was last known to start anew; none once it is known to be lost.
    leased_at: Mutex<Option<Instant>>,
}

impl Entry {
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

    fn started_at(&self) -> Option<OffsetDateTime> {
        self.run.get().map(|(started_at, _)| *started_at)
    }

    fn reports(&self) -> Option<&Reports> {
        self.run.get().map(|(_, reports)| reports.as_ref())
    }
}

/// A place among the held deliveries; dropping it gives it up.
#[derive(Debug)]
pub(super) struct Hold {
    held: Arc<Held>,
    key: u64,
    entry: Arc<Entry>,
}

impl Held {
    fn entries(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Entry>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a delivery in, whose lease began at `leased_at`.
    pub(super) fn hold(
        self: &Arc<Self>,
        message: &Arc<TaskMessage>,
        lease: &Arc<dyn Lease>,
        leased_at: Instant,
        queue_lease: &QueueLease,
    ) -> Hold {
        let key = self.next_key.fetch_add(1, Ordering::Relaxed);
        let entry = Arc::new(Entry {
            message: message.clone(),
            run: OnceLock::new(),
            ending: CancellationToken::new(),
            lease: lease.clone(),
            queue_lease: queue_lease.clone(),
            leased_at: Mutex::new(Some(leased_at)),
        });
        self.entries().insert(key, entry.clone());
        Hold {
            held: self.clone(),
            key,
            entry,
        }
    }

    /// Leases of which a third has passed.
    pub(super) fn to_renew(&self, now: Instant) -> Vec<(u64, Arc<dyn Lease>)> {
        self.entries()
            .iter()
            .filter(|(_, entry)| entry.is_due(now))
            .map(|(key, e)| (*key, e.lease.clone()))
            .collect()
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

    /// The checkpoints that are to be saved.
    pub(super) fn take_checkpoints(&self) -> Vec<(TaskId, Bytes)> {
        let entries = self.entries();
        let fresh = |e: &Arc<Entry>| Some((e.message.spec.id, e.reports()?.take_checkpoint()?));
        entries.values().filter_map(fresh).collect()
    }

    /// Tells whoever runs one of these that it was cancelled.
    pub(super) fn cancel(&self, tombstone: Tombstone) {
        let entries = self.entries();
        let meant = |e: &&Arc<Entry>| {
            e.message.spec.id == tombstone.task && e.message.dispatch <= tombstone.dispatch
        };
        entries
            .values()
            .filter(meant)
            .for_each(|entry| entry.ending.cancel());
    }

    /// The deliveries as heartbeats show them, oldest first.
    pub(super) fn list(&self) -> Vec<HeldTask> {
        let held = |e: &Arc<Entry>| HeldTask {
            id: e.message.spec.id,
            queue: e.message.spec.queue.clone(),
            attempt: e.message.attempt,
            started_at: e.started_at(),
            progress: e.reports().and_then(Reports::progress),
        };
        let mut list: Vec<_> = self.entries().values().map(held).collect();
        list.sort_by_key(|task| task.id);
        list
    }

    /// Whether a handler that still runs was called after `from` and before `to`.
    pub(super) fn any_started_between(&self, from: OffsetDateTime, to: OffsetDateTime) -> bool {
        let between =
            |entry: &Arc<Entry>| entry.started_at().is_some_and(|at| from < at && at <= to);
        self.entries().values().any(between)
    }

    pub(super) fn len(&self) -> usize {
        self.entries().len()
    }
}

impl Hold {
    /// Notes that the handler is called.
    pub(super) fn started(&self, at: OffsetDateTime, reports: Arc<Reports>) {
        // A hold is for one run.
        drop(self.entry.run.set((at, reports)));
    }

    /// Fires when the task was cancelled, and when whoever runs it wants the handler to end for any other reason.
    pub(super) fn ending(&self) -> &CancellationToken {
        &self.entry.ending
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
