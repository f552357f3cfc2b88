//! A task as the gateway tells it.

use goflow_core::State;
use serde::Deserialize;
use serde_json::value::RawValue;
use time::OffsetDateTime;

/// The parts of a task that commands look at; everything else stays in the text it came in.
#[derive(Debug, Deserialize)]
pub(crate) struct Task {
    pub(crate) id: String,
    pub(crate) r#type: String,
    pub(crate) queue: String,
    pub(crate) priority: u8,
    pub(crate) state: State,
    pub(crate) progress: Option<Box<RawValue>>,
    pub(crate) attempt: u32,
    pub(crate) max_attempts: u32,
    pub(crate) payload: Option<Box<RawValue>>,
    pub(crate) result: Option<Box<RawValue>>,
    pub(crate) error: Option<String>,
    #[serde(default)]
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) worker: Option<String>,
    #[serde(default)]
    pub(crate) crashes: u32,
    #[serde(default)]
    pub(crate) unserved: bool,
    pub(crate) unique_key: Option<String>,
    pub(crate) retry_of: Option<String>,
    pub(crate) deadline: Option<String>,
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub(crate) due_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) created_at: OffsetDateTime,
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub(crate) started_at: Option<OffsetDateTime>,
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub(crate) finished_at: Option<OffsetDateTime>,
}

/// A failed attempt.
#[derive(Debug, Deserialize)]
pub(crate) struct Attempt {
    pub(crate) attempt: u32,
    pub(crate) error: String,
}

/// A page of tasks, each as the text it came in.
#[derive(Debug, Deserialize)]
pub(crate) struct Page {
    pub(crate) tasks: Vec<Box<RawValue>>,
    pub(crate) next_cursor: Option<String>,
}
