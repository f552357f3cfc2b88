//! The flags of what operators do.

use clap::Subcommand;

/// Flags of `gf dead`.
#[derive(Debug, clap::Args)]
pub struct Dead {
    /// Ended at this time or later: a time such as 2030-01-31T12:00:00Z, or how long ago, such as 1h
    #[arg(long, value_name = "TIME", default_value = "7d")]
    pub since: String,
}

/// What can be done to a queue.
#[derive(Debug, Subcommand)]
pub enum QueueCommand {
    /// Start no more of its tasks until it is resumed, over restarts of everything; running ones go on
    Pause(OneQueue),
    /// Start its tasks again
    Resume(OneQueue),
    /// Cancel all its unfinished tasks
    Purge(Purge),
}

/// The queue a command is about.
#[derive(Debug, clap::Args)]
pub struct OneQueue {
    /// The name of the queue
    pub name: String,
}

/// Flags of `gf queue purge`.
#[derive(Debug, clap::Args)]
pub struct Purge {
    /// The name of the queue
    pub name: String,

    /// Without asking
    #[arg(long)]
    pub yes: bool,
}

/// What a worker can be told.
#[derive(Debug, Subcommand)]
pub enum WorkerCommand {
    /// Take no more tasks; finish those at hand
    Quiet(OneWorker),
    /// Take tasks again
    Resume(OneWorker),
    /// End, as on SIGTERM
    Stop(OneWorker),
}

/// The worker a command is about.
#[derive(Debug, clap::Args)]
pub struct OneWorker {
    /// The id of the worker
    pub id: String,
}
