//! What a running handler can know and say about its task.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::id::TaskId;
use crate::name::{QueueName, TaskType};
use crate::task::TaskMessage;

/// The context of one attempt. Cheap to clone; it stays valid after the attempt, when it says nothing new.
#[derive(Debug, Clone)]
pub struct Ctx {
    message: Arc<TaskMessage>,
    cancelled: CancellationToken,
    deadline: Option<Instant>,
}

impl Ctx {
    pub(crate) fn new(message: Arc<TaskMessage>, cancelled: CancellationToken) -> Self {
        let deadline = message.spec.timeout.map(|timeout| Instant::now() + timeout);
        Self {
            message,
            cancelled,
            deadline,
        }
    }

    /// A context outside a pool, to call a handler in a test.
    pub fn detached(message: TaskMessage) -> Self {
        Self::new(Arc::new(message), CancellationToken::new())
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

    /// Whether the attempt should end: its task was cancelled, its time is up, or its worker has to go.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.is_cancelled()
    }

    /// Waits until the attempt should end. Cancel-safe. A handler that goes on is aborted some seconds later.
    pub async fn cancelled(&self) {
        self.cancelled.cancelled().await;
    }
}
