//! The flags of `gf dev`.

use std::path::PathBuf;
use std::time::Duration;

use gf_process::{StoreUrl, duration};
use goflow_core::QueueName;

/// Flags of `gf dev`.
#[derive(Debug, clap::Args)]
pub struct Dev {
    /// Where to listen for HTTP and gRPC; port 0 takes a free one
    #[arg(
        long,
        env = "GF_LISTEN",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:8080"
    )]
    pub listen: String,

    /// Where tasks are kept: memory: or postgres://USER@HOST:PORT/DATABASE, whose schema is brought up to date
    #[arg(long, env = "GF_STORE", value_name = "URL", default_value = "memory:")]
    pub store: StoreUrl,

    /// A directory of executables: each is the handler of the task type it is named like
    #[arg(long, env = "GF_HANDLERS_PATH", value_name = "DIR")]
    pub handlers_path: Option<PathBuf>,

    /// Tasks run at once
    #[arg(long, env = "GF_NUM_WORKERS", value_name = "N", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub num_workers: u32,

    /// The queues to take tasks from
    #[arg(
        long,
        env = "GF_QUEUES",
        value_name = "NAMES",
        value_delimiter = ',',
        default_value = "default"
    )]
    pub queues: Vec<QueueName>,

    /// How long requests and tasks under way may go on after SIGTERM or SIGINT
    #[arg(long, env = "GF_GRACE", value_name = "DURATION", value_parser = duration, default_value = "25s")]
    pub grace: Duration,

    /// Push one task, wait for it, print its result and end as push --wait does; listens on a free port
    #[arg(long, num_args = 1..=2, value_names = ["TYPE", "JSON"], allow_negative_numbers = true)]
    pub once: Option<Vec<String>>,

    /// How long --once waits
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "60s", requires = "once")]
    pub timeout: Duration,
}
