//! `gf workers`.

use anyhow::Result;
use serde::Deserialize;
use serde::de::IgnoredAny;
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
    tasks: Vec<IgnoredAny>,
    #[serde(with = "time::serde::rfc3339")]
    last_seen: OffsetDateTime,
}

/// The live workers, each as the text it came in.
pub(super) async fn fetch(client: &Client) -> Result<Vec<Box<RawValue>>> {
    Ok(parse::<Workers>(&client.get("v1/workers").await?)?.workers)
}

/// Shows the live workers.
pub(super) async fn run(client: &Client, format: OutputFormat) -> Result<u8> {
    let mut table = Table::new([
        "ID", "HOST", "PID", "VERSION", "SLOTS", "TASKS", "QUEUES", "TYPES", "SEEN", "STATE",
    ]);
    for text in fetch(client).await? {
        if format == OutputFormat::Json {
            output::json(text.get())?;
            continue;
        }
        let worker: Worker = parse(text.get())?;
        table.row([
            worker.id,
            worker.host,
            worker.pid.to_string(),
            worker.version,
            worker.slots.to_string(),
            worker.tasks.len().to_string(),
            worker.queues.join(","),
            worker.types.join(","),
            output::time(Some(worker.last_seen)),
            if worker.draining {
                "draining".to_owned()
            } else {
                "live".to_owned()
            },
        ]);
    }
    if format == OutputFormat::Table {
        table.print()?;
    }
    Ok(0)
}
