//! The harness's own worker: `gf-worker` with a handler in its process that keeps the ledger. As `chaos-worker
//! handle LEDGER MARKS` it is that handler as an executable, for stock workers; as `chaos-worker stock ARGS` it becomes
//! such a worker.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::Parser;
use gf_process::{adapters, logging, shutdown};
use goflow_chaos::handler::{self, Place};
use goflow_core::Handlers;

/// Runs the tasks of the fault harness.
#[derive(Debug, Parser)]
struct ChaosArgs {
    #[command(flatten)]
    worker: gf_worker::Args,

    /// The file that each run is written to
    #[arg(long, value_name = "FILE")]
    ledger: PathBuf,

    /// A directory for notes on what is done only once
    #[arg(long, value_name = "DIR")]
    marks: PathBuf,
}

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    let other = match &args[..] {
        [_, command, ledger, marks] if command == "handle" => handle(ledger.into(), marks.into()),
        [_, command, args @ ..] if command == "stock" => stock(args),
        _ => return gf_process::exit("chaos-worker", work(ChaosArgs::parse())),
    };
    match other {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Becomes `gf-worker`, in this process, whose id its executables are told.
fn stock(args: &[OsString]) -> Result<()> {
    let mut worker = Command::new(goflow_test_servers::binary("gf-worker")?);
    worker.env(handler::WORKER, std::process::id().to_string());
    Err(worker.args(args).exec()).context("become gf-worker")
}

fn handle(ledger: PathBuf, marks: PathBuf) -> Result<()> {
    let mut payload = Vec::new();
    std::io::stdin().read_to_end(&mut payload)?;
    let result = handler::executable(&Place::open(&ledger, &marks)?, &payload)?;
    std::io::stdout().write_all(&result)?;
    Ok(())
}

fn work(args: ChaosArgs) -> Result<()> {
    logging::init(args.worker.log_format)?;
    let mut handlers = Handlers::default();
    handler::register(&mut handlers, &Place::open(&args.ledger, &args.marks)?)?;
    tokio::runtime::Runtime::new()?.block_on(run(args.worker, handlers))
}

/// As the stock worker does it.
async fn run(args: gf_worker::Args, handlers: Handlers) -> Result<()> {
    if args.broker.is_memory() {
        bail!("a memory broker has no workers outside its process");
    }
    let connection = adapters::broker(&args.broker).await?;
    let builder = args.worker.builder(connection.clone(), handlers);
    let worker = builder.build().context("set up the worker")?;
    worker.start().await.context("start the worker")?;
    shutdown::signal_or("a command", worker.told_to_stop()).await;
    let closed = worker.close().await.context("shut down");
    connection.control.close().await;
    closed
}
