//! The flags of `gf dev`.

use std::time::Duration;

use gf_process::{StoreOptions, WorkerOptions, at_least_one, duration};

/// Flags of `gf dev`.
#[derive(Debug, clap::Args)]
#[command(mut_arg("num_workers", at_least_one))]
pub struct Dev {
    /// Where to listen for HTTP and gRPC; port 0 takes a free one
    #[arg(
        long,
        env = "GF_LISTEN",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:8080"
    )]
    pub listen: String,

    /// Where tasks are kept; its schema is brought up to date
    #[command(flatten)]
    pub store: StoreOptions,

    /// The workers in it
    #[command(flatten)]
    pub worker: WorkerOptions,

    /// Push one task, wait for it, print its result and end as push --wait does; listens on a free port
    #[arg(long, num_args = 1..=2, value_names = ["TYPE", "JSON"], allow_negative_numbers = true)]
    pub once: Option<Vec<String>>,

    /// How long --once waits
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "60s", requires = "once")]
    pub timeout: Duration,
}
