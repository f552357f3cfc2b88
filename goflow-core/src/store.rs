//! The store port: it keeps the record of every task and decides, alone, what happened to it.
//!
//! `tests/conformance` holds the contract as a suite that every adapter runs. What an outcome does to a row is
//! never the adapter's decision: it asks [`Live::next`](crate::state::Live::next).

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::broker::{Identity, Tombstone};
use crate::id::{Route, StoreId, TaskId};
use crate::name::{QueueName, TaskType};
use crate::outcome::Outcome;
use crate::record::{DeadGroup, Filter, Page, PageRequest, QueueCounts, TaskRecord};
use crate::state::{Policy, State};
use crate::task::TaskSpec;

mod error;
pub mod memory;

pub use error::Error;

/// How long a row may be queued without a confirmed dispatch before any engine publishes it again.
pub const DISPATCH_DEADLINE: Duration = Duration::from_secs(5);

/// When a row is looked at again that a live worker holds although its dispatch is in doubt.
pub const HELD_FOR: Duration = Duration::from_secs(10);

/// How long a deadline must have passed before an engine that can dispatch nothing ends the task. One that reaches the
/// broker, and can tell whoever runs the task, has done so before.
pub const LATE_FOR: Duration = Duration::from_secs(3);

/// How long an idempotency key is remembered.
pub const IDEMPOTENCY_WINDOW: Duration = Duration::from_secs(24 * 60 * 60);

/// How long the claim of an in-process broker on a store lasts without being renewed.
pub const CLAIM_TTL: Duration = Duration::from_secs(8);

/// The error text of a task that ended as expired.
pub const EXPIRED_ERROR: &str = "deadline passed";

/// The error text of a task that ended as crashed after this many started deliveries.
pub fn crash_error(starts: u32) -> String {
    format!("crashed: {starts} runs started and ended without an outcome")
}

/// Reads values by key. Absent is `None`, never an error.
#[async_trait]
pub trait KvStore<K: Sync, V>: Send + Sync + fmt::Debug {
    /// The value of `key`.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the store cannot be asked.
    async fn get(&self, key: &K) -> Result<Option<V>, Error>;
}

/// The record of every task. Times that decide anything are taken from the store's own clock.
///
/// Every method has a deadline of its own (5 s) and gives [`Error::Unavailable`] when the store does not
/// answer by then; what was asked may have happened all the same.
#[async_trait]
pub trait TaskStore: KvStore<TaskId, TaskRecord> {
    /// The id of this store.
    fn id(&self) -> StoreId;

    /// Whether records outlive the process.
    fn is_durable(&self) -> bool;

    /// The same store, if it never waits for anything: then nothing is gained by a commit for many. Default: none.
    fn at_once(&self) -> Option<&dyn AtOnce> {
        None
    }

    /// The route of its outcomes.
    fn route(&self) -> Route {
        Route::of_store(self.id(), self.is_durable())
    }

    /// Binds the store to a broker. When the broker is not the one whose messages the rows speak of (it is
    /// new, wiped, or an in-process one that died with its process), every row that was dispatched becomes due
    /// at once. An in-process broker has the store to itself: its claim lasts [`CLAIM_TTL`] unless
    /// `bind` is called again, and meanwhile any other broker is refused with [`Error::Claimed`].
    ///
    /// # Errors
    /// [`Error::Claimed`]; [`Error::Foreign`] when the broker says it belongs to another store.
    async fn bind(&self, broker: &Identity) -> Result<(), Error>;

    /// Whether the store answers; within 2 s.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn ping(&self) -> Result<(), Error>;

    /// Accepts requests, all in one commit when all goes well; each request gets all of its tasks accepted or
    /// none. The ids are in the order of the request's tasks; a repeated idempotency key gives the first id, a taken
    /// unique key the id of the task that has it, or [`Error::Duplicate`], as the task asks.
    /// A task that may start at once is `queued` with dispatch 1 and due for a sweep after
    /// [`DISPATCH_DEADLINE`]; any other is `scheduled`.
    async fn accept(&self, requests: &[NewTasks]) -> Vec<Result<Vec<Accepted>, Error>>;

    /// Applies outcomes in one commit and says, in their order, what each did. One bad outcome does not
    /// keep the others from being applied.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: nothing was applied, or all was and nobody heard.
    async fn apply(&self, outcomes: &[&Outcome], policy: &Policy) -> Result<Vec<Applied>, Error>;

    /// Claims up to `limit` rows that are due, of those that `claim` says. One whose deadline has passed ends as
    /// expired. A waiting row moves to `queued` with the next dispatch. A queued one whose dispatch nobody confirmed
    /// comes with the dispatch it has, unless a live worker holds it: that one is due again after [`HELD_FOR`]. Each
    /// row that is to be dispatched is due again after [`DISPATCH_DEADLINE`] unless it is
    /// [confirmed](TaskStore::confirm_dispatched). Concurrent callers get different rows.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn claim_due(&self, limit: usize, claim: Claim<'_>) -> Result<Due, Error>;

    /// Notes that `broker` has these dispatches: they are not due again before their deadline, if they have one.
    /// False, and nothing is noted, when the store is bound to another broker by now: that one has nothing of them.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn confirm_dispatched(
        &self,
        broker: Uuid,
        dispatches: &[(TaskId, u32)],
    ) -> Result<bool, Error>;

    /// Makes the unserved tasks of these types in `queue` due at once; gives their number.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn wake_unserved(&self, queue: &QueueName, types: &[TaskType]) -> Result<u64, Error>;

    /// Ends a live task as cancelled.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn cancel(&self, id: TaskId) -> Result<Change, Error>;

    /// Reopens a task that failed, crashed, expired or was cancelled: same id, next attempt, as many further
    /// attempts as it had at first. It is due at once. A deadline that has passed is dropped.
    ///
    /// # Errors
    /// [`Error::Duplicate`] when another unfinished task has its unique key by now, [`Error::Unavailable`].
    async fn retry(&self, id: TaskId) -> Result<Change, Error>;

    /// A page of tasks, newest first. Content above
    /// [`MAX_LISTED_CONTENT`](crate::record::MAX_LISTED_CONTENT) is left out, as are failed attempts.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn list(&self, filter: &Filter, page: PageRequest) -> Result<Page, Error>;

    /// Tasks that failed, crashed or expired since `since`, grouped by type, state and error, most first; at most
    /// `limit` groups.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn dead(&self, since: OffsetDateTime, limit: usize) -> Result<Vec<DeadGroup>, Error>;

    /// Notes durably whether tasks of this queue are to be started.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn set_paused(&self, queue: &QueueName, paused: bool) -> Result<(), Error>;

    /// The queues that are paused.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn paused(&self) -> Result<Vec<QueueName>, Error>;

    /// The live tasks, counted by queue; paused queues too, even empty ones.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn queue_counts(&self) -> Result<Vec<QueueCounts>, Error>;

    /// What has to be done now and then: room for what comes, an end for what is too old. Any engine may call
    /// it at any time.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn maintain(&self) -> Result<(), Error>;

    /// Gives the in-process claim back and closes connections; within 2 s.
    async fn close(&self);
}

/// A store that answers without waiting for anything. What is asked most often is asked without a future.
pub trait AtOnce: Send + Sync {
    /// The record of a task.
    fn record(&self, id: TaskId) -> Option<TaskRecord>;

    /// Accepts one task that is within all [limits](crate::limits::check) and [needs no row](TaskSpec::needs_row) but to be
    /// dispatched now, then calls `dispatch`, which says whether `broker` has it. If so its dispatch is confirmed with
    /// that, and otherwise it is due for a sweep, as after [`TaskStore::accept`].
    ///
    /// # Errors
    /// As [`TaskStore::accept`]; [`Error::Claimed`] when the store is bound to another broker. `dispatch` is not called then.
    fn accept_one(
        &self,
        spec: &Arc<TaskSpec>,
        broker: Uuid,
        dispatch: &mut dyn FnMut() -> bool,
    ) -> Result<(), Error>;
}

/// Tasks that are accepted together or not at all.
#[derive(Debug, Clone)]
pub struct NewTasks {
    /// The tasks, 1 to [`MAX_BATCH`](crate::limits::MAX_BATCH).
    pub tasks: Vec<Arc<TaskSpec>>,
    /// Makes the request repeatable; only with a single task.
    pub key: Option<IdempotencyKey>,
}

/// Names a request so that it can be repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The caller's key.
    pub key: String,
    /// A hash of what the caller asked for: the same key with another one is refused.
    pub body_hash: u64,
}

/// A task that was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// Its id: an earlier one when the request was a repetition.
    pub id: TaskId,
    /// Whether it is to be dispatched now, by whoever had it accepted.
    pub dispatch_now: bool,
}

/// What an outcome did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// The task ended.
    Finished(State),
    /// The task waits this long before it is dispatched again.
    Waits(Duration),
    /// The row took note.
    Noted,
    /// It spoke of an attempt or dispatch that is no more, or of a task that is not there: dropped.
    Stale,
    /// It cannot be applied, ever: the reason.
    Rejected(String),
}

/// A message to publish.
#[derive(Debug, Clone, PartialEq)]
pub struct Dispatch {
    /// The task.
    pub spec: Arc<TaskSpec>,
    /// The attempt it is for.
    pub attempt: u32,
    /// The decision to dispatch.
    pub dispatch: u32,
}

/// Which of the rows that are due are claimed.
#[derive(Debug, Clone, Copy)]
pub enum Claim<'a> {
    /// All of them. Live workers hold these.
    All(&'a HashSet<TaskId>),
    /// Nobody can say what workers hold: those that wait, and those whose deadline has passed.
    WaitingOrLate,
    /// Nothing can be dispatched: those whose deadline has passed [for a while](LATE_FOR).
    Late,
}

/// What was due.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Due {
    /// To publish.
    pub dispatches: Vec<Dispatch>,
    /// Ended as expired, with their last dispatch: whoever runs one should stop.
    pub expired: Vec<Tombstone>,
    /// Rows looked at, those that a worker holds included.
    pub looked_at: usize,
}

/// What became of a request to change a task.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Done: the task as it is now.
    Done(Box<TaskRecord>),
    /// Its state forbids it: the task as it is.
    Forbidden(Box<TaskRecord>),
    /// There is no such task.
    Unknown,
}
