//! `gf get`, `gf cancel`, `gf retry` and `gf run-again`.

use anyhow::Result;
use serde::Deserialize;

use crate::args::{Change, OutputFormat};
use crate::client::{Client, parse, task_path};
use crate::commands::bulk::{self, Action};
use crate::failure::Failure;
use crate::output::{self, clean};
use crate::task::Task;

/// Longest payload, result or error that is shown, in characters: `--output json` has all of it.
const MAX_SHOWN: usize = 2_000;

/// Shows a task.
pub(super) async fn get(client: &Client, id: &str, format: OutputFormat) -> Result<u8> {
    let text = client.get(&task_path(id)).await?;
    match format {
        OutputFormat::Json => output::json(&text)?,
        OutputFormat::Table => show(&parse(&text)?)?,
    }
    Ok(0)
}

fn show(task: &Task) -> Result<()> {
    let row = |name: &str, value: &str| match value {
        "" => Ok(()),
        value => output::line(&format!("{name:12}{}", clean(value, MAX_SHOWN))),
    };
    row("id", &task.id)?;
    row("type", &task.r#type)?;
    row("queue", &task.queue)?;
    row("priority", &task.priority.to_string())?;
    row(
        "state",
        &match task.unserved {
            true => format!("{} (no worker serves this type)", task.state),
            false => task.state.to_string(),
        },
    )?;
    row(
        "attempt",
        &format!("{} of {}", task.attempt, task.max_attempts),
    )?;
    row(
        "progress",
        task.progress.as_ref().map_or("", |progress| progress.get()),
    )?;
    if task.crashes > 0 {
        row("crashes", &task.crashes.to_string())?;
    }
    row(
        "payload",
        task.payload.as_ref().map_or("", |payload| payload.get()),
    )?;
    row(
        "result",
        task.result.as_ref().map_or("", |result| result.get()),
    )?;
    row("error", task.error.as_deref().unwrap_or_default())?;
    for failed in &task.attempts {
        row(&format!("attempt {}", failed.attempt), &failed.error)?;
    }
    row("worker", task.worker.as_deref().unwrap_or_default())?;
    row("unique key", task.unique_key.as_deref().unwrap_or_default())?;
    row("retry of", task.retry_of.as_deref().unwrap_or_default())?;
    row("deadline", task.deadline.as_deref().unwrap_or_default())?;
    row("created", &output::time(Some(task.created_at)))?;
    row("due", &output::time(task.due_at))?;
    row("started", &output::time(task.started_at))?;
    row("finished", &output::time(task.finished_at))
}

#[derive(Deserialize)]
struct Accepted {
    id: String,
}

/// Pushes a finished task anew and prints its new id.
pub(super) async fn run_again(client: &Client, id: &str, format: OutputFormat) -> Result<u8> {
    let text = client.post(&format!("{}/run-again", task_path(id))).await?;
    match format {
        OutputFormat::Json => output::json(&text)?,
        OutputFormat::Table => output::line(&parse::<Accepted>(&text)?.id)?,
    }
    Ok(0)
}

/// Cancels or retries tasks: those that pass filters, or these, one after the other. One that is refused does not
/// keep the others from it.
pub(super) async fn change(
    client: &Client,
    action: Action,
    change: Change,
    format: OutputFormat,
) -> Result<u8> {
    if change.ids.is_empty() {
        return bulk::run(client, action, change, format).await;
    }
    let verb = action.verb();
    let mut worst = 0;
    for id in &change.ids {
        match client.post(&format!("{}/{verb}", task_path(id))).await {
            Ok(text) if format == OutputFormat::Json => output::json(&text)?,
            Ok(text) => {
                let task: Task = parse(&text)?;
                output::line(&format!("{} {}", task.id, task.state))?;
            }
            Err(error) => match error.downcast_ref() {
                Some(Failure::Refused { detail, .. }) => {
                    eprintln!("gf: {detail}");
                    worst = 1;
                }
                _ => return Err(error),
            },
        }
    }
    Ok(worst)
}
