//! `gf queue`: what can be done to a queue.

use anyhow::Result;
use reqwest::Method;
use serde_json::json;

use crate::args::{OutputFormat, Purge, QueueCommand};
use crate::client::{Client, parse, segment};
use crate::commands::bulk::{Changed, PATIENCE, Tally};
use crate::commands::queues::{self, Queue};
use crate::confirm::confirm;
use crate::output;

/// Does it.
pub(super) async fn run(
    client: &Client,
    command: QueueCommand,
    format: OutputFormat,
) -> Result<u8> {
    let (name, verb, done) = match command {
        QueueCommand::Pause(queue) => (queue.name, "pause", "paused"),
        QueueCommand::Resume(queue) => (queue.name, "resume", "resumed"),
        QueueCommand::Purge(purge) => return self::purge(client, purge, format).await,
    };
    let text = client
        .post(&format!("v1/queues/{}/{verb}", segment(&name)))
        .await?;
    match format {
        OutputFormat::Json => output::json(&text)?,
        OutputFormat::Table => output::line(&format!("{name} {done}"))?,
    }
    Ok(0)
}

async fn purge(client: &Client, purge: Purge, format: OutputFormat) -> Result<u8> {
    let Purge { name, yes } = purge;
    if !yes {
        let tasks = unfinished(client, &name).await?;
        if !confirm(&format!("cancel all {tasks} unfinished tasks of {name}"))? {
            return Ok(1);
        }
    }
    let path = format!("v1/queues/{}/purge", segment(&name));
    let mut tally = Tally::default();
    loop {
        let request = client.request(Method::POST, &path)?.timeout(PATIENCE);
        let request = request.json(&json!({ "confirm": name }));
        let round: Changed = parse(&client.send(request).await?)?;
        if !tally.add(&round, "cancelled") {
            break;
        }
    }
    tally.print("cancelled", format)?;
    Ok(0)
}

/// How many tasks a purge would cancel; none of a queue that nobody knows.
async fn unfinished(client: &Client, name: &str) -> Result<u64> {
    for text in queues::fetch(client).await? {
        let queue: Queue = parse(text.get())?;
        if queue.name == name {
            return Ok(queue.unfinished());
        }
    }
    Ok(0)
}
