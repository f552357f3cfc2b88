//! A slot: runs tasks, one at a time.

use std::pin::pin;
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use time::OffsetDateTime;
use tokio::time::Instant;
use tracing::{Instrument, Level, Span, debug, info_span, warn};

use super::held::Hold;
use super::pool::{Job, Pool};
use super::report::Reporter;
use super::run::{self, Call, End};
use crate::ambient;
use crate::broker::acks;
use crate::ctx::Attempt;
use crate::faults::{self, Bug, Point};
use crate::id::TaskId;
use crate::outcome::{Outcome, Verdict};
use crate::task::TaskMessage;

/// How often checkpoints are saved while a handler runs.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);

impl Pool {
    /// Runs tasks, one at a time, until the pool drains.
    pub(super) async fn slot(&self, reporter: &Reporter) {
        while let Some(job) = self.next_job().await {
            let (message, spec) = (job.hold.message(), &job.hold.message().spec);
            // With nobody who listens it would be made all the same, for the `log` crate, which only gets events now.
            let span = if tracing::level_enabled!(Level::INFO) {
                info_span!(
                    "attempt",
                    task.id = %spec.id, task.r#type = %spec.task_type, queue = %spec.queue,
                    attempt = message.attempt, worker = %self.worker,
                )
            } else {
                Span::none()
            };
            // In its place at once: it is large, and each move of it costs more than the rest of this.
            let run = pin!(self.run(job, reporter));
            run.instrument(span).await;
        }
    }

    async fn run(&self, Job { hold, handler }: Job, reporter: &Reporter) {
        let message = hold.message();
        let is_cancelled = self.is_entombed(message);
        let in_place = !is_cancelled && self.is_over_at_once(&hold);
        if !in_place {
            self.go_on_without();
        }
        if is_cancelled {
            return self.acknowledge(&hold).await;
        }
        if hold.count() > 1 && !self.has_told_of(&hold, reporter).await {
            // Unconfirmed, it comes again: no crash may go uncounted.
            return Self::return_to_queue(hold).await;
        }
        let checkpoint = self.last_checkpoint(&hold).await;
        let started = Instant::now();
        if !hold.is_ours(started) {
            debug!("its lease was lost before it could start: it is delivered again");
            return;
        }
        let started_at = ambient::now_utc();
        hold.attempt().start(started_at, started);
        if faults::planted(Bug::AckBeforeCommit) {
            self.acknowledge(&hold).await;
        }
        let call = run::call(handler, hold.attempt(), checkpoint);
        match self.attempt(call, hold.attempt(), in_place).await {
            End::Verdict(verdict, took) => {
                faults::point(Point::AfterHandler);
                self.pace.note(took.unwrap_or_else(|| started.elapsed()));
                debug!(verdict = verdict.name(), "attempt ended");
                if !matches!(verdict, Verdict::Succeeded(_))
                    && let Some(checkpoint) = hold.attempt().take_checkpoint()
                {
                    self.go_on_without();
                    self.save_checkpoint(message.spec.id, checkpoint).await;
                }
                let outcome = self.outcome(message, verdict, Some(started_at));
                reporter.finish(hold, outcome).await;
            }
            End::Cancelled => {
                debug!("cancelled");
                self.acknowledge(&hold).await;
            }
        }
    }

    /// Runs the call to its end; `in_place` for as long as it does not wait.
    async fn attempt(&self, mut call: Call, attempt: &Attempt, in_place: bool) -> End {
        if in_place {
            if let Some(end) = run::try_at_once(&mut call).await {
                return end;
            }
            // It was not what it was taken for.
            self.go_on_without();
        }
        run::watch(call, attempt, &self.leaving).await
    }

    /// Whether a delivery is likely to be over before another slot could get at the next one: tasks end at once, and for this
    /// one nobody has to be asked before it starts, and no time watched while it runs. If it is not, whom its slot had woken
    /// would have to wait for its thread.
    fn is_over_at_once(&self, hold: &Hold) -> bool {
        let (message, spec) = (hold.message(), &hold.message().spec);
        let is_first = hold.count() == 1 && message.dispatch == 1;
        let is_watched = spec.timeout.is_some() || spec.heartbeat_timeout.is_some();
        self.pace.is_instant() && is_first && !is_watched
    }

    /// Acknowledges what is not to be run, or run any more.
    pub(super) async fn acknowledge(&self, hold: &Hold) {
        acks::acknowledge(
            self.connection.tasks.as_ref(),
            slice::from_ref(hold.lease()),
        )
        .await;
    }

    /// Tells that a repeated delivery is about to run; false if that could not be confirmed.
    async fn has_told_of(&self, hold: &Hold, reporter: &Reporter) -> bool {
        // To the microsecond, which is what stores keep: the time tells this start from others.
        let now = ambient::now_utc();
        let at = now
            .replace_nanosecond(now.microsecond() * 1_000)
            .unwrap_or(now);
        let started = self.outcome(hold.message(), Verdict::Started, Some(at));
        let confirmed = reporter.start(hold.message(), started);
        self.leaving.run_until_cancelled(confirmed).await == Some(true)
    }

    /// Where an earlier run of the task said that it can go on. A first run has none.
    async fn last_checkpoint(&self, hold: &Hold) -> Option<Bytes> {
        let message = hold.message();
        if hold.count() == 1 && message.dispatch == 1 {
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
                Arc::make_mut(&mut spec).payload.bytes.clear();
            }
            spec
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
