//! `gf queues`.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::args::OutputFormat;
use crate::client::{Client, parse};
use crate::output::{self, Table};

#[derive(Deserialize)]
struct Queues {
    queues: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
pub(super) struct Queue {
    pub(super) name: String,
    pub(super) paused: bool,
    scheduled: u64,
    queued: u64,
    running: u64,
    retrying: u64,
    pub(super) unserved: BTreeMap<String, u64>,
    oldest_seconds: Option<f64>,
    workers: u64,
}

impl Queue {
    /// Its unfinished tasks.
    pub(super) fn unfinished(&self) -> u64 {
        self.scheduled + self.queued + self.retrying
    }
}

/// The queues, each as the text it came in.
pub(super) async fn fetch(client: &Client) -> Result<Vec<Box<RawValue>>> {
    Ok(parse::<Queues>(&client.get("v1/queues").await?)?.queues)
}

/// Shows the queues.
pub(super) async fn run(client: &Client, format: OutputFormat) -> Result<u8> {
    let mut table = Table::new([
        "NAME",
        "QUEUED",
        "RUNNING",
        "RETRYING",
        "SCHEDULED",
        "OLDEST",
        "WORKERS",
        "STATE",
        "UNSERVED",
    ]);
    for text in fetch(client).await? {
        if format == OutputFormat::Json {
            output::json(text.get())?;
            continue;
        }
        let queue: Queue = parse(text.get())?;
        let unserved = queue
            .unserved
            .iter()
            .map(|(task_type, count)| format!("{task_type}:{count}"));
        table.row([
            queue.name,
            queue.queued.to_string(),
            queue.running.to_string(),
            queue.retrying.to_string(),
            queue.scheduled.to_string(),
            queue.oldest_seconds.map(age).unwrap_or_default(),
            queue.workers.to_string(),
            match queue.paused {
                true => "paused".to_owned(),
                false => String::new(),
            },
            unserved.collect::<Vec<_>>().join(" "),
        ]);
    }
    if format == OutputFormat::Table {
        table.print()?;
    }
    Ok(0)
}

fn age(seconds: f64) -> String {
    let age = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    let coarse = if age.as_secs() == 0 {
        Duration::from_millis(age.as_millis() as u64)
    } else {
        Duration::from_secs(age.as_secs())
    };
    humantime::format_duration(coarse).to_string()
}
