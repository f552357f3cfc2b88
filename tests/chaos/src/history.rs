//! The history: every request of every client, and what it got for an answer.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use goflow_core::{State, TaskId};
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::clock::Micros;

/// What a client asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Asked {
    /// A push.
    Push,
    /// A push with an idempotency key.
    PushKeyed,
    /// A push as one of a batch.
    PushBatch,
    /// The task as it is.
    Read,
    /// The task, once it has ended or a while has passed.
    Wait,
    /// Its cancellation.
    Cancel,
    /// Another try of it.
    Retry,
}

impl Asked {
    /// Whether it is a push.
    pub fn is_push(self) -> bool {
        matches!(self, Self::Push | Self::PushKeyed | Self::PushBatch)
    }
}

/// What a client got for an answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// A push was accepted.
    Accepted(TaskId),
    /// The task.
    Task(Box<Seen>),
    /// A clear no, with this status and code: nothing was done.
    No(u16, String),
    /// No answer, or one that leaves open what was done.
    Unknown(String),
}

/// A task as a gateway showed it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Seen {
    /// Its state.
    pub state: State,
    /// Its attempt.
    pub attempt: u32,
    /// Attempts it has.
    pub max_attempts: u32,
    /// Its result, as the text of its JSON.
    pub result: Option<String>,
    /// Its last error.
    pub error: Option<String>,
    /// Its failed attempts.
    pub attempts: Vec<SeenAttempt>,
    /// The worker of its last outcome.
    pub worker: Option<Uuid>,
    /// Deliveries that ended without an outcome.
    pub crashes: u32,
    /// When its last attempt started.
    pub started_at: Option<OffsetDateTime>,
    /// When it ended.
    pub finished_at: Option<OffsetDateTime>,
    /// When it is due, while it waits.
    pub due_at: Option<OffsetDateTime>,
}

/// A failed attempt as a gateway showed it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SeenAttempt {
    /// Which.
    pub attempt: u32,
    /// Its error.
    pub error: String,
    /// When it ended.
    pub finished_at: OffsetDateTime,
}

impl Seen {
    /// Reads the JSON of a task.
    ///
    /// # Errors
    /// When it is not what a gateway shows.
    pub fn parse(task: &Value) -> Result<Self> {
        let text = |name: &str| task[name].as_str();
        let number = |name: &str| {
            let number = task[name].as_u64().and_then(|n| u32::try_from(n).ok());
            number.with_context(|| format!("a number {name}"))
        };
        let attempts = task["attempts"].as_array().context("attempts")?;
        let attempt = |attempt: &Value| {
            let number = attempt["attempt"].as_u64().context("an attempt's number")?;
            Ok(SeenAttempt {
                attempt: u32::try_from(number)?,
                error: attempt["error"].as_str().context("its error")?.to_owned(),
                finished_at: moment(attempt["finished_at"].as_str())?.context("its end")?,
            })
        };
        Ok(Self {
            state: text("state").context("a state")?.parse()?,
            attempt: number("attempt")?,
            max_attempts: number("max_attempts")?,
            result: (!task["result"].is_null()).then(|| task["result"].to_string()),
            error: text("error").map(str::to_owned),
            attempts: attempts.iter().map(attempt).collect::<Result<_>>()?,
            worker: text("worker").map(str::parse).transpose()?,
            crashes: number("crashes")?,
            started_at: moment(text("started_at"))?,
            finished_at: moment(text("finished_at"))?,
            due_at: moment(text("due_at"))?,
        })
    }
}

fn moment(text: Option<&str>) -> Result<Option<OffsetDateTime>> {
    let parse = |text| OffsetDateTime::parse(text, &Rfc3339);
    Ok(text.map(parse).transpose()?)
}

/// One request and its answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Event {
    /// The number of the task.
    pub n: u32,
    /// When it was asked.
    pub asked_at: Micros,
    /// When the answer was there.
    pub answered_at: Micros,
    /// Which gateway was asked.
    pub gateway: usize,
    /// What for.
    pub asked: Asked,
    /// The answer.
    pub answer: Answer,
}

impl Event {
    /// The task that was accepted, if one was.
    pub fn accepted(&self) -> Option<TaskId> {
        match self.answer {
            Answer::Accepted(id) => Some(id),
            _ => None,
        }
    }
}

/// All requests and answers so far, in the order of the answers; each is a line of a file, too.
#[derive(Debug)]
pub struct History(Mutex<Kept>);

#[derive(Debug)]
struct Kept {
    events: Vec<Event>,
    file: BufWriter<File>,
}

impl History {
    /// An empty one, kept in this file.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("make {}", path.display()))?;
        Ok(Self(Mutex::new(Kept {
            events: Vec::new(),
            file: BufWriter::new(file),
        })))
    }

    /// Adds an event.
    pub fn add(&self, event: Event) {
        let line = serde_json::to_string(&event).unwrap_or_default();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A full disk costs the file; what counts is in memory.
        drop(writeln!(kept.file, "{line}"));
        kept.events.push(event);
    }

    /// The tasks that were accepted so far.
    pub fn accepted(&self) -> BTreeSet<TaskId> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.events.iter().filter_map(Event::accepted).collect()
    }

    /// Takes all events out.
    pub fn take(&self) -> Vec<Event> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(kept.file.flush());
        std::mem::take(&mut kept.events)
    }
}
