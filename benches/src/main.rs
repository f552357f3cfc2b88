//! `goflow-bench`: measures goflow beside the bare pipeline. With `GF_LOG` set, goflow's own log goes to stderr.

use std::process::ExitCode;

use clap::Parser;
use goflow_bench::args::Cli;
use mimalloc::MiMalloc;
use tracing_subscriber::EnvFilter;

/// As in goflow's own processes.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// What a shell gives a process ended by Ctrl-C; here, by SIGTERM too.
const INTERRUPTED: u8 = 130;

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    // Without it no subscriber at all: logging is not to be measured unawares.
    if let Ok(filter) = EnvFilter::try_from_env("GF_LOG") {
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .init();
    }
    let cli = Cli::parse();
    tokio::select! {
        // First, so that it listens before a server is started.
        biased;
        // The other branch is dropped, and with it every server and process that it has started.
        () = goflow_test_servers::interrupted() => Ok(ExitCode::from(INTERRUPTED)),
        done = goflow_bench::commands::run(cli) => done.map(|()| ExitCode::SUCCESS),
    }
}
