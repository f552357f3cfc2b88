//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::case::Case;
use crate::payload::Payload;

/// Measures goflow beside the bare pipeline, on servers of its own
#[derive(Debug, Parser)]
#[command(name = "goflow-bench", version)]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Compare goflow with the bare pipeline, in turn
    Run(Run),
    /// Run one side of a comparison once, under a profiler for instance
    Once(Once),
    /// Measure what the servers themselves can do
    Limits(Limits),
    /// Measure the time from a push to its result, readable elsewhere
    Latency(Latency),
    /// Measure the memory of idle and of loaded processes
    Memory(Memory),
    /// Draw what more workers, larger payloads or longer backlogs do
    Scale(Scale),
    /// Measure what a long history costs
    History(History),
    /// Show which statements Postgres spends its time on
    Profile(Profile),
    /// Fail when a ratio is far below what it was
    Check,
    /// The worker process of a run
    #[command(hide = true)]
    Worker(Worker),
}

/// What all measurements share.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Plan {
    /// Tasks of a run
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub tasks: usize,

    /// Bytes of a payload
    #[arg(long, value_name = "BYTES", default_value_t = 100)]
    pub payload: usize,

    /// Tasks that the worker process runs at once
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub slots: usize,

    /// Pushes under way at once
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    pub window: usize,

    /// Tasks of a bulk push
    #[arg(long, value_name = "N", default_value_t = 500)]
    pub batch: usize,

    /// Bulk pushes under way at once
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub batches: usize,

    /// Callers that push one by one
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub callers: usize,

    /// Worker processes
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub workers: usize,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            tasks: 100_000,
            payload: 100,
            slots: 32,
            window: 1_000,
            batch: 500,
            batches: 2,
            callers: 32,
            workers: 1,
        }
    }
}

impl Plan {
    /// The payloads.
    pub fn payload(&self) -> Payload {
        Payload::new(self.payload)
    }
}

/// `run`.
#[derive(Debug, Clone, clap::Args)]
pub struct Run {
    /// What to measure; everything when none is named
    #[arg(value_enum)]
    pub cases: Vec<Case>,

    /// How often each side runs
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub rounds: usize,

    /// What a run is
    #[command(flatten)]
    pub plan: Plan,
}

/// One side of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Side {
    /// The product
    Goflow,
    /// What it is measured by
    Yardstick,
}

/// `once`.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Once {
    /// What to run
    #[arg(value_enum)]
    pub case: Case,

    /// Which side of it
    #[arg(value_enum)]
    pub side: Side,

    /// What a run is
    #[command(flatten)]
    pub plan: Plan,
}

/// `limits`.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Limits {
    /// How often each case runs
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub rounds: usize,

    /// What a run is
    #[command(flatten)]
    pub plan: Plan,
}

/// `latency`.
#[derive(Debug, Clone, clap::Args)]
pub struct Latency {
    /// Tasks a second
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [100, 1_000])]
    pub rate: Vec<u32>,

    /// How long each rate is kept up, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    pub seconds: u32,

    /// What a run is
    #[command(flatten)]
    pub plan: Plan,
}

impl Latency {
    /// How long each rate is kept up.
    pub fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds.into())
    }
}

/// `memory`.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Memory {
    /// What a run is
    #[command(flatten)]
    pub plan: Plan,
}

/// What is made larger, step by step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Axis {
    /// Worker processes: 1, 2, 4, 8
    Workers,
    /// Payloads: 100 B to 256 KiB
    Payload,
    /// Tasks that wait before the worker starts: from 10,000 to --tasks
    Backlog,
}

/// `scale`.
#[derive(Debug, Clone, clap::Args)]
pub struct Scale {
    /// What is made larger
    #[arg(value_enum)]
    pub axis: Axis,

    /// Where the plot goes
    #[arg(long, value_name = "FILE.svg")]
    pub svg: Option<PathBuf>,

    /// How often each side runs at each step
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub rounds: usize,

    /// What a run is
    #[command(flatten)]
    pub plan: Plan,
}

/// `history`.
#[derive(Debug, Clone, clap::Args)]
pub struct History {
    /// Rows of history at each step; ten million need about 10 GB of disk
    #[arg(long, value_name = "ROWS", value_delimiter = ',', default_values_t = [10_000, 100_000, 1_000_000])]
    pub rows: Vec<usize>,

    /// Where the plot goes
    #[arg(long, value_name = "FILE.svg")]
    pub svg: Option<PathBuf>,

    /// What a run is
    #[command(flatten)]
    pub plan: Plan,
}

/// `profile`.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Profile {
    /// What to run meanwhile
    #[arg(value_enum, default_value_t = Case::Steady)]
    pub case: Case,

    /// What a run is
    #[command(flatten)]
    pub plan: Plan,
}

/// `worker`.
#[derive(Debug, Clone, clap::Args)]
pub struct Worker {
    /// The broker
    #[arg(long)]
    pub broker: String,

    /// Tasks run at once
    #[arg(long)]
    pub slots: usize,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_defaults_are_the_same_everywhere() {
        let cli = Cli::parse_from(["goflow-bench", "run"]);
        let Command::Run(run) = cli.command else {
            panic!("not a run");
        };
        assert_eq!(format!("{:?}", run.plan), format!("{:?}", Plan::default()));
    }
}
