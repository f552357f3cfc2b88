//! `gf get`, `gf cancel` and `gf retry`.

use anyhow::Result;

use crate::args::OutputFormat;
use crate::client::{Client, parse, task_path};
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
    row("created", &output::time(Some(task.created_at)))?;
    row("due", &output::time(task.due_at))?;
    row("started", &output::time(task.started_at))?;
    row("finished", &output::time(task.finished_at))
}

/// Cancels or retries tasks, one after the other. One that is refused does not keep the others from it.
pub(super) async fn change(
    client: &Client,
    ids: &[String],
    change: &str,
    format: OutputFormat,
) -> Result<u8> {
    let mut worst = 0;
    for id in ids {
        match client.post(&format!("{}/{change}", task_path(id))).await {
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
