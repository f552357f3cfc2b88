//! What a running handler can know and say about its task.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use time::OffsetDateTime;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::broker::MAX_CHECKPOINT_BYTES;
use crate::error::Error;
use crate::id::TaskId;
use crate::name::{QueueName, TaskType};
use crate::task::{TaskMessage, TaskSpec};

/// Largest progress report, in bytes of JSON.
const MAX_PROGRESS_BYTES: usize = 1_024;

/// The context of one attempt. Cheap to clone; it stays valid after the attempt, when it says nothing new.
#[derive(Debug, Clone)]
pub struct Ctx {
    attempt: Arc<Attempt>,
    deadline: Option<Instant>,
    checkpoint: Option<Bytes>,
}

/// A delivered attempt, as its handler, whoever runs it and its worker share it.
#[derive(Debug)]
pub(crate) struct Attempt {
    message: Arc<TaskMessage>,
    /// Made for the first who waits for it: most handlers end before anyone does.
    ending: OnceLock<CancellationToken>,
    report: Mutex<Report>,
}

/// What a handler has said and nobody has passed on yet.
#[derive(Debug, Default)]
struct Report {
    /// When the handler was called, and when it last said anything.
    started: Option<(OffsetDateTime, Instant)>,
    progress: Option<String>,
    checkpoint: Option<Bytes>,
}

impl Report {
    fn is_alive(&mut self) {
        if let Some((_, last)) = &mut self.started {
            *last = Instant::now();
        }
    }
}

impl Attempt {
    pub(crate) fn new(message: Arc<TaskMessage>) -> Arc<Self> {
        Arc::new(Self {
            message,
            ending: OnceLock::new(),
            report: Mutex::default(),
        })
    }

    pub(crate) fn message(&self) -> &Arc<TaskMessage> {
        &self.message
    }

    fn report(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the handler is called.
    pub(crate) fn start(&self, at: OffsetDateTime, now: Instant) {
        self.report().started = Some((at, now));
    }

    /// When the handler was called, if it was.
    pub(crate) fn started_at(&self) -> Option<OffsetDateTime> {
        self.report().started.map(|(at, _)| at)
    }

    /// When the handler last said anything, if it was called.
    pub(crate) fn last_word(&self) -> Option<Instant> {
        self.report().started.map(|(_, last)| last)
    }

    /// What it last said of its progress.
    pub(crate) fn progress(&self) -> Option<String> {
        self.report().progress.clone()
    }

    /// The checkpoint that is to be saved, if there is a new one.
    pub(crate) fn take_checkpoint(&self) -> Option<Bytes> {
        self.report().checkpoint.take()
    }

    /// Fires when the task was cancelled, and when whoever runs it wants the handler to end for any other reason.
    pub(crate) fn ending(&self) -> &CancellationToken {
        self.ending.get_or_init(CancellationToken::new)
    }

    fn is_ending(&self) -> bool {
        self.ending
            .get()
            .is_some_and(CancellationToken::is_cancelled)
    }
}

impl Ctx {
    pub(crate) fn new(attempt: Arc<Attempt>, checkpoint: Option<Bytes>) -> Self {
        let timeout = attempt.message.spec.timeout;
        Self {
            deadline: timeout.map(|timeout| Instant::now() + timeout),
            attempt,
            checkpoint,
        }
    }

    /// A context outside a pool, to call a handler in a test.
    pub fn detached(message: TaskMessage) -> Self {
        Self::new(Attempt::new(Arc::new(message)), None)
    }

    fn spec(&self) -> &TaskSpec {
        &self.attempt.message.spec
    }

    /// The task's id: the idempotency key for side effects, the same in every attempt.
    pub fn task_id(&self) -> TaskId {
        self.spec().id
    }

    /// The task's type.
    pub fn task_type(&self) -> &TaskType {
        &self.spec().task_type
    }

    /// The queue it came from.
    pub fn queue(&self) -> &QueueName {
        &self.spec().queue
    }

    /// Which attempt this is, from 1.
    pub fn attempt(&self) -> u32 {
        self.attempt.message.attempt
    }

    /// How many attempts there are.
    pub fn max_attempts(&self) -> u32 {
        self.spec().max_attempts
    }

    /// The headers of the push.
    pub fn headers(&self) -> &BTreeMap<String, String> {
        &self.spec().headers
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
        let mut report = self.attempt.report();
        report.is_alive();
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
        let mut report = self.attempt.report();
        report.is_alive();
        report.checkpoint = Some(checkpoint);
        Ok(())
    }

    /// Says no more than that the handler is alive, for tasks with a heartbeat timeout.
    pub fn heartbeat(&self) {
        self.attempt.report().is_alive();
    }

    /// Whether the attempt should end: its task was cancelled, its time is up, or its worker has to go.
    pub fn is_cancelled(&self) -> bool {
        self.attempt.is_ending()
    }

    /// Waits until the attempt should end. Cancel-safe. A handler that goes on is aborted some seconds later.
    pub async fn cancelled(&self) {
        self.attempt.ending().cancelled().await;
    }
}
