//! The broker port: it moves messages, at least once, and carries signals.
//!
//! A *channel* is where messages wait: a lane of a queue (`<queue>.<priority>`) for tasks, a route for outcomes. An adapter moves bytes; what
//! they mean is the engine's business. `tests/conformance` holds the contract as a suite that every adapter runs.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use uuid::Uuid;

use crate::id::{StoreId, TaskId};
use crate::outcome::OutcomeBatch;
use crate::signal::Signal;
use crate::task::TaskMessage;

pub(crate) mod acks;
mod error;
pub mod memory;
mod wire;

pub use error::Error;
pub use wire::{DispatchId, Undecodable, WIRE_VERSION, Wire};

/// Largest checkpoint, in bytes.
pub const MAX_CHECKPOINT_BYTES: usize = 64 * 1024;

/// The lease of a channel nobody has set another for.
pub const DEFAULT_LEASE: Duration = Duration::from_secs(30);

/// The shortest lease.
pub const MIN_LEASE: Duration = Duration::from_secs(1);

/// A broker, connected: what engines and workers are built on. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Moves tasks: one channel for each queue and priority.
    pub tasks: Arc<dyn Broker<TaskMessage>>,
    /// Moves outcomes: one channel a route.
    pub results: Arc<dyn Broker<OutcomeBatch>>,
    /// Carries everything else.
    pub control: Arc<dyn Control>,
}

/// Moves messages of one kind from those who submit to those who dequeue, at least once.
///
/// Every method has a deadline of its own (5 s unless said otherwise) and gives [`Error::Unavailable`] when
/// the broker cannot be reached by then.
#[async_trait]
pub trait Broker<T: Wire>: Send + Sync + fmt::Debug {
    /// The largest encoded message the broker takes, in bytes.
    fn max_message_bytes(&self) -> usize;

    /// Makes sure that `channel` exists. Engines call it, workers never do. Idempotent: whatever exists is
    /// kept, and a `lease` of `None` leaves the present one alone.
    ///
    /// # Errors
    /// [`Error::Unavailable`], or [`Error::Refused`] when the broker does not let it.
    async fn prepare(&self, channel: &str, lease: Option<Duration>) -> Result<(), Error>;

    /// The lease of deliveries from `channel`, read from the broker.
    ///
    /// # Errors
    /// [`Error::NoChannel`] before anyone prepared it.
    async fn lease(&self, channel: &str) -> Result<Duration, Error>;

    /// Hands messages over, shared and not copied; `Ok` means the broker has the message and will deliver it. The
    /// results are in the order of the messages, each on its own. A message with an id the broker has seen lately
    /// is confirmed again and not delivered twice.
    ///
    /// Not cancel-safe in the sense that a message may have been taken when the future is dropped.
    async fn submit(&self, messages: Vec<Arc<T>>) -> Vec<Result<(), Error>>;

    /// Takes up to `max` messages, waiting up to `wait` for the first; an empty list when none came.
    ///
    /// Cancel-safe: a message that was under way when the future is dropped is delivered again, at the latest
    /// when its lease has expired. What cannot be decoded is set aside by the adapter with its reason.
    ///
    /// # Errors
    /// [`Error::NoChannel`] before anyone prepared it, [`Error::Unavailable`].
    async fn dequeue(
        &self,
        channel: &str,
        max: usize,
        wait: Duration,
    ) -> Result<Vec<Delivery<T>>, Error>;

    /// Acknowledges deliveries of this broker, for less than it costs one by one. `Ok` means that the broker has
    /// confirmed all of them.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: any of them may be delivered again.
    async fn ack_all(&self, leases: &[Arc<dyn Lease>]) -> Result<(), Error> {
        let mut all = Ok(());
        for lease in leases {
            if let Err(error) = lease.ack().await {
                all = Err(error);
            }
        }
        all
    }

    /// The same broker, if it lives in this process and never waits but for messages and for room: then nothing is gained by
    /// taking ahead, or by handing over many. Default: none.
    fn at_once(&self) -> Option<&dyn AtOnce<T>> {
        None
    }

    /// How long it pays to wait for more deliveries to acknowledge together. Zero, unless said otherwise: acks are answered
    /// at once, nothing is gained by it, and whoever is done waits for them.
    fn ack_linger(&self) -> Duration {
        Duration::ZERO
    }

    /// Whether messages of `channel` are delivered; at once for what is not delivered yet, and over restarts of
    /// the broker.
    ///
    /// # Errors
    /// [`Error::NoChannel`] before anyone prepared it, [`Error::Unavailable`].
    async fn set_paused(&self, channel: &str, paused: bool) -> Result<(), Error>;

    /// How many messages wait in `channel` and how many are out on a lease, and how far it has come.
    ///
    /// # Errors
    /// [`Error::NoChannel`] before anyone prepared it, [`Error::Unavailable`].
    async fn depth(&self, channel: &str) -> Result<Depth, Error>;
}

/// A broker that takes a message without waiting for anything.
pub trait AtOnce<T>: Send + Sync {
    /// Takes one message, as [`Broker::submit`] does, but waits for no room.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::Closed`], [`Error::Refused`] when it is for no channel.
    fn submit_one(&self, message: T) -> Result<(), Error>;
}

/// The messages of a channel, counted. Positions grow with each message that is submitted; they start anew with the
/// state of the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Depth {
    /// Waiting to be taken.
    pub waiting: u64,
    /// Taken, neither acknowledged nor expired.
    pub leased: u64,
    /// The position of the newest message.
    pub submitted: u64,
    /// The position up to which every message has been acknowledged.
    pub settled: u64,
}

impl Depth {
    /// Whether there is no message at all.
    pub fn is_empty(&self) -> bool {
        self.waiting + self.leased == 0
    }
}

/// A message in the hands of the one who dequeued it, until it is acknowledged or its lease expires.
/// Dropping it does nothing: it comes back when its lease has expired.
#[derive(Debug)]
pub struct Delivery<T> {
    /// The message.
    pub message: Arc<T>,
    /// How many times it was delivered, this time included: from 1.
    pub count: u64,
    /// When its lease began, as far as the adapter knows, less what it may take a renewal to reach the broker.
    pub leased_at: Instant,
    /// What can be done about it.
    pub lease: Arc<dyn Lease>,
}

/// The hold on one delivery. All three are harmless after it was acknowledged or has expired.
#[async_trait]
pub trait Lease: Any + Send + Sync + fmt::Debug {
    /// Done: never deliver it again. `Ok` means that the broker has confirmed it.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: it may be delivered again.
    async fn ack(&self) -> Result<(), Error>;

    /// Not done: deliver it again after `delay`.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: it is delivered again when the lease has expired.
    async fn nack(&self, delay: Duration) -> Result<(), Error>;

    /// Starts the lease anew. False if there is none any more: it has expired, or the delivery was acknowledged or
    /// given back.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: the lease goes on as it was.
    async fn extend(&self) -> Result<bool, Error>;
}

/// Who a broker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its id: made when its state was, gone with it.
    pub broker: Uuid,
    /// The store it was bound to, if any.
    pub store: Option<StoreId>,
    /// Whether it lives and dies with this process, so that its messages are known to nobody else.
    pub in_process: bool,
}

/// Everything between engines and workers that is neither a task nor an outcome.
#[async_trait]
pub trait Control: Send + Sync + fmt::Debug {
    /// Makes what the broker needs before anything else, and says who it is.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Refused`].
    async fn identify(&self) -> Result<Identity, Error>;

    /// Notes in the broker which store it belongs to.
    ///
    /// # Errors
    /// [`Error::Refused`] when it belongs to another one.
    async fn bind(&self, store: StoreId) -> Result<(), Error>;

    /// Whether the broker answers; within 2 s.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn ping(&self) -> Result<(), Error>;

    /// Tells everyone. Lossy: who does not listen does not hear, and nobody says so.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn signal(&self, signal: Signal) -> Result<(), Error>;

    /// Listens, from now on, to all signals but commands: what engines need.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn listen(&self) -> Result<Signals, Error>;

    /// Listens, from now on, to [`Signal::Command`] only: what workers need.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn commands(&self) -> Result<Signals, Error>;

    /// Keeps `checkpoint` (64 KiB at most) as the last one of this task, for a day at least.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::Unavailable`].
    async fn save_checkpoint(&self, task: TaskId, checkpoint: Bytes) -> Result<(), Error>;

    /// The last checkpoint of a task, if there is one.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn checkpoint(&self, task: TaskId) -> Result<Option<Bytes>, Error>;

    /// Notes durably, for a week, that no worker is to start these dispatches. The last note on a task counts.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn entomb(&self, tombstones: &[Tombstone]) -> Result<(), Error>;

    /// Everything that no worker is to start: what was noted so far is in `known`, the rest follows.
    ///
    /// # Errors
    /// [`Error::NoChannel`] before any engine was here, [`Error::Unavailable`].
    async fn tombstones(&self) -> Result<Tombstones, Error>;

    /// Waits for what was handed over to be sent and closes the connection; within 2 s.
    async fn close(&self);
}

/// A subscription to signals. Dropping it ends it.
#[derive(Debug)]
pub struct Signals(pub(crate) tokio::sync::mpsc::Receiver<Signal>);

impl Signals {
    /// A subscription fed from a channel.
    pub fn new(receiver: tokio::sync::mpsc::Receiver<Signal>) -> Self {
        Self(receiver)
    }

    /// The next signal; none when the connection is closed. Cancel-safe.
    pub async fn next(&mut self) -> Option<Signal> {
        self.0.recv().await
    }
}

/// A cancelled task: its messages up to this dispatch are not to be run. (A retry of the task has a later one.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tombstone {
    /// The task.
    pub task: TaskId,
    /// Its last dispatch when it was cancelled.
    pub dispatch: u32,
}

/// The tombstones of cancelled tasks. Dropping it ends the watch.
#[derive(Debug)]
pub struct Tombstones {
    /// Those noted before.
    pub known: Vec<Tombstone>,
    /// Those noted since; also the sign for a worker to stop a run.
    pub later: tokio::sync::mpsc::Receiver<Tombstone>,
}
