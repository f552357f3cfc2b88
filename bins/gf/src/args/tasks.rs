//! Which tasks a command is about.

use std::time::Duration;

use clap::ArgGroup;
use gf_process::duration;
use goflow_core::State;

/// The task a command is about.
#[derive(Debug, clap::Args)]
pub struct OneTask {
    /// The id of the task
    pub id: String,
}

/// Flags of `gf wait`.
#[derive(Debug, clap::Args)]
pub struct Wait {
    /// The id of the task
    pub id: String,

    /// How long to wait
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "60s")]
    pub timeout: Duration,
}

/// Which tasks, by what they are.
#[derive(Debug, clap::Args)]
pub struct Filters {
    /// Any of these states
    #[arg(long, value_name = "STATES", value_delimiter = ',')]
    pub state: Vec<State>,

    /// This type
    #[arg(long = "type", value_name = "TYPE")]
    pub task_type: Option<String>,

    /// This queue
    #[arg(long, value_name = "NAME")]
    pub queue: Option<String>,

    /// Pushed at this time or later: a time such as 2030-01-31T12:00:00Z, or how long ago, such as 1h
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,

    /// Pushed before this time, in the same forms
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
}

/// The tasks that `gf cancel` and `gf retry` change.
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("filter").multiple(true).args(["state", "task_type", "queue", "since", "until"]))]
pub struct Change {
    /// The ids of the tasks
    #[arg(
        value_name = "ID",
        required_unless_present = "filter",
        conflicts_with = "filter"
    )]
    pub ids: Vec<String>,

    /// All tasks that pass these
    #[command(flatten)]
    pub filters: Filters,

    /// How many at most, newest first [default: all]
    #[arg(long, value_name = "N", requires = "filter", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,

    /// Without asking
    #[arg(long, requires = "filter")]
    pub yes: bool,
}

/// Flags of `gf list`.
#[derive(Debug, clap::Args)]
pub struct List {
    /// Which tasks
    #[command(flatten)]
    pub filters: Filters,

    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: u64,

    /// All of them, however many
    #[arg(long, conflicts_with = "limit")]
    pub all: bool,
}
