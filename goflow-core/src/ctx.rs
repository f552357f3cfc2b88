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
    run: Mutex<Run>,
}

/// What is known of a run while it goes on.
#[derive(Debug)]
struct Run {
    /// When the handler was called.
    started_at: Option<OffsetDateTime>,
    /// When it last said anything.
    last_word: Instant,
    progress: Option<String>,
    checkpoint: Option<Bytes>,
}

impl Attempt {
    /// Of a delivery that came at `now`.
    pub(crate) fn new(message: Arc<TaskMessage>, now: Instant) -> Arc<Self> {
        Arc::new(Self {
            message,
            ending: OnceLock::new(),
            run: Mutex::new(Run {
                started_at: None,
                last_word: now,
                progress: None,
                checkpoint: None,
            }),
        })
    }

    pub(crate) fn message(&self) -> &Arc<TaskMessage> {
        &self.message
    }

    fn run(&self) -> MutexGuard<'_, Run> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the handler is called.
    pub(crate) fn start(&self, at: OffsetDateTime, now: Instant) {
        let mut run = self.run();
        run.started_at = Some(at);
        run.last_word = now;
    }

    /// When the handler was called, if it was.
    pub(crate) fn started_at(&self) -> Option<OffsetDateTime> {
        self.run().started_at
    }

    /// When the handler last said anything; its call counts.
    pub(crate) fn last_word(&self) -> Instant {
        self.run().last_word
    }

    /// What it last said of its progress.
    pub(crate) fn progress(&self) -> Option<String> {
        self.run().progress.clone()
    }

    /// The checkpoint that is to be saved, if there is a new one.
    pub(crate) fn take_checkpoint(&self) -> Option<Bytes> {
        self.run().checkpoint.take()
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
        Self::new(Attempt::new(Arc::new(message), Instant::now()), None)
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
        let mut run = self.attempt.run();
        run.last_word = Instant::now();
        run.progress = Some(json);
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
        let mut run = self.attempt.run();
        run.last_word = Instant::now();
        run.checkpoint = Some(checkpoint);
        Ok(())
    }

    /// Says no more than that the handler is alive, for tasks with a heartbeat timeout.
    pub fn heartbeat(&self) {
        self.attempt.run().last_word = Instant::now();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Route, StoreId};
    use crate::task::Task;

    fn ctx() -> Ctx {
        Ctx::detached(TaskMessage {
            spec: Task::json("t", &()).unwrap().spec,
            attempt: 1,
            dispatch: 1,
            route: Route::of_store(StoreId(uuid::Uuid::nil()), false),
            recorded: true,
        })
    }

    #[tokio::test]
    async fn a_cancel_is_seen_by_those_who_look_later() {
        let ctx = ctx();
        assert!(!ctx.is_cancelled());
        // As for a task that is cancelled while nobody waits for its end.
        ctx.attempt.ending().cancel();
        assert!(ctx.is_cancelled());
        ctx.cancelled().await;
        ctx.clone().cancelled().await;
    }

    #[tokio::test(start_paused = true)]
    async fn whatever_a_handler_says_is_a_word() {
        let ctx = ctx();
        let says: [fn(&Ctx); 3] = [
            |ctx| ctx.heartbeat(),
            |ctx| ctx.progress(&1).unwrap(),
            |ctx| ctx.checkpoint("here").unwrap(),
        ];
        for say in says {
            tokio::time::advance(Duration::from_secs(1)).await;
            assert!(ctx.attempt.last_word() < Instant::now());
            say(&ctx);
            assert_eq!(ctx.attempt.last_word(), Instant::now());
        }
        assert_eq!(ctx.attempt.progress().as_deref(), Some("1"));
        assert_eq!(ctx.attempt.take_checkpoint().unwrap(), "here");
        assert_eq!(ctx.attempt.take_checkpoint(), None, "it is passed on once");
    }
}
