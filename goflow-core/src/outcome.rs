//! What a worker says of a delivery: the outcome of an attempt, or why there was none.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::content::Content;
use crate::id::{Route, TaskId, WorkerId};
use crate::task::{TaskSpec, first, is_first};

/// One worker's word on one dispatched attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The task.
    pub task: TaskId,
    /// The attempt it speaks of: the fence of terminal outcomes.
    #[serde(default = "first", skip_serializing_if = "is_first")]
    pub attempt: u32,
    /// The dispatch it speaks of: with the attempt, the fence of all others.
    #[serde(default = "first", skip_serializing_if = "is_first")]
    pub dispatch: u32,
    /// What happened.
    pub verdict: Verdict,
    /// Who says so.
    pub worker: WorkerId,
    /// When the handler was called, by the worker's clock.
    #[serde(
        default,
        with = "micros::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub started_at: Option<OffsetDateTime>,
    /// When it ended, by the worker's clock.
    #[serde(with = "micros")]
    pub finished_at: OffsetDateTime,
    /// The task itself, when the store holds no row of it. A success leaves the payload empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<Arc<TaskSpec>>,
}

/// Room for what an outcome holds beside its content, and as much again for what its task does.
const OVERHEAD: usize = 1_024;

impl Outcome {
    /// About how many bytes it takes in a message; never too few.
    pub(crate) fn size(&self) -> usize {
        let spec = self.spec.as_ref().map_or(0, |_| OVERHEAD);
        OVERHEAD + self.content_size() + spec
    }

    /// The bytes of what it holds.
    pub(crate) fn content_size(&self) -> usize {
        let verdict = match &self.verdict {
            Verdict::Succeeded(result) => result.len() + result.content_type.len(),
            Verdict::Failed { error, .. } => error.len(),
            Verdict::Snoozed { .. } | Verdict::Started | Verdict::Released | Verdict::Unserved => 0,
        };
        verdict + self.spec.as_ref().map_or(0, |spec| spec.size())
    }

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

/// A time as microseconds since 1970, which is as precise as stores are, in a tenth of what it takes as text.
mod micros {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use time::OffsetDateTime;

    fn of(time: OffsetDateTime) -> i64 {
        // As many as there are in 300,000 years; no time has more.
        i64::try_from(time.unix_timestamp_nanos().div_euclid(1_000)).unwrap_or(i64::MAX)
    }

    pub(super) fn serialize<S: Serializer>(
        time: &OffsetDateTime,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.serialize_i64(of(*time))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<OffsetDateTime, D::Error> {
        time_of(i64::deserialize(from)?)
    }

    fn time_of<E: Error>(micros: i64) -> Result<OffsetDateTime, E> {
        let nanos = i128::from(micros) * 1_000;
        OffsetDateTime::from_unix_timestamp_nanos(nanos).map_err(E::custom)
    }

    pub(super) mod option {
        use super::{Deserialize, Deserializer, OffsetDateTime, Serializer};

        pub(in super::super) fn serialize<S: Serializer>(
            time: &Option<OffsetDateTime>,
            to: S,
        ) -> Result<S::Ok, S::Error> {
            match time {
                Some(time) => to.serialize_i64(super::of(*time)),
                None => to.serialize_none(),
            }
        }

        pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
            from: D,
        ) -> Result<Option<OffsetDateTime>, D::Error> {
            let micros = Option::<i64>::deserialize(from)?;
            micros.map(super::time_of).transpose()
        }
    }
}
