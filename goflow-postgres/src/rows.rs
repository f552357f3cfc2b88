//! Rows as the port knows them.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use goflow_core::record::{FailedAttempt, TaskRecord};
use goflow_core::state::Live;
use goflow_core::store::Dispatch;
use goflow_core::{Backoff, Content, Priority, Start, State, TaskId, TaskSpec, WorkerId};
use serde::{Deserialize, Serialize};
use sqlx::postgres::{PgRow, PgTypeInfo, PgValueRef};
use sqlx::types::Json;
use sqlx::{Decode, FromRow, Postgres, Row, Type};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::push_options::PushOptions;

/// The columns of a spec.
#[derive(FromRow)]
pub(crate) struct SpecRow {
    id: Uuid,
    namespace: String,
    queue: String,
    #[sqlx(rename = "type")]
    task_type: String,
    payload: Vec<u8>,
    content_type: String,
    headers: Option<Json<BTreeMap<String, String>>>,
    tags: Option<Json<BTreeMap<String, String>>>,
    max_attempts: i32,
    backoff: Option<Json<Backoff>>,
    timeout_ms: Option<i64>,
    start: Option<Json<Start>>,
    priority: Option<i16>,
    retry_of: Option<Uuid>,
    options: Option<Json<PushOptions>>,
}

impl TryFrom<SpecRow> for TaskSpec {
    type Error = sqlx::Error;
    fn try_from(row: SpecRow) -> Result<Self, sqlx::Error> {
        let options = row.options.map(|options| options.0).unwrap_or_default();
        let priority = |number: i16| {
            let number = u8::try_from(number).map_err(undecodable)?;
            Priority::try_from(number).map_err(undecodable)
        };
        Ok(Self {
            id: TaskId::from(row.id),
            namespace: row.namespace.try_into().map_err(undecodable)?,
            queue: row.queue.try_into().map_err(undecodable)?,
            task_type: row.task_type.try_into().map_err(undecodable)?,
            payload: Content {
                bytes: Bytes::from(row.payload),
                content_type: row.content_type.into(),
            },
            headers: row.headers.map(|headers| headers.0).unwrap_or_default(),
            tags: row.tags.map(|tags| tags.0).unwrap_or_default(),
            max_attempts: count(row.max_attempts),
            backoff: row.backoff.map(|backoff| backoff.0).unwrap_or_default(),
            timeout: row
                .timeout_ms
                .map(|ms| std::time::Duration::from_millis(u64::try_from(ms).unwrap_or(0))),
            start: row.start.map(|start| start.0).unwrap_or_default(),
            priority: row.priority.map(priority).transpose()?.unwrap_or_default(),
            deadline: options.deadline,
            unique: options.unique,
            retention: options.retention,
            heartbeat_timeout: options.heartbeat_timeout,
            retry_of: row.retry_of.map(TaskId::from),
        })
    }
}

/// A message to publish.
#[derive(FromRow)]
struct DispatchRow {
    #[sqlx(flatten)]
    spec: SpecRow,
    attempt: i32,
    dispatch: i32,
}

impl TryFrom<DispatchRow> for Dispatch {
    type Error = sqlx::Error;
    fn try_from(row: DispatchRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            spec: Arc::new(row.spec.try_into()?),
            attempt: count(row.attempt),
            dispatch: count(row.dispatch),
        })
    }
}

/// One row of a claim: a message to publish, and, in the first row, what there is to say of all. A row that cannot be
/// read does not keep the others from being dispatched.
pub(crate) struct ClaimRow {
    pub(crate) dispatch: Option<(Uuid, Result<Dispatch, sqlx::Error>)>,
    pub(crate) looked_at: Option<i64>,
    pub(crate) late: Option<Vec<Uuid>>,
}

impl FromRow<'_, PgRow> for ClaimRow {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let id: Option<Uuid> = row.try_get("id")?;
        Ok(Self {
            dispatch: id.map(|id| (id, DispatchRow::from_row(row).and_then(Dispatch::try_from))),
            looked_at: row.try_get("looked_at")?,
            late: row.try_get("late")?,
        })
    }
}

/// A record, from either table.
#[derive(FromRow)]
pub(crate) struct RecordRow {
    #[sqlx(flatten)]
    spec: SpecRow,
    state: String,
    attempt: i32,
    attempt_limit: i32,
    dispatch: i32,
    result: Option<Vec<u8>>,
    result_content_type: Option<String>,
    error: Option<String>,
    attempts: Option<Json<Vec<AttemptJson>>>,
    worker: Option<Uuid>,
    crashes: i32,
    unserved: bool,
    due_at: Option<OffsetDateTime>,
    started_at: Option<OffsetDateTime>,
    finished_at: Option<OffsetDateTime>,
    payload_omitted: bool,
    result_omitted: bool,
}

impl TryFrom<RecordRow> for TaskRecord {
    type Error = sqlx::Error;
    fn try_from(row: RecordRow) -> Result<Self, sqlx::Error> {
        let result = row.result.zip(row.result_content_type);
        let attempts = row.attempts.map(|attempts| attempts.0).unwrap_or_default();
        Ok(Self {
            spec: Arc::new(row.spec.try_into()?),
            state: row.state.parse().map_err(undecodable)?,
            attempt: count(row.attempt),
            max_attempts: count(row.attempt_limit),
            dispatch: count(row.dispatch),
            result: result.map(|(bytes, content_type)| Content {
                bytes: Bytes::from(bytes),
                content_type: content_type.into(),
            }),
            error: row.error,
            attempts: attempts.into_iter().map(FailedAttempt::from).collect(),
            worker: row.worker.map(WorkerId),
            crashes: count(row.crashes),
            unserved: row.unserved,
            progress: None,
            due_at: row.due_at,
            started_at: row.started_at,
            finished_at: row.finished_at,
            payload_omitted: row.payload_omitted,
            result_omitted: row.result_omitted,
        })
    }
}

/// A JSON column that decides nothing by itself. A newer goflow may have written what this one does not know: the
/// row counts with the default then, and its neighbours are not held up.
struct Known<T>(Option<T>);

impl<T> Type<Postgres> for Known<T> {
    fn type_info() -> PgTypeInfo {
        <Json<T> as Type<Postgres>>::type_info()
    }

    fn compatible(column: &PgTypeInfo) -> bool {
        <Json<T> as Type<Postgres>>::compatible(column)
    }
}

impl<'r, T: serde::de::DeserializeOwned> Decode<'r, Postgres> for Known<T> {
    fn decode(value: PgValueRef<'r>) -> Result<Self, sqlx::error::BoxDynError> {
        let known = <Json<T> as Decode<Postgres>>::decode(value);
        if let Err(error) = &known {
            tracing::warn!(%error, "a row holds options that this version does not know");
        }
        Ok(Self(known.ok().map(|json| json.0)))
    }
}

/// What decides, of a row that is locked.
#[derive(FromRow)]
pub(crate) struct LiveRow {
    pub(crate) id: Uuid,
    state: String,
    attempt: i32,
    attempt_limit: i32,
    dispatch: i32,
    waiting: bool,
    starts: i32,
    unserved: i32,
    backoff: Option<Known<Backoff>>,
    pub(crate) queue: String,
    #[sqlx(rename = "type")]
    pub(crate) task_type: String,
    options: Option<Known<PushOptions>>,
    /// Whether its deadline has passed.
    pub(crate) late: bool,
    #[sqlx(default)]
    worker: Option<Uuid>,
    #[sqlx(default)]
    started_at: Option<OffsetDateTime>,
}

impl LiveRow {
    pub(crate) fn options(&self) -> PushOptions {
        self.options
            .as_ref()
            .and_then(|options| options.0.clone())
            .unwrap_or_default()
    }

    pub(crate) fn backoff(&self) -> Backoff {
        self.backoff
            .as_ref()
            .and_then(|backoff| backoff.0.clone())
            .unwrap_or_default()
    }

    pub(crate) fn live(&self) -> Result<Live, sqlx::Error> {
        let state: State = self.state.parse().map_err(undecodable)?;
        Ok(Live {
            state,
            attempt: count(self.attempt),
            max_attempts: count(self.attempt_limit),
            dispatch: count(self.dispatch),
            waiting: self.waiting,
            starts: count(self.starts),
            last_start: self.worker.map(WorkerId).zip(self.started_at),
            unserved: count(self.unserved),
        })
    }
}

/// A failed attempt as `gf_history.attempts` holds it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct AttemptJson {
    attempt: u32,
    error: String,
    worker: Option<Uuid>,
    #[serde(with = "time::serde::rfc3339::option")]
    started_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339")]
    finished_at: OffsetDateTime,
}

impl From<AttemptJson> for FailedAttempt {
    fn from(json: AttemptJson) -> Self {
        Self {
            attempt: json.attempt,
            error: json.error,
            worker: json.worker.map(WorkerId),
            started_at: json.started_at,
            finished_at: json.finished_at,
        }
    }
}

impl From<&FailedAttempt> for AttemptJson {
    fn from(failed: &FailedAttempt) -> Self {
        Self {
            attempt: failed.attempt,
            error: failed.error.clone(),
            worker: failed.worker.map(|worker| worker.0),
            started_at: failed.started_at,
            finished_at: failed.finished_at,
        }
    }
}

/// A counter of the schema; never negative.
pub(crate) fn count(number: i32) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

pub(crate) fn undecodable(error: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::Decode(Box::new(error))
}
