//! What can go wrong for a user of goflow.

use std::sync::Arc;

use crate::id::{TaskId, WorkerId};
use crate::name::InvalidName;
use crate::state::State;
use crate::{broker, store};

/// An error of [`GoFlow`](crate::GoFlow) and [`Worker`](crate::Worker). Cheap to clone.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `start` was called twice.
    #[error("already started")]
    AlreadyStarted,
    /// `start` was not called yet, or `close` was.
    #[error("not started")]
    NotStarted,
    /// A handler was registered where none run.
    #[error(
        "in distributed mode handlers belong to workers: register this one with Worker::builder()"
    )]
    HandlersBelongToWorkers,
    /// A handler of this type is registered already.
    #[error("a handler for {0} is registered already")]
    HandlerExists(String),
    /// A name against the grammar.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// Something asked for makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// A payload or result that cannot be turned into or out of JSON.
    #[error("payload: {0}")]
    Payload(Arc<serde_json::Error>),
    /// Larger than a limit.
    #[error("{what} of {bytes} bytes, {limit} is the most")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// How large it is.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// As many tasks are unfinished as may be; nothing was accepted. Push again later.
    #[error("the queue is full: {limit} tasks are unfinished")]
    QueueFull {
        /// How many may be.
        limit: usize,
    },
    /// The idempotency key was used with another request.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// The unique key is taken, and the push asked for an error then.
    #[error("task {0} has the unique key")]
    Duplicate(TaskId),
    /// There is no such task.
    #[error("no task {0}")]
    NotFound(TaskId),
    /// There is no record of the task yet: in record mode `outcome` there is none before its first outcome.
    #[error("no record of task {0} yet")]
    NotRecordedYet(TaskId),
    /// It takes a record to do this, and in record mode `outcome` there is none yet.
    #[error(
        "task {0} has no record yet: only tasks pushed in record mode full can be cancelled before they ran"
    )]
    NeedsFullRecord(TaskId),
    /// The queue was closed with tasks that had not finished, and their records were in memory only.
    #[error("closed with {0} unfinished tasks")]
    Unfinished(u64),
    /// The task's state forbids what was asked.
    #[error("task {id} is {state}")]
    Forbidden {
        /// The task.
        id: TaskId,
        /// Its state.
        state: State,
    },
    /// No worker of this id is alive.
    #[error("no worker {0}")]
    NoWorker(WorkerId),
    /// The task has no result.
    #[error("task {id} has no result: it is {state}{}", error.as_ref().map(|e| format!(": {e}")).unwrap_or_default())]
    NoResult {
        /// The task.
        id: TaskId,
        /// Its state.
        state: State,
        /// Its last error.
        error: Option<String>,
    },
    /// The wait's deadline came before the task's end.
    #[error("task {0} was not finished in time")]
    WaitTimeout(TaskId),
    /// The store failed.
    #[error(transparent)]
    Store(store::Error),
    /// The broker failed.
    #[error(transparent)]
    Broker(broker::Error),
}

impl Error {
    pub(crate) fn payload(error: serde_json::Error) -> Self {
        Self::Payload(Arc::new(error))
    }

    /// An [`Error::Invalid`].
    pub fn invalid(text: impl Into<String>) -> Self {
        Self::Invalid(text.into())
    }

    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::QueueFull { .. } | Self::NotRecordedYet(_) => true,
            Self::Store(error) => error.is_retryable(),
            Self::Broker(error) => error.is_retryable(),
            _ => false,
        }
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::Full { limit } => Self::QueueFull { limit },
            store::Error::KeyReused => Self::KeyReused,
            store::Error::Duplicate(id) => Self::Duplicate(id),
            other => Self::Store(other),
        }
    }
}

impl From<broker::Error> for Error {
    fn from(error: broker::Error) -> Self {
        match error {
            broker::Error::TooLarge { bytes, limit } => Self::TooLarge {
                what: "message",
                bytes,
                limit,
            },
            other => Self::Broker(other),
        }
    }
}
