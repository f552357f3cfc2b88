//! The pool: one loop a queue takes tasks, one loop a slot runs them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info_span, warn};

use super::held::{Held, Hold, QueueLease};
use super::report::{self, Reporter};
use super::run::{self, End};
use crate::broker::{Connection, DEFAULT_LEASE, Delivery, Error, Tombstone};
use crate::handler::Handlers;
use crate::id::{TaskId, WorkerId};
use crate::name::QueueName;
use crate::outcome::{Outcome, Verdict};
use crate::task::TaskMessage;

/// How long one request for tasks waits at the broker: it bounds how long a drain takes to begin.
const DEQUEUE_WAIT: Duration = Duration::from_secs(1);

/// The pause after a request for tasks that failed.
const DEQUEUE_PAUSE: Duration = Duration::from_millis(500);

/// How much work a worker takes ahead: what its slots are likely to need for this long.
const PREFETCH_WORTH: Duration = Duration::from_millis(50);

/// Most tasks taken ahead.
const MAX_PREFETCH: usize = 1_000;

/// A task taken ahead that found no slot for this long is given back: another worker may be free.
const PREFETCH_PATIENCE: Duration = Duration::from_secs(1);

/// What all loops of a worker share.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) worker: WorkerId,
    pub(super) connection: Connection,
    pub(super) handlers: RwLock<Handlers>,
    pub(super) leases: HashMap<QueueName, QueueLease>,
    pub(super) slots: usize,
    pub(super) held: Arc<Held>,
    tombstones: Mutex<HashMap<TaskId, u32>>,
    buffer: (flume::Sender<Job>, flume::Receiver<Job>),
    idle: AtomicUsize,
    room: Notify,
    pace: Pace,
    /// No more tasks are taken.
    pub(super) draining: CancellationToken,
    /// What still runs is given back.
    pub(super) leaving: CancellationToken,
}

#[derive(Debug)]
struct Job {
    delivery: Delivery<TaskMessage>,
    hold: Hold,
    received: Instant,
}

impl Pool {
    pub(super) fn new(
        worker: WorkerId,
        connection: Connection,
        handlers: Handlers,
        queues: &[QueueName],
        slots: usize,
    ) -> Self {
        Self {
            worker,
            connection,
            handlers: RwLock::new(handlers),
            leases: queues
                .iter()
                .map(|queue| (queue.clone(), QueueLease::new(DEFAULT_LEASE)))
                .collect(),
            slots,
            held: Arc::default(),
            tombstones: Mutex::default(),
            buffer: flume::unbounded(),
            idle: AtomicUsize::new(slots),
            room: Notify::new(),
            pace: Pace::default(),
            draining: CancellationToken::new(),
            leaving: CancellationToken::new(),
        }
    }

    /// Notes that these messages are not to be run, and tells whoever is at one.
    pub(super) fn entomb(&self, tombstone: Tombstone) {
        self.tombstones
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(tombstone.task, tombstone.dispatch);
        self.held.cancel(tombstone);
    }

    fn is_entombed(&self, message: &TaskMessage) -> bool {
        let tombstones = self
            .tombstones
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        tombstones
            .get(&message.spec.id)
            .is_some_and(|dispatch| message.dispatch <= *dispatch)
    }

    /// Reads the leases of the queues anew.
    pub(super) async fn refresh_leases(&self) {
        for (queue, cell) in &self.leases {
            match self.connection.tasks.lease(queue.as_str()).await {
                Ok(lease) => cell.set(lease),
                Err(error) => debug!(%error, %queue, "cannot read the lease"),
            }
        }
    }

    /// How many more deliveries this worker can use now.
    fn wanted(&self) -> usize {
        let most = self.idle.load(Ordering::Relaxed) + self.pace.prefetch(self.slots);
        let have = self.buffer.1.len();
        // In lumps: a request for one at a time would cost a round trip a task.
        if have > most / 2 { 0 } else { most - have }
    }

    /// Takes tasks from a queue until the pool drains.
    pub(super) async fn fetch(&self, queue: &QueueName, reporter: &Reporter) {
        let lease = &self.leases[queue];
        let mut failing = false;
        while !self.draining.is_cancelled() {
            let room = self.room.notified();
            let wanted = self.wanted();
            if wanted == 0 {
                tokio::select! { () = room => {}, () = self.draining.cancelled() => {} }
                continue;
            }
            let asked = Instant::now();
            let tasks = &self.connection.tasks;
            let dequeue = tasks.dequeue(queue.as_str(), wanted, DEQUEUE_WAIT);
            let dequeued = if tasks.drops_cleanly() {
                let Some(dequeued) = self.draining.run_until_cancelled(dequeue).await else {
                    return;
                };
                dequeued
            } else {
                // Not raced against the drain: what is under way arrives within the wait and is given back.
                dequeue.await
            };
            match dequeued {
                Ok(deliveries) => {
                    failing = false;
                    for delivery in deliveries {
                        let hold = self.held.hold(&delivery, lease, asked);
                        self.receive(
                            Job {
                                delivery,
                                hold,
                                received: Instant::now(),
                            },
                            reporter,
                        )
                        .await;
                    }
                }
                Err(Error::Closed) => return,
                Err(error) => {
                    if !failing {
                        warn!(%error, %queue, "cannot take tasks, trying again");
                    }
                    failing = true;
                    self.draining
                        .run_until_cancelled(tokio::time::sleep(DEQUEUE_PAUSE))
                        .await;
                }
            }
        }
    }

    async fn receive(&self, job: Job, reporter: &Reporter) {
        let spec = &job.delivery.message.spec;
        if self.is_entombed(&job.delivery.message) {
            report::acknowledge(job.delivery.lease.as_ref()).await;
        } else if self
            .handlers
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&spec.task_type)
            .is_none()
        {
            debug!(task.id = %spec.id, task.r#type = %spec.task_type, queue = %spec.queue, "no handler, given back");
            let outcome = self.outcome(&job.delivery.message, Verdict::Unserved, None);
            reporter.finish(job.delivery, job.hold, outcome).await;
        } else {
            // The buffer is unbounded in type only: no more is fetched than was wanted.
            drop(self.buffer.0.send(job));
        }
    }

    /// Runs tasks, one at a time, until the pool drains.
    pub(super) async fn slot(&self, reporter: &Reporter) {
        loop {
            let job = tokio::select! {
                biased;
                () = self.draining.cancelled() => return,
                Ok(job) = self.buffer.1.recv_async() => job,
            };
            self.idle.fetch_sub(1, Ordering::Relaxed);
            self.room.notify_waiters();
            let spec = &job.delivery.message.spec;
            let span = info_span!(
                "attempt",
                task.id = %spec.id, task.r#type = %spec.task_type, queue = %spec.queue,
                attempt = job.delivery.message.attempt, worker = %self.worker,
            );
            self.run(job, reporter).instrument(span).await;
            self.idle.fetch_add(1, Ordering::Relaxed);
            self.room.notify_waiters();
        }
    }

    async fn run(&self, job: Job, reporter: &Reporter) {
        let Job {
            delivery,
            hold,
            received,
        } = job;
        if self.is_entombed(&delivery.message) {
            return report::acknowledge(delivery.lease.as_ref()).await;
        }
        let task_type = &delivery.message.spec.task_type;
        let handler = self
            .handlers
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(task_type);
        let Some(handler) = handler else {
            let outcome = self.outcome(&delivery.message, Verdict::Unserved, None);
            return reporter.finish(delivery, hold, outcome).await;
        };
        if delivery.count > 1 {
            let started = self.outcome(&delivery.message, Verdict::Started, None);
            let confirmed = reporter.start(&delivery.message.route, started);
            // Unconfirmed, it comes again: no crash may go uncounted.
            if self.leaving.run_until_cancelled(confirmed).await != Some(true) {
                return Self::return_to_queue(Job {
                    delivery,
                    hold,
                    received,
                })
                .await;
            }
        }
        let started = Instant::now();
        let started_at = OffsetDateTime::now_utc();
        hold.started(started_at);
        let message = Arc::new(delivery.message.clone());
        match run::attempt(handler, message, &hold, &self.leaving).await {
            End::Verdict(verdict) => {
                self.pace.note(started.elapsed());
                debug!(verdict = verdict.name(), "attempt ended");
                let outcome = self.outcome(&delivery.message, verdict, Some(started_at));
                reporter.finish(delivery, hold, outcome).await;
            }
            End::Cancelled => {
                debug!("cancelled");
                report::acknowledge(delivery.lease.as_ref()).await;
            }
        }
    }

    fn outcome(
        &self,
        message: &TaskMessage,
        verdict: Verdict,
        started_at: Option<OffsetDateTime>,
    ) -> Outcome {
        let spec = (!message.recorded).then(|| {
            let mut spec = message.spec.clone();
            if matches!(verdict, Verdict::Succeeded(_)) {
                // Both together may not fit one message, and no one runs it again.
                spec.payload.bytes.clear();
            }
            Box::new(spec)
        });
        Outcome {
            task: message.spec.id,
            attempt: message.attempt,
            dispatch: message.dispatch,
            verdict,
            worker: self.worker,
            started_at,
            finished_at: OffsetDateTime::now_utc(),
            spec,
        }
    }

    /// Gives back, now and then, what was taken ahead and found no slot; at a drain all of it.
    pub(super) async fn give_back(&self) {
        let mut ticks = tokio::time::interval(PREFETCH_PATIENCE / 2);
        while self
            .draining
            .run_until_cancelled(ticks.tick())
            .await
            .is_some()
        {
            let stuck = self.idle.load(Ordering::Relaxed) == 0;
            while stuck && let Ok(job) = self.buffer.1.try_recv() {
                if job.received.elapsed() < PREFETCH_PATIENCE {
                    drop(self.buffer.0.send(job));
                    break;
                }
                Self::return_to_queue(job).await;
            }
        }
    }

    /// Gives back everything that has not started.
    pub(super) async fn give_back_rest(&self) {
        while let Ok(job) = self.buffer.1.try_recv() {
            Self::return_to_queue(job).await;
        }
    }

    async fn return_to_queue(job: Job) {
        if job.hold.is_ours()
            && let Err(error) = job.delivery.lease.nack(Duration::ZERO).await
        {
            debug!(%error, "cannot give a task back: it returns when its lease expires");
        }
    }
}

/// How fast tasks run here, as a moving average: it decides how many to take ahead.
#[derive(Debug, Default)]
struct Pace {
    micros: AtomicU64,
}

impl Pace {
    fn note(&self, took: Duration) {
        let took = u64::try_from(took.as_micros())
            .unwrap_or(u64::MAX)
            .clamp(1, 3_600_000_000);
        let before = self.micros.load(Ordering::Relaxed);
        // Up at once, down slowly: one long task is reason enough to take less.
        let next = if took > before {
            took
        } else {
            (before * 15 + took) / 16
        };
        self.micros.store(next.max(1), Ordering::Relaxed);
    }

    fn prefetch(&self, slots: usize) -> usize {
        match u128::from(self.micros.load(Ordering::Relaxed)) {
            0 => 0,
            micros => usize::try_from(PREFETCH_WORTH.as_micros() / micros)
                .unwrap_or(0)
                .saturating_mul(slots)
                .min(MAX_PREFETCH),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_tasks_are_taken_ahead_and_long_ones_are_not() {
        let pace = Pace::default();
        assert_eq!(pace.prefetch(5), 0, "nothing is known yet");
        pace.note(Duration::from_millis(1));
        assert_eq!(pace.prefetch(5), 250);
        pace.note(Duration::from_secs(1));
        assert_eq!(pace.prefetch(5), 0);
    }
}
