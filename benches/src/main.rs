//! `goflow-bench`: measures goflow beside the bare pipeline. With `GF_LOG` set, goflow's own log goes to stderr.

use clap::Parser;
use goflow_bench::args::Cli;
use mimalloc::MiMalloc;
use tracing_subscriber::EnvFilter;

/// As in goflow's own processes.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // Without it no subscriber at all: logging is not to be measured unawares.
    if let Ok(filter) = EnvFilter::try_from_env("GF_LOG") {
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .init();
    }
    goflow_bench::commands::run(Cli::parse()).await
}
