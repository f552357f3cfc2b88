//! What a worker says of a delivery: the outcome of an attempt, or why there was none.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::content::Content;
use crate::id::{Route, TaskId, WorkerId};
use crate::task::TaskSpec;

/// One worker's word on one dispatched attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The task.
    pub task: TaskId,
    /// The attempt it speaks of: the fence of terminal outcomes.
    pub attempt: u32,
    /// The dispatch it speaks of: with the attempt, the fence of all others.
    pub dispatch: u32,
    /// What happened.
    pub verdict: Verdict,
    /// Who says so.
    pub worker: WorkerId,
    /// When the handler was called, by the worker's clock.
    #[serde(
        default,
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub started_at: Option<OffsetDateTime>,
    /// When it ended, by the worker's clock.
    #[serde(with = "time::serde::rfc3339")]
    pub finished_at: OffsetDateTime,
    /// The task itself, when the store holds no row of it. A success leaves the payload empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<Arc<TaskSpec>>,
}

impl Outcome {
    /// Which run it speaks of: its worker, and when it started.
    pub fn start(&self) -> Option<(WorkerId, OffsetDateTime)> {
        self.started_at.map(|at| (self.worker, at))
    }
}

/// What happened to a delivered attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The handler returned this.
    Succeeded(Content),
    /// The handler said so, timed out, panicked, or its process ended by a signal.
    Failed {
        /// What went wrong, 8 KiB at most.
        error: String,
        /// Whether further attempts are useless.
        permanent: bool,
        /// How long the next attempt waits, in place of the task's backoff.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after: Option<Duration>,
    },
    /// The handler wants to be called again later; no attempt is used up.
    Snoozed {
        /// How much later.
        wait: Duration,
    },
    /// A repeated delivery is about to run: what remains without an outcome after this is a crash.
    Started,
    /// Given back unharmed: another worker should have it at once.
    Released,
    /// The worker has no handler of this type.
    Unserved,
}

impl Verdict {
    /// A failure after which the task's backoff decides.
    pub fn failed(error: impl Into<String>) -> Self {
        Self::Failed {
            error: error.into(),
            permanent: false,
            retry_after: None,
        }
    }

    /// A failure that no further attempt can mend.
    pub fn failed_for_good(error: impl Into<String>) -> Self {
        Self::Failed {
            error: error.into(),
            permanent: true,
            retry_after: None,
        }
    }

    /// The verdict in a word, for logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Succeeded(_) => "succeeded",
            Self::Failed { .. } => "failed",
            Self::Snoozed { .. } => "snoozed",
            Self::Started => "started",
            Self::Released => "released",
            Self::Unserved => "unserved",
        }
    }
}

/// Outcomes that travel in one message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutcomeBatch {
    /// Fresh for each message, the same for each retry of its publish.
    pub id: Uuid,
    /// Where they go.
    pub route: Route,
    /// The outcomes, in the order they happened.
    pub outcomes: Vec<Outcome>,
}
