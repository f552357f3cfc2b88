//! A task as someone pushes it, and as the store and the broker carry it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::backoff::Backoff;
use crate::content::Content;
use crate::error::Error;
use crate::id::{Route, TaskId};
use crate::limits;
use crate::name::{InvalidName, Namespace, QueueName, TaskType};
use crate::priority::Priority;
use crate::unique::Unique;

/// Attempts a task has when its push does not say.
pub const DEFAULT_MAX_ATTEMPTS: u32 = 3;

/// A task to push: a type, a payload, and options that all have defaults.
///
/// ```
/// # use goflow_core::Task;
/// # use std::time::Duration;
/// let task = Task::json("resize", &serde_json::json!({"width": 320}))?
///     .queue("images")?
///     .delay(Duration::from_secs(60))
///     .max_attempts(5);
/// # Ok::<(), goflow_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Task {
    pub(crate) spec: Arc<TaskSpec>,
    pub(crate) idempotency_key: Option<String>,
}

impl Task {
    /// A task with a payload of any content.
    ///
    /// # Errors
    /// [`InvalidName`] when the type is not a name.
    pub fn new(task_type: impl AsRef<str>, payload: Content) -> Result<Self, InvalidName> {
        Ok(Self {
            spec: Arc::new(TaskSpec {
                id: TaskId::new(),
                namespace: Namespace::default(),
                queue: QueueName::default(),
                task_type: TaskType::new(task_type)?,
                payload,
                headers: BTreeMap::new(),
                tags: BTreeMap::new(),
                max_attempts: DEFAULT_MAX_ATTEMPTS,
                backoff: Backoff::default(),
                timeout: None,
                start: Start::Now,
                priority: Priority::default(),
                deadline: None,
                unique: None,
                retention: None,
                heartbeat_timeout: None,
                retry_of: None,
            }),
            idempotency_key: None,
        })
    }

    /// A task with a JSON payload.
    ///
    /// # Errors
    /// An invalid type, or a payload that has no JSON form.
    pub fn json<T: Serialize + ?Sized>(
        task_type: impl AsRef<str>,
        payload: &T,
    ) -> Result<Self, crate::Error> {
        Ok(Self::new(
            task_type,
            Content::json(payload).map_err(crate::Error::payload)?,
        )?)
    }

    fn spec_mut(&mut self) -> &mut TaskSpec {
        Arc::make_mut(&mut self.spec)
    }

    /// The queue it waits in. Default: `default`.
    ///
    /// # Errors
    /// [`InvalidName`] when `queue` is not a name.
    pub fn queue(mut self, queue: impl AsRef<str>) -> Result<Self, InvalidName> {
        self.spec_mut().queue = QueueName::new(queue)?;
        Ok(self)
    }

    /// Starts no sooner than this long after it is accepted, by the store's clock. Default: at once.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.spec_mut().start = if delay.is_zero() {
            Start::Now
        } else {
            Start::After(delay)
        };
        self
    }

    /// Starts no sooner than at this time, by the store's clock. Default: at once.
    pub fn run_at(mut self, time: OffsetDateTime) -> Self {
        self.spec_mut().start = Start::At(time);
        self
    }

    /// How many times the handler may fail before the task has failed; at least 1. Default: 3.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.spec_mut().max_attempts = attempts.max(1);
        self
    }

    /// The wait between a failed attempt and the next. Default: [`Backoff::default`].
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.spec_mut().backoff = backoff;
        self
    }

    /// The longest one attempt may take. Default: no limit.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.spec_mut().timeout = Some(timeout);
        self
    }

    /// How urgent it is among the tasks of its queue. Default: 1 of 0 to 3.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.spec_mut().priority = priority;
        self
    }

    /// The task ends as expired when it has not finished by then, by the store's clock. Default: never.
    pub fn deadline(mut self, deadline: Deadline) -> Self {
        self.spec_mut().deadline = Some(deadline);
        self
    }

    /// Keeps a second task with the same key out. Default: none.
    pub fn unique(mut self, unique: Unique) -> Self {
        self.spec_mut().unique = Some(unique);
        self
    }

    /// How long its record is kept once it has finished; rounded up to 1, 7, 30 or 365 days. Default: 7 days, 30
    /// for one that failed.
    pub fn retention(mut self, retention: Duration) -> Self {
        self.spec_mut().retention = Some(retention);
        self
    }

    /// A handler that says nothing (progress, checkpoint, heartbeat) for this long is taken for hung: a failed
    /// attempt. Default: never.
    pub fn heartbeat_timeout(mut self, timeout: Duration) -> Self {
        self.spec_mut().heartbeat_timeout = Some(timeout);
        self
    }

    /// A header handed to the handler.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.spec_mut().headers.insert(name.into(), value.into());
        self
    }

    /// A tag kept with the record, for people and queries.
    pub fn tag(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.spec_mut().tags.insert(name.into(), value.into());
        self
    }

    /// Makes a push repeatable: within 24 hours the same key and the same task give the id of the first.
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    /// The task as stores keep it, checked against all limits.
    ///
    /// # Errors
    /// A limit; an idempotency key, which belongs to a push.
    pub fn into_spec(self) -> Result<TaskSpec, Error> {
        if self.idempotency_key.is_some() {
            return Err(Error::invalid("an idempotency key needs a push of its own"));
        }
        limits::check(&self.spec)?;
        Ok(Arc::unwrap_or_clone(self.spec))
    }

    /// The id the task has once it is accepted (a push repeated with its idempotency key gives the first id).
    pub fn id(&self) -> TaskId {
        self.spec.id
    }
}

/// What a task is from its acceptance to its end: nothing in here ever changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskSpec {
    /// Its id, which carries the time it was pushed.
    pub id: TaskId,
    /// Its namespace.
    #[serde(default, skip_serializing_if = "is_default")]
    pub namespace: Namespace,
    /// The queue it waits in.
    pub queue: QueueName,
    /// Which handler runs it.
    #[serde(rename = "type")]
    pub task_type: TaskType,
    /// What the handler gets.
    pub payload: Content,
    /// Headers handed to the handler.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Tags kept with the record.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Failed attempts after which the task has failed.
    #[serde(default = "usual_attempts", skip_serializing_if = "is_usual_attempts")]
    pub max_attempts: u32,
    /// The wait between a failed attempt and the next.
    #[serde(default, skip_serializing_if = "is_default")]
    pub backoff: Backoff,
    /// The longest one attempt may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// When the first attempt may start.
    #[serde(default, skip_serializing_if = "is_default")]
    pub start: Start,
    /// How urgent it is among the tasks of its queue.
    #[serde(default, skip_serializing_if = "is_default")]
    pub priority: Priority,
    /// When it ends as expired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Deadline>,
    /// What keeps a second one out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unique: Option<Unique>,
    /// How long its record is kept once it has finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Duration>,
    /// How long its handler may say nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_timeout: Option<Duration>,
    /// The task of which it is another run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<TaskId>,
}

impl TaskSpec {
    /// About how many bytes its payload, headers and tags take; never too few.
    pub(crate) fn size(&self) -> usize {
        let texts = self.headers.iter().chain(&self.tags);
        let texts = texts.map(|(k, v)| k.len() + v.len() + 10);
        self.payload.len() + texts.sum::<usize>()
    }
}

impl TaskSpec {
    /// The channel it is dispatched on.
    pub fn lane(&self) -> String {
        self.priority.lane(&self.queue)
    }

    /// Whether it takes a row to keep what this asks for, whatever the record mode.
    pub fn needs_row(&self) -> bool {
        self.start != Start::Now || self.deadline.is_some() || self.unique.is_some()
    }
}

/// Whether a field is as it is where it is left out.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn usual_attempts() -> u32 {
    DEFAULT_MAX_ATTEMPTS
}

fn is_usual_attempts(attempts: &u32) -> bool {
    *attempts == DEFAULT_MAX_ATTEMPTS
}

/// The number of an attempt, or of a dispatch, that is left out.
pub(crate) fn first() -> u32 {
    1
}

pub(crate) fn is_first(number: &u32) -> bool {
    *number == first()
}

/// When a task ends as expired, by the store's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deadline {
    /// This long after the task is accepted.
    After(Duration),
    /// At this time.
    #[serde(with = "time::serde::rfc3339")]
    At(OffsetDateTime),
}

/// When the first attempt of a task may start, by the store's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// At once.
    #[default]
    Now,
    /// This long after the task is accepted.
    After(Duration),
    /// At this time.
    #[serde(with = "time::serde::rfc3339")]
    At(OffsetDateTime),
}

fn yes() -> bool {
    true
}

fn is_true(answer: &bool) -> bool {
    *answer
}

/// The message that asks a worker for one attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskMessage {
    /// The task.
    pub spec: Arc<TaskSpec>,
    /// Which attempt this is, from 1.
    #[serde(default = "first", skip_serializing_if = "is_first")]
    pub attempt: u32,
    /// Which decision to dispatch sent this message, from 1.
    #[serde(default = "first", skip_serializing_if = "is_first")]
    pub dispatch: u32,
    /// Where the outcome goes.
    pub route: Route,
    /// Whether the store holds a row of the task. Without one, outcomes carry what the row would need.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub recorded: bool,
}
