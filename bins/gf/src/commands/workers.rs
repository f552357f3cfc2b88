//! `gf workers`.

use anyhow::Result;
use serde::Deserialize;
use serde_json::value::RawValue;
use time::OffsetDateTime;

use crate::args::OutputFormat;
use crate::client::{Client, parse};
use crate::output::{self, Table};

#[derive(Deserialize)]
struct Workers {
    workers: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Worker {
    id: String,
    host: String,
    pid: u32,
    version: String,
    queues: Vec<String>,
    types: Vec<String>,
    slots: u64,
    draining: bool,
    quiet: bool,
    tasks: Vec<Held>,
    #[serde(with = "time::serde::rfc3339")]
    last_seen: OffsetDateTime,
}

/// A task in the hands of a worker.
#[derive(Deserialize)]
struct Held {
    id: String,
    queue: String,
    attempt: u32,
    #[serde(with = "time::serde::rfc3339::option")]
    started_at: Option<OffsetDateTime>,
    progress: Option<Box<RawValue>>,
}

/// The live workers, each as the text it came in.
pub(super) async fn fetch(client: &Client) -> Result<Vec<Box<RawValue>>> {
    Ok(parse::<Workers>(&client.get("v1/workers").await?)?.workers)
}

/// Shows the live workers, and below them what they run.
pub(super) async fn run(client: &Client, format: OutputFormat) -> Result<u8> {
    let mut table = Table::new([
        "ID", "HOST", "PID", "VERSION", "SLOTS", "TASKS", "RUNNING", "QUEUES", "TYPES", "SEEN",
        "STATE",
    ]);
    let mut running = Table::new(["TASK", "QUEUE", "ATTEMPT", "SINCE", "PROGRESS", "WORKER"]);
    let mut any = false;
    for text in fetch(client).await? {
        if format == OutputFormat::Json {
            output::json(text.get())?;
            continue;
        }
        let worker: Worker = parse(text.get())?;
        let state = match (worker.draining, worker.quiet) {
            (true, _) => "draining",
            (false, true) => "quiet",
            (false, false) => "live",
        };
        let started: Vec<_> = worker
            .tasks
            .iter()
            .filter(|task| task.started_at.is_some())
            .collect();
        for task in &started {
            any = true;
            running.row([
                task.id.clone(),
                task.queue.clone(),
                task.attempt.to_string(),
                output::time(task.started_at),
                task.progress
                    .as_ref()
                    .map_or_else(String::new, |json| gf_gateway::on_one_line(json.get())),
                worker.id.clone(),
            ]);
        }
        table.row([
            worker.id,
            worker.host,
            worker.pid.to_string(),
            worker.version,
            worker.slots.to_string(),
            worker.tasks.len().to_string(),
            started.len().to_string(),
            worker.queues.join(","),
            worker.types.join(","),
            output::time(Some(worker.last_seen)),
            state.to_owned(),
        ]);
    }
    if format == OutputFormat::Table {
        table.print()?;
        if any {
            output::line("")?;
            running.print()?;
        }
    }
    Ok(0)
}
