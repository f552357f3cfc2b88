//! `gf push` and `gf wait`.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use goflow_core::{OnConflict, State};
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::args::Push;
use crate::client::{self, Client};
use crate::failure::Failure;
use crate::output;
use crate::payload;

#[derive(Serialize)]
struct Body {
    r#type: String,
    payload: Box<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delay: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_attempts: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backoff: Option<Backoff>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unique: Option<Unique>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retention: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    heartbeat_timeout: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tags: BTreeMap<String, String>,
}

/// The waits between attempts; the last one repeats.
#[derive(Serialize)]
struct Backoff {
    list: Vec<String>,
}

#[derive(Serialize)]
struct Unique {
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    period: Option<String>,
    on_conflict: OnConflict,
}

#[derive(Deserialize)]
struct Accepted {
    id: String,
}

/// Pushes a task; waits for it if asked to.
pub(super) async fn run(client: &Client, push: Push) -> Result<u8> {
    let key = push
        .idempotency_key
        .as_deref()
        .map(HeaderValue::from_str)
        .transpose();
    let key = key.map_err(|_| Failure::Usage("--idempotency-key: use visible ASCII".to_owned()))?;
    let span = |span: Duration| humantime::format_duration(span).to_string();
    let body = Body {
        payload: payload::read(&push.payload, push.content_type.as_deref())?,
        r#type: push.task_type,
        content_type: push.content_type,
        queue: push.queue,
        delay: push.delay.map(span),
        run_at: push.run_at,
        max_attempts: push.max_attempts,
        backoff: (!push.backoff.is_empty()).then(|| Backoff {
            list: push.backoff.into_iter().map(span).collect(),
        }),
        timeout: push.timeout_per_attempt.map(span),
        priority: push.priority,
        deadline: push.deadline,
        unique: push.unique.map(|key| Unique {
            key,
            period: push.unique_period.map(span),
            on_conflict: match push.unique_reject {
                true => OnConflict::Reject,
                false => OnConflict::Existing,
            },
        }),
        retention: push.retention.map(span),
        heartbeat_timeout: push.heartbeat_timeout.map(span),
        headers: push.header.into_iter().collect(),
        tags: push.tag.into_iter().collect(),
    };
    let mut request = client.request(Method::POST, "v1/tasks")?;
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    let request = request
        .header(CONTENT_TYPE, "application/json")
        .body(serde_json::to_vec(&body)?);
    let Accepted { id } = client::parse(&client.send(request).await?)?;
    if push.wait {
        return wait(client, &id, push.timeout).await;
    }
    output::line(&id)?;
    Ok(0)
}

/// Waits for a task and prints its result, or says on stderr how else it ended.
pub(super) async fn wait(client: &Client, id: &str, timeout: Duration) -> Result<u8> {
    let task = client.wait(id, timeout).await?;
    if task.state == State::Succeeded {
        output::json(task.result.as_ref().map_or("null", |result| result.get()))?;
        return Ok(0);
    }
    let error = task
        .error
        .map(|error| format!(": {}", error.trim_end()))
        .unwrap_or_default();
    eprintln!("gf: task {id} {}{error}", ended(task.state));
    Ok(1)
}

fn ended(state: State) -> String {
    match state {
        State::Cancelled => "was cancelled".to_owned(),
        other => other.to_string(),
    }
}
