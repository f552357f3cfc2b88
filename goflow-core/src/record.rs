//! What the store knows of a task, and how to ask for it.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::content::Content;
use crate::id::{TaskId, WorkerId};
use crate::name::{Namespace, QueueName, TaskType};
use crate::state::State;
use crate::task::TaskSpec;

/// Everything the store knows of one task.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskRecord {
    /// What was pushed. In lists the payload may have been left out: see [`TaskRecord::payload_omitted`].
    pub spec: Arc<TaskSpec>,
    /// Where it is in its life; [`State::Running`] only after heartbeats were laid over the record.
    pub state: State,
    /// The attempt that is under way, comes next or was the last, from 1.
    pub attempt: u32,
    /// Failed attempts after which the task has failed: what its push asked for, and more after each retry by hand.
    pub max_attempts: u32,
    /// The last decision to dispatch.
    pub dispatch: u32,
    /// What the handler returned.
    pub result: Option<Content>,
    /// The last error.
    pub error: Option<String>,
    /// Every failed attempt, oldest first. Empty in lists.
    pub attempts: Vec<FailedAttempt>,
    /// The worker of the last outcome, or the one that runs it.
    pub worker: Option<WorkerId>,
    /// Deliveries that started and ended without an outcome.
    pub crashes: u32,
    /// Whether it waits for a worker that serves its type.
    pub unserved: bool,
    /// What its handler last reported, as JSON; only while it runs.
    pub progress: Option<String>,
    /// When it is due, while it waits for its time.
    pub due_at: Option<OffsetDateTime>,
    /// When the last attempt started.
    pub started_at: Option<OffsetDateTime>,
    /// When it ended.
    pub finished_at: Option<OffsetDateTime>,
    /// Whether the payload is kept but too large for a list.
    pub payload_omitted: bool,
    /// Whether the result is kept but too large for a list.
    pub result_omitted: bool,
}

impl TaskRecord {
    /// Of a task that was just accepted: queued for its first attempt, and not dispatched yet.
    pub fn new(spec: Arc<TaskSpec>) -> Self {
        Self {
            state: State::Queued,
            attempt: 1,
            max_attempts: spec.max_attempts,
            spec,
            dispatch: 0,
            result: None,
            error: None,
            attempts: Vec::new(),
            worker: None,
            crashes: 0,
            unserved: false,
            progress: None,
            due_at: None,
            started_at: None,
            finished_at: None,
            payload_omitted: false,
            result_omitted: false,
        }
    }
}

/// Content larger than this is left out of lists, in bytes.
pub const MAX_LISTED_CONTENT: usize = 16 * 1024;

/// One failed attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FailedAttempt {
    /// Which attempt, from 1.
    pub attempt: u32,
    /// What went wrong.
    pub error: String,
    /// Who ran it.
    pub worker: Option<WorkerId>,
    /// When it started.
    pub started_at: Option<OffsetDateTime>,
    /// When it ended.
    pub finished_at: OffsetDateTime,
}

/// How a task ended, or how far it is.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskResult {
    /// The task.
    pub id: TaskId,
    /// Where it is in its life.
    pub state: State,
    /// What the handler returned, if it succeeded.
    pub result: Option<Content>,
    /// The last error, if an attempt failed.
    pub error: Option<String>,
}

impl From<TaskRecord> for TaskResult {
    fn from(record: TaskRecord) -> Self {
        Self {
            id: record.spec.id,
            state: record.state,
            result: record.result,
            error: record.error,
        }
    }
}

impl TaskResult {
    /// The result as a value.
    ///
    /// # Errors
    /// [`crate::Error::NoResult`] when there is none (yet), [`crate::Error::Payload`] when it is no such value.
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, crate::Error> {
        let missing = || crate::Error::NoResult {
            id: self.id,
            state: self.state,
            error: self.error.clone(),
        };
        let content = self.result.as_ref().ok_or_else(missing)?;
        serde_json::from_slice(&content.bytes).map_err(crate::Error::payload)
    }
}

/// Which tasks a list holds. Empty fields let everything pass.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filter {
    /// The namespace.
    pub namespace: Namespace,
    /// Any of these states.
    pub states: Vec<State>,
    /// This type.
    pub task_type: Option<TaskType>,
    /// This queue.
    pub queue: Option<QueueName>,
    /// Pushed at this time or later.
    pub since: Option<OffsetDateTime>,
    /// Pushed before this time.
    pub until: Option<OffsetDateTime>,
}

impl Filter {
    /// Whether a record passes.
    pub fn passes(&self, record: &TaskRecord) -> bool {
        let spec = &record.spec;
        let created = spec.id.created_at();
        self.namespace == spec.namespace
            && (self.states.is_empty() || self.states.contains(&record.state))
            && self
                .task_type
                .as_ref()
                .is_none_or(|task_type| *task_type == spec.task_type)
            && self.queue.as_ref().is_none_or(|queue| *queue == spec.queue)
            && self.since.is_none_or(|since| created >= since)
            && self.until.is_none_or(|until| created < until)
    }
}

/// Which part of a list to give: at most `limit` tasks, all older than `before`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRequest {
    /// Tasks with smaller ids only: the id of the last task of the page before.
    pub before: Option<TaskId>,
    /// How many at most: 1 to [`MAX_PAGE`].
    pub limit: usize,
}

/// The longest page of a list.
pub const MAX_PAGE: usize = 500;

impl Default for PageRequest {
    /// The newest 50.
    fn default() -> Self {
        Self {
            before: None,
            limit: 50,
        }
    }
}

/// One page of a list, newest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Page {
    /// The tasks.
    pub tasks: Vec<TaskRecord>,
    /// Where the next page starts, if there may be one.
    pub next: Option<TaskId>,
}

/// Finished tasks that did not succeed, of one type and with one error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeadGroup {
    /// The type.
    pub task_type: TaskType,
    /// Failed, crashed or expired.
    pub state: State,
    /// The error, its first 200 characters.
    pub error: String,
    /// How many.
    pub count: u64,
    /// The newest of them.
    pub newest: TaskId,
    /// When the last of them ended.
    #[serde(with = "time::serde::rfc3339")]
    pub last_finished_at: OffsetDateTime,
}

/// How many live tasks a queue has, as the store counts them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct QueueCounts {
    /// The queue.
    pub queue: QueueName,
    /// Waiting for their time.
    pub scheduled: u64,
    /// Due: with the broker, running, or about to be dispatched.
    pub queued: u64,
    /// Waiting after a failed attempt.
    pub retrying: u64,
    /// Those of the above that wait for a worker that serves their type, by type.
    pub unserved: Vec<(TaskType, u64)>,
    /// How long the oldest queued task has been waiting since its push.
    pub oldest: Option<Duration>,
    /// Whether no task of it is to be started.
    #[serde(default)]
    pub paused: bool,
}
