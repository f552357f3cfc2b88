//! What a running handler can know and say about its task.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::broker::MAX_CHECKPOINT_BYTES;
use crate::error::Error;
use crate::id::TaskId;
use crate::name::{QueueName, TaskType};
use crate::task::TaskMessage;

/// Largest progress report, in bytes of JSON.
const MAX_PROGRESS_BYTES: usize = 1_024;

/// The context of one attempt. Cheap to clone; it stays valid after the attempt, when it says nothing new.
#[derive(Debug, Clone)]
pub struct Ctx {
    message: Arc<TaskMessage>,
    cancelled: CancellationToken,
    deadline: Option<Instant>,
    checkpoint: Option<Bytes>,
    reports: Arc<Reports>,
}

/// What a handler has said and nobody has passed on yet.
#[derive(Debug)]
pub(crate) struct Reports(Mutex<Report>);

#[derive(Debug)]
struct Report {
    last: Instant,
    progress: Option<String>,
    checkpoint: Option<Bytes>,
}

impl Reports {
    /// Nothing yet, of a handler that is called now.
    pub(crate) fn new(now: Instant) -> Arc<Self> {
        let report = Report {
            last: now,
            progress: None,
            checkpoint: None,
        };
        Arc::new(Self(Mutex::new(report)))
    }

    fn report(&self) -> MutexGuard<'_, Report> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the handler last said anything.
    pub(crate) fn last(&self) -> Instant {
        self.report().last
    }

    /// What it last said of its progress.
    pub(crate) fn progress(&self) -> Option<String> {
        self.report().progress.clone()
    }

    /// The checkpoint that is to be saved, if there is a new one.
    pub(crate) fn take_checkpoint(&self) -> Option<Bytes> {
        self.report().checkpoint.take()
    }
}

impl Ctx {
    pub(crate) fn new(
        message: Arc<TaskMessage>,
        cancelled: CancellationToken,
        checkpoint: Option<Bytes>,
        reports: Arc<Reports>,
    ) -> Self {
        let deadline = message.spec.timeout.map(|timeout| Instant::now() + timeout);
        Self {
            message,
            cancelled,
            deadline,
            checkpoint,
            reports,
        }
    }

    /// A context outside a pool, to call a handler in a test.
    pub fn detached(message: TaskMessage) -> Self {
        Self::new(
            Arc::new(message),
            CancellationToken::new(),
            None,
            Reports::new(Instant::now()),
        )
    }

    /// The task's id: the idempotency key for side effects, the same in every attempt.
    pub fn task_id(&self) -> TaskId {
        self.message.spec.id
    }

    /// The task's type.
    pub fn task_type(&self) -> &TaskType {
        &self.message.spec.task_type
    }

    /// The queue it came from.
    pub fn queue(&self) -> &QueueName {
        &self.message.spec.queue
    }

    /// Which attempt this is, from 1.
    pub fn attempt(&self) -> u32 {
        self.message.attempt
    }

    /// How many attempts there are.
    pub fn max_attempts(&self) -> u32 {
        self.message.spec.max_attempts
    }

    /// The headers of the push.
    pub fn headers(&self) -> &BTreeMap<String, String> {
        &self.message.spec.headers
    }

    /// When this attempt is ended, if it has a timeout.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// How long this attempt may still take, if it has a timeout.
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline
            .map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// The last checkpoint that an earlier attempt or delivery of this task saved.
    pub fn last_checkpoint(&self) -> Option<&Bytes> {
        self.checkpoint.as_ref()
    }

    /// Says how far the handler is; shown with the task while it runs. Cheap, whatever the rate: only the last
    /// value counts, passed on about every two seconds.
    ///
    /// # Errors
    /// [`Error::TooLarge`] above 1 KiB of JSON, [`Error::Payload`] for a value without a JSON form.
    pub fn progress<T: Serialize + ?Sized>(&self, value: &T) -> Result<(), Error> {
        let json = serde_json::to_string(value).map_err(Error::payload)?;
        if json.len() > MAX_PROGRESS_BYTES {
            let (bytes, limit) = (json.len(), MAX_PROGRESS_BYTES);
            return Err(Error::TooLarge {
                what: "progress",
                bytes,
                limit,
            });
        }
        let mut report = self.reports.report();
        report.last = Instant::now();
        report.progress = Some(json);
        Ok(())
    }

    /// Remembers where another attempt can go on: it gets the last one by [`last_checkpoint`](Self::last_checkpoint),
    /// whatever ended this attempt. Cheap, whatever the rate: saved about once a second, in the broker.
    ///
    /// # Errors
    /// [`Error::TooLarge`] above 64 KiB.
    pub fn checkpoint(&self, checkpoint: impl Into<Bytes>) -> Result<(), Error> {
        let checkpoint = checkpoint.into();
        if checkpoint.len() > MAX_CHECKPOINT_BYTES {
            let (bytes, limit) = (checkpoint.len(), MAX_CHECKPOINT_BYTES);
            return Err(Error::TooLarge {
                what: "checkpoint",
                bytes,
                limit,
            });
        }
        let mut report = self.reports.report();
        report.last = Instant::now();
        report.checkpoint = Some(checkpoint);
        Ok(())
    }

    /// Says no more than that the handler is alive, for tasks with a heartbeat timeout.
    pub fn heartbeat(&self) {
        self.reports.report().last = Instant::now();
    }

    /// Whether the attempt should end: its task was cancelled, its time is up, or its worker has to go.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.is_cancelled()
    }

    /// Waits until the attempt should end. Cancel-safe. A handler that goes on is aborted some seconds later.
    pub async fn cancelled(&self) {
        self.cancelled.cancelled().await;
    }
}
