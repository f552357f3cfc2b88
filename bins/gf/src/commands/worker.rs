//! `gf worker`: what a worker can be told.

use anyhow::Result;

use crate::args::{OutputFormat, WorkerCommand};
use crate::client::{Client, segment};
use crate::output;

/// Tells it. Whether it heard shows in `gf workers` soon.
pub(super) async fn run(
    client: &Client,
    command: WorkerCommand,
    format: OutputFormat,
) -> Result<u8> {
    let (id, verb, says) = match command {
        WorkerCommand::Quiet(worker) => (worker.id, "quiet", "was told to be quiet"),
        WorkerCommand::Resume(worker) => (worker.id, "resume", "was told to go on"),
        WorkerCommand::Stop(worker) => (worker.id, "stop", "was told to stop"),
    };
    let text = client
        .post(&format!("v1/workers/{}/{verb}", segment(&id)))
        .await?;
    match format {
        OutputFormat::Json => output::json(&text)?,
        OutputFormat::Table => output::line(&format!("{id} {says}"))?,
    }
    Ok(0)
}
