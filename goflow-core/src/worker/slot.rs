//! A slot: runs tasks, one at a time.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use time::OffsetDateTime;
use tokio::time::Instant;
use tracing::{Instrument, debug, info_span, warn};

use super::pool::{Job, Pool};
use super::report::{self, Reporter};
use super::run::{self, End, Given};
use crate::ambient;
use crate::broker::Delivery;
use crate::ctx::Reports;
use crate::faults::{self, Bug, Point};
use crate::id::TaskId;
use crate::outcome::{Outcome, Verdict};
use crate::task::TaskMessage;

/// How often checkpoints are saved while a handler runs.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);

impl Pool {
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
            // To the microsecond, which is what stores keep: the time tells this start from others.
            let now = ambient::now_utc();
            let at = now
                .replace_nanosecond(now.microsecond() * 1_000)
                .unwrap_or(now);
            let started = self.outcome(&delivery.message, Verdict::Started, Some(at));
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
        let checkpoint = self.last_checkpoint(&delivery).await;
        if !hold.is_ours() {
            debug!("its lease was lost before it could start: it is delivered again");
            return;
        }
        let started = Instant::now();
        let started_at = ambient::now_utc();
        let reports = Reports::new();
        hold.started(started_at, reports.clone());
        let message = Arc::new(delivery.message.clone());
        let given = Given {
            message,
            checkpoint,
            reports: reports.clone(),
        };
        if faults::planted(Bug::AckBeforeCommit) {
            report::acknowledge(delivery.lease.as_ref()).await;
        }
        match run::attempt(handler, given, &hold, &self.leaving).await {
            End::Verdict(verdict) => {
                faults::point(Point::AfterHandler);
                self.pace.note(started.elapsed());
                debug!(verdict = verdict.name(), "attempt ended");
                if !matches!(verdict, Verdict::Succeeded(_))
                    && let Some(checkpoint) = reports.take_checkpoint()
                {
                    self.save_checkpoint(delivery.message.spec.id, checkpoint)
                        .await;
                }
                let outcome = self.outcome(&delivery.message, verdict, Some(started_at));
                reporter.finish(delivery, hold, outcome).await;
            }
            End::Cancelled => {
                debug!("cancelled");
                report::acknowledge(delivery.lease.as_ref()).await;
            }
        }
    }

    /// Where an earlier run of the task said that it can go on. A first run has none.
    async fn last_checkpoint(&self, delivery: &Delivery<TaskMessage>) -> Option<Bytes> {
        let message = &delivery.message;
        if delivery.count == 1 && message.dispatch == 1 {
            return None;
        }
        match self.connection.control.checkpoint(message.spec.id).await {
            Ok(checkpoint) => checkpoint,
            Err(error) => {
                warn!(task.id = %message.spec.id, %error, "starts without its checkpoint");
                None
            }
        }
    }

    async fn save_checkpoint(&self, task: TaskId, checkpoint: Bytes) {
        if let Err(error) = self
            .connection
            .control
            .save_checkpoint(task, checkpoint)
            .await
        {
            warn!(task.id = %task, %error, "cannot save a checkpoint");
        }
    }

    /// Saves checkpoints now and then, until it is dropped.
    pub(super) async fn save_checkpoints(&self) {
        let mut ticks = tokio::time::interval(CHECKPOINT_EVERY);
        loop {
            ticks.tick().await;
            for (task, checkpoint) in self.held.take_checkpoints() {
                self.save_checkpoint(task, checkpoint).await;
            }
        }
    }

    pub(super) fn outcome(
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
            finished_at: ambient::now_utc(),
            spec,
        }
    }
}
