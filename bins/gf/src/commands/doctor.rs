//! `gf doctor`: what is wrong, and what to do about it.

use std::fmt;

use anyhow::Result;
use serde::Deserialize;

use crate::args::Doctor;
use crate::client::{Client, parse};
use crate::commands::{queues, workers};
use crate::output::{self, clean};

mod servers;

/// Longest line about a check, in characters.
const MAX_LINE: usize = 300;

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Ok,
    Warn,
    Fail,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        })
    }
}

/// The checks made so far.
#[derive(Debug, Default)]
struct Report {
    failed: bool,
}

impl Report {
    fn note(&mut self, found: Found, what: &str, says: impl fmt::Display) -> Result<()> {
        self.failed |= found == Found::Fail;
        output::line(&format!(
            "{found:4}  {what:10}  {}",
            clean(&says.to_string(), MAX_LINE)
        ))
    }
}

#[derive(Deserialize)]
struct Ready {
    ready: bool,
    record: String,
    store: Part,
    broker: Part,
}

#[derive(Deserialize)]
struct Part {
    ok: bool,
    detail: Option<String>,
}

/// Makes all checks and prints one line for each; 1 when one failed.
pub(super) async fn run(client: &Client, doctor: Doctor) -> Result<u8> {
    let mut report = Report::default();
    let record = gateway(client, &mut report).await?;
    if let Some(broker) = doctor.broker.filter(|broker| !broker.is_memory()) {
        servers::broker(
            &broker,
            doctor.nats_monitor.as_deref(),
            record.as_deref(),
            &mut report,
        )
        .await?;
    }
    if let Some(store) = doctor.store.filter(|store| !store.is_memory()) {
        servers::store(&store, &mut report).await?;
    }
    Ok(u8::from(report.failed))
}

/// Checks the gateway; which record mode it has, if it tells.
async fn gateway(client: &Client, report: &mut Report) -> Result<Option<String>> {
    let answer = client
        .answer(client.request(reqwest::Method::GET, "readyz")?)
        .await;
    let ready: Ready = match answer.and_then(|(_, text)| parse(&text)) {
        Ok(ready) => ready,
        Err(error) => {
            report.note(Found::Fail, "gateway", format_args!("{error:#}"))?;
            return Ok(None);
        }
    };
    if ready.ready {
        report.note(
            Found::Ok,
            "gateway",
            format_args!(
                "{} accepts pushes, record mode {}",
                client.server(),
                ready.record
            ),
        )?;
    } else {
        report.note(
            Found::Fail,
            "gateway",
            format_args!("{} accepts no pushes", client.server()),
        )?;
    }
    for (part, name) in [(&ready.store, "its store"), (&ready.broker, "its broker")] {
        let detail = part.detail.as_deref().unwrap_or("does not answer");
        match (part.ok, ready.ready) {
            (true, _) => report.note(Found::Ok, name, "answers")?,
            (false, true) => report.note(
                Found::Warn,
                name,
                format_args!("{detail}; pushes are kept until it is back"),
            )?,
            (false, false) => report.note(
                Found::Fail,
                name,
                format_args!("{detail}; see that it runs and that the gateway reaches it"),
            )?,
        }
    }
    // Without its store the gateway cannot say more.
    if ready.store.ok {
        worker_fleet(client, report).await?;
    }
    Ok(Some(ready.record))
}

async fn worker_fleet(client: &Client, report: &mut Report) -> Result<()> {
    match workers::fetch(client).await {
        Ok(live) if live.is_empty() => {
            report.note(
                Found::Warn,
                "workers",
                "none is alive: nothing runs until one starts, such as gf-worker --broker URL",
            )?;
        }
        Ok(live) => report.note(Found::Ok, "workers", format_args!("{} alive", live.len()))?,
        Err(error) => report.note(Found::Fail, "workers", format_args!("{error:#}"))?,
    }
    let queues = match queues::fetch(client).await {
        Ok(queues) => queues,
        Err(error) => return report.note(Found::Fail, "queues", format_args!("{error:#}")),
    };
    for text in &queues {
        let queue: queues::Queue = parse(text.get())?;
        if queue.paused {
            let says = format!(
                "{} is paused, and {} tasks wait: gf queue resume {0} starts them",
                queue.name,
                queue.unfinished()
            );
            report.note(Found::Warn, "queues", says)?;
        }
        for (task_type, count) in &queue.unserved {
            let says = format!(
                "{count} tasks of type {task_type} wait in {}: no worker of that queue serves the type",
                queue.name
            );
            report.note(Found::Warn, "queues", says)?;
        }
    }
    report.note(Found::Ok, "queues", format_args!("{} known", queues.len()))
}
