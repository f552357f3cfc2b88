//! What the store has in the end, read past all gateways.

use std::collections::HashMap;

use anyhow::{Context, Result};
use futures_util::TryStreamExt;
use goflow_core::{State, TaskId};
use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{Connection, PgConnection, Row};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::history::{Seen, SeenAttempt};
use crate::work::Job;

/// A task as the store has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Its id.
    pub id: TaskId,
    /// Its payload, if it is one of the harness.
    pub job: Option<Job>,
    /// Whether it succeeded and has an empty payload.
    pub is_without_payload: bool,
    /// Its last dispatch.
    pub dispatch: u32,
    /// What a gateway would show.
    pub seen: Seen,
}

/// How many tasks have not ended: those that the store says so of, and those of `accepted` that it does not know.
///
/// # Errors
/// When the store does not answer.
pub async fn unfinished(store: &str, accepted: &[Uuid]) -> Result<u64> {
    let count = "select (select count(*) from gf_task)
        + (select count(*) from unnest($1) accepted
            where not exists (select from goflow_tasks where id = accepted))";
    let mut connection = PgConnection::connect(store).await?;
    let count: i64 = sqlx::query_scalar(count)
        .bind(accepted)
        .fetch_one(&mut connection)
        .await?;
    Ok(count.unsigned_abs())
}

/// Every task, finished or not.
///
/// # Errors
/// When the store does not answer.
pub async fn read(store: &str) -> Result<Vec<Record>> {
    let connection = PgConnection::connect(store).await;
    let mut connection = connection.context("connect to the store")?;
    // Dispatches are not in the view that people use.
    let dispatches =
        "select id, dispatch from gf_task union all select id, dispatch from gf_history";
    let dispatches: HashMap<Uuid, i32> = sqlx::query_as::<_, (Uuid, i32)>(dispatches)
        .fetch(&mut connection)
        .try_collect()
        .await
        .context("read the dispatches")?;
    let columns = "select id, state, attempt, max_attempts, payload_bytes, result_bytes, error, attempts, worker, \
                   crashes, started_at, finished_at from goflow_tasks";
    let mut rows = sqlx::query(columns).fetch(&mut connection);
    let mut records = Vec::new();
    while let Some(row) = rows.try_next().await.context("read the tasks")? {
        records.push(record(&row, &dispatches)?);
    }
    Ok(records)
}

fn record(row: &PgRow, dispatches: &HashMap<Uuid, i32>) -> Result<Record> {
    let number = |name: &str| -> Result<u32> { Ok(u32::try_from(row.try_get::<i32, _>(name)?)?) };
    let id: Uuid = row.try_get("id")?;
    let payload: Vec<u8> = row.try_get("payload_bytes")?;
    let result: Option<Vec<u8>> = row.try_get("result_bytes")?;
    let Json(attempts): Json<Vec<Value>> = row.try_get("attempts")?;
    let seen = Seen {
        state: row.try_get::<String, _>("state")?.parse()?,
        attempt: number("attempt")?,
        max_attempts: number("max_attempts")?,
        result: result.map(|bytes| text(&bytes)),
        error: row.try_get("error")?,
        attempts: attempts.iter().map(attempt).collect::<Result<_>>()?,
        worker: row.try_get("worker")?,
        crashes: number("crashes")?,
        started_at: row.try_get("started_at")?,
        finished_at: row.try_get("finished_at")?,
        due_at: None,
    };
    Ok(Record {
        id: id.into(),
        job: serde_json::from_slice(&payload).ok(),
        is_without_payload: payload.is_empty() && seen.state == State::Succeeded,
        dispatch: dispatches
            .get(&id)
            .map_or(0, |dispatch| dispatch.unsigned_abs()),
        seen,
    })
}

/// The text of a result as [`Seen`] has it: JSON, written anew.
fn text(bytes: &[u8]) -> String {
    match serde_json::from_slice::<Value>(bytes) {
        Ok(json) => json.to_string(),
        Err(_) => String::from_utf8_lossy(bytes).into_owned(),
    }
}

fn attempt(value: &Value) -> Result<SeenAttempt> {
    let number = value["attempt"].as_u64().context("an attempt's number")?;
    let time = value["finished_at"].as_str().context("an attempt's end")?;
    Ok(SeenAttempt {
        attempt: u32::try_from(number)?,
        error: value["error"].as_str().unwrap_or_default().to_owned(),
        finished_at: OffsetDateTime::parse(time, &Rfc3339)?,
    })
}
