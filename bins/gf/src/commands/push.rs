//! `gf push` and `gf wait`.

use std::time::Duration;

use anyhow::Result;
use goflow_core::State;
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use serde::Deserialize;

use crate::args::{OutputFormat, Push};
use crate::client::{self, Client};
use crate::failure::Failure;
use crate::output;
use crate::payload;

mod batch;
mod body;

#[doc(hidden)]
pub use batch::bodies;
use body::Body;

#[derive(Deserialize)]
struct Accepted {
    id: String,
}

/// Pushes a task, and waits for it if asked to; or pushes one for each line of a file.
pub(super) async fn run(client: &Client, push: Push, format: OutputFormat) -> Result<u8> {
    if let Some(file) = push.batch.clone() {
        return batch::run(client, push, &file, format).await;
    }
    let key = push
        .idempotency_key
        .as_deref()
        .map(HeaderValue::from_str)
        .transpose();
    let key = key.map_err(|_| Failure::Usage("--idempotency-key: use visible ASCII".to_owned()))?;
    let (wait_for_it, timeout) = (push.wait, push.timeout);
    let payload = payload::read(&push.payload, push.content_type.as_deref())?;
    let body = Body::new(push, payload);
    let mut request = client.request(Method::POST, "v1/tasks")?;
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    let request = request
        .header(CONTENT_TYPE, "application/json")
        .body(serde_json::to_vec(&body)?);
    let Accepted { id } = client::parse(&client.send(request).await?)?;
    if wait_for_it {
        return wait(client, &id, timeout).await;
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
