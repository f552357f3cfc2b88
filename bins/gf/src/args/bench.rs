//! The flags of `gf bench`.

use std::time::Duration;

use gf_process::duration;

/// Flags of `gf bench`.
#[derive(Debug, Clone, clap::Args)]
pub struct Bench {
    /// The type to push; its handler has to return its payload, as the built-in echo does
    #[arg(long = "type", value_name = "TYPE", default_value = "echo")]
    pub task_type: String,

    /// The queue to push into
    #[arg(long, value_name = "QUEUE", default_value = "default")]
    pub queue: String,

    /// Tasks to push one by one, and again in batches
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub tasks: u32,

    /// Tasks of a batch
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub batch: u32,

    /// Pushes under way at once
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub callers: u32,

    /// Bytes of a payload, about
    #[arg(long, value_name = "BYTES", default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=16_000))]
    pub payload: u32,

    /// Tasks a second while the time from a push to its result is measured
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub rate: u32,

    /// How long that is measured
    #[arg(long = "for", value_name = "DURATION", value_parser = duration, default_value = "10s")]
    pub measured_for: Duration,

    /// How long the tasks of one measurement may take to end
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "5m")]
    pub timeout: Duration,
}
