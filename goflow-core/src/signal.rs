//! Signals: what engines and workers tell each other beside tasks and outcomes. A lost one costs time only.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::id::{Route, TaskId, WorkerId};
use crate::name::{QueueName, TaskType};

/// A lossy message to whoever listens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// These tasks of this route have just finished: one signal a commit.
    Finished {
        /// The route of the store that committed it.
        route: Route,
        /// The tasks.
        ids: Vec<TaskId>,
        /// The engine that committed it, which knows already.
        #[serde(default, skip_serializing_if = "Uuid::is_nil")]
        engine: Uuid,
    },
    /// A worker is alive.
    Heartbeat(Box<WorkerStatus>),
    /// A worker has ended in good order.
    Goodbye(WorkerId),
    /// Someone wants a worker to do something.
    Command {
        /// Which worker.
        worker: WorkerId,
        /// What.
        command: Command,
    },
}

/// What a worker can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Take no more tasks; finish those at hand.
    Quiet,
    /// Take tasks again.
    Resume,
    /// End, as on SIGTERM.
    Stop,
}

/// What a worker says of itself, every [`HEARTBEAT_INTERVAL`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// Its id.
    pub id: WorkerId,
    /// The host it runs on.
    pub host: String,
    /// Its process id.
    pub pid: u32,
    /// Its version of goflow.
    pub version: String,
    /// When it started.
    #[serde(with = "time::serde::rfc3339")]
    pub started_at: OffsetDateTime,
    /// The queues it takes from.
    pub queues: Vec<QueueName>,
    /// The types it has handlers for.
    pub types: Vec<TaskType>,
    /// How many tasks it runs at once.
    pub slots: usize,
    /// The lease it wants its queues to have, if it says so.
    pub lease: Option<Duration>,
    /// Whether it takes no more tasks because it is about to end.
    pub draining: bool,
    /// Whether it takes no more tasks because it was told to be quiet.
    #[serde(default)]
    pub quiet: bool,
    /// Every task it holds; in a heartbeat that has parts, some of them.
    pub held: Vec<HeldTask>,
    /// Which part of a heartbeat this is, from 0.
    #[serde(default)]
    pub part: usize,
    /// How many parts the heartbeat has: more than one for a worker that holds more than [`MAX_HELD`] tasks.
    #[serde(default = "one")]
    pub parts: usize,
}

fn one() -> usize {
    1
}

/// A task in the hands of a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeldTask {
    /// The task.
    pub id: TaskId,
    /// The queue it came from.
    pub queue: QueueName,
    /// The attempt.
    pub attempt: u32,
    /// When its handler was called; none while it waits for a slot.
    #[serde(
        default,
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub started_at: Option<OffsetDateTime>,
    /// What the handler last reported, as JSON of 1 KiB at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
}

/// The time between two heartbeats of a worker.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(2);

/// Most tasks named in one message: with their progress they fit in the 1 MiB that NATS takes by default.
pub const MAX_HELD: usize = 250;

/// A worker that was silent for this long is gone.
pub const WORKER_GONE_AFTER: Duration = Duration::from_secs(10);
