//! The deliveries a worker holds, from receipt until their ack is confirmed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
    entries: Mutex<BTreeMap<u64, Entry>>,
    next_key: AtomicU64,
}

#[derive(Debug)]
struct Entry {
    message: Arc<TaskMessage>,
    started_at: Option<OffsetDateTime>,
    reports: Option<Arc<Reports>>,
    cancelled: CancellationToken,
    lease: Arc<dyn Lease>,
    queue_lease: QueueLease,
    /// When the lease was last known to start anew; none once it is known to be lost.
    leased_at: Option<Instant>,
}

impl Entry {
    fn is_due(&self, now: Instant) -> bool {
        let third = self.queue_lease.get() / 3;
        self.leased_at
            .is_some_and(|at| now.duration_since(at) >= third)
    }

    fn is_ours(&self, now: Instant) -> bool {
        let most = self.queue_lease.get() * 9 / 10;
        self.leased_at
            .is_some_and(|at| now.duration_since(at) < most)
    }
}

/// A place among the held deliveries; dropping it gives it up.
#[derive(Debug)]
pub(super) struct Hold {
    held: Arc<Held>,
    key: u64,
    /// Fires when the task was cancelled.
    pub(super) cancelled: CancellationToken,
}

impl Held {
    fn entries(&self) -> MutexGuard<'_, BTreeMap<u64, Entry>> {
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
        let cancelled = CancellationToken::new();
        let entry = Entry {
            message: message.clone(),
            started_at: None,
            reports: None,
            cancelled: cancelled.clone(),
            lease: lease.clone(),
            queue_lease: queue_lease.clone(),
            leased_at: Some(leased_at),
        };
        self.entries().insert(key, entry);
        Hold {
            held: self.clone(),
            key,
            cancelled,
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
        let mut entries = self.entries();
        for key in keys {
            if let Some(entry) = entries.get_mut(key) {
                entry.leased_at = Some(when);
            }
        }
    }

    /// Notes that these leases are no more.
    pub(super) fn lost(&self, keys: &[u64]) {
        let mut entries = self.entries();
        for key in keys {
            if let Some(entry) = entries.get_mut(key) {
                entry.leased_at = None;
            }
        }
    }

    /// The checkpoints that are to be saved.
    pub(super) fn take_checkpoints(&self) -> Vec<(TaskId, Bytes)> {
        let entries = self.entries();
        let fresh = |e: &Entry| Some((e.message.spec.id, e.reports.as_ref()?.take_checkpoint()?));
        entries.values().filter_map(fresh).collect()
    }

    /// Tells whoever runs one of these that it was cancelled.
    pub(super) fn cancel(&self, tombstone: Tombstone) {
        let entries = self.entries();
        let meant = |e: &&Entry| {
            e.message.spec.id == tombstone.task && e.message.dispatch <= tombstone.dispatch
        };
        entries
            .values()
            .filter(meant)
            .for_each(|entry| entry.cancelled.cancel());
    }

    /// The deliveries as heartbeats show them, oldest first.
    pub(super) fn list(&self) -> Vec<HeldTask> {
        let held = |e: &Entry| HeldTask {
            id: e.message.spec.id,
            queue: e.message.spec.queue.clone(),
            attempt: e.message.attempt,
            started_at: e.started_at,
            progress: e.reports.as_ref().and_then(|reports| reports.progress()),
        };
        let mut list: Vec<_> = self.entries().values().map(held).collect();
        list.sort_by_key(|task| task.id);
        list
    }

    /// Whether a handler that still runs was called after `from` and before `to`.
    pub(super) fn any_started_between(&self, from: OffsetDateTime, to: OffsetDateTime) -> bool {
        let between = |entry: &Entry| entry.started_at.is_some_and(|at| from < at && at <= to);
        self.entries().values().any(between)
    }

    pub(super) fn len(&self) -> usize {
        self.entries().len()
    }
}

impl Hold {
    /// Notes that the handler was called.
    pub(super) fn started(&self, at: OffsetDateTime, reports: Arc<Reports>) {
        if let Some(entry) = self.held.entries().get_mut(&self.key) {
            entry.started_at = Some(at);
            entry.reports = Some(reports);
        }
    }

    /// Whether the lease has surely not expired: only then may the handler be called, or the delivery be given back.
    /// After the expiry the message is another worker's, who would run it too, or whom a nack would hit.
    pub(super) fn is_ours(&self) -> bool {
        let (entries, now) = (self.held.entries(), Instant::now());
        entries
            .get(&self.key)
            .is_some_and(|entry| entry.is_ours(now))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.held.entries().remove(&self.key);
    }
}
