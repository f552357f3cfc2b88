//! The life of the program.

use anyhow::{Context, Result, bail};
use gf_process::{Usage, adapters, logging, shutdown};
use tracing::info;

use crate::args::Args;
use crate::stock::stock_handlers;

/// Runs tasks until SIGTERM, SIGINT or an operator's command to stop, then lets what runs end for the grace and gives the rest back.
///
/// # Errors
/// When a setting is wrong, the broker cannot be reached at the start, or the shutdown fails.
pub async fn run(args: Args) -> Result<()> {
    logging::init(args.log_format)?;
    if args.broker.is_memory() {
        bail!(Usage(
            "a memory broker has no workers outside its process: use nats://HOST:PORT, or `gf dev` or gf-gateway \
             with --num-workers, which run workers inside"
                .to_owned()
        ));
    }
    let handlers = stock_handlers(args.worker.handlers_path.as_deref())?;
    let types = handlers.types();
    let connection = adapters::broker(&args.broker).await?;
    let builder = args.worker.builder(connection.clone(), handlers);
    let worker = builder.build().context("set up the worker")?;
    worker.start().await.context("start the worker")?;
    info!(worker = %worker.id(), broker = %args.broker, queues = ?args.worker.queues, ?types, "taking tasks");
    shutdown::signal_or("a command", worker.told_to_stop()).await;
    let closed = worker.close().await.context("shut down");
    // What the worker said last has to be on its way before the process ends.
    connection.control.close().await;
    closed
}
