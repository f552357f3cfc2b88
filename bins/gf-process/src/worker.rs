//! What a process with workers can be told about them.

use std::path::PathBuf;
use std::time::Duration;

use goflow_core::broker::{Connection, MIN_LEASE};
use goflow_core::worker::{self, WorkerBuilder};
use goflow_core::{Handlers, QueueName, Worker};

use crate::duration;
use crate::lane_order::LaneOrder;

/// Most tasks that one process runs at once.
const MAX_WORKERS: i64 = 10_000;

/// The flags of workers: of those in `gf-worker`, and of those inside a gateway and `gf dev`.
#[derive(Debug, Clone, clap::Args)]
pub struct WorkerOptions {
    /// A directory of executables, each the handler of the task type it is named like
    #[arg(long, env = "GF_HANDLERS_PATH", value_name = "DIR")]
    pub handlers_path: Option<PathBuf>,

    /// How many tasks run at once
    #[arg(long, env = "GF_NUM_WORKERS", value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(..=MAX_WORKERS))]
    pub num_workers: Option<u32>,

    /// The queues to take tasks from, parted by commas
    #[arg(
        long,
        env = "GF_QUEUES",
        value_name = "NAMES",
        value_delimiter = ',',
        default_value = "default"
    )]
    pub queues: Vec<QueueName>,

    /// How to choose among the priorities of a queue
    #[arg(
        long,
        env = "GF_LANE_ORDER",
        value_name = "ORDER",
        value_enum,
        default_value_t
    )]
    pub lane_order: LaneOrder,

    /// The lease the queues are to have: how soon the tasks of a worker that died run again, 1s at least [default:
    /// leave what the queue has, 30s at first]
    #[arg(long, env = "GF_LEASE", value_name = "DURATION", value_parser = lease)]
    pub lease: Option<Duration>,

    /// How long handlers and requests under way may go on when the process has to end
    #[arg(long, env = "GF_GRACE", value_name = "DURATION", value_parser = duration)]
    #[arg(default_value = "25s")]
    pub grace: Duration,
}

impl Default for WorkerOptions {
    /// What the command line gives when it says nothing; the environment is not looked at.
    fn default() -> Self {
        Self {
            handlers_path: None,
            num_workers: None,
            queues: vec![QueueName::default()],
            lane_order: LaneOrder::default(),
            lease: None,
            grace: worker::DEFAULT_GRACE,
        }
    }
}

impl WorkerOptions {
    /// A pool as these options say it.
    pub fn builder(&self, connection: Connection, handlers: Handlers) -> WorkerBuilder {
        let mut builder = Worker::builder()
            .broker(connection)
            .handlers(handlers)
            .queues(self.queues.iter().map(QueueName::as_str))
            .lane_order(self.lane_order.into())
            .grace(self.grace);
        if let Some(workers) = self.num_workers {
            builder = builder.num_workers(workers as usize);
        }
        if let Some(lease) = self.lease {
            builder = builder.lease(lease);
        }
        builder
    }
}

/// Makes `num_workers` the flag of a program that always has workers: 5 unless it is told otherwise, 1 at least. For
/// clap's `mut_arg`.
pub fn at_least_one(num_workers: clap::Arg) -> clap::Arg {
    num_workers
        .value_parser(clap::value_parser!(u32).range(1..=MAX_WORKERS))
        .default_value("5")
}

fn lease(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        lease if lease < MIN_LEASE => Err("a lease is 1s at least".to_owned()),
        lease => Ok(lease),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Maybe {
        #[command(flatten)]
        worker: WorkerOptions,
    }

    #[derive(Debug, Parser)]
    #[command(mut_arg("num_workers", at_least_one))]
    struct Always {
        #[command(flatten)]
        worker: WorkerOptions,
    }

    fn always(args: &[&str]) -> Result<WorkerOptions, clap::Error> {
        Ok(Always::try_parse_from([&["test"], args].concat())?.worker)
    }

    #[test]
    fn the_defaults_are_the_same_everywhere() {
        let parsed = Maybe::try_parse_from(["test"]).unwrap().worker;
        assert_eq!(
            format!("{parsed:?}"),
            format!("{:?}", WorkerOptions::default())
        );
        assert_eq!(always(&[]).unwrap().num_workers, Some(5));
    }

    #[test]
    fn limits_hold() {
        let none = ["test", "--num-workers", "0"];
        assert_eq!(
            Maybe::try_parse_from(none).unwrap().worker.num_workers,
            Some(0)
        );
        assert_eq!(always(&["--queues", "a,b"]).unwrap().queues.len(), 2);
        let second = always(&["--lease", "1s"]).unwrap().lease;
        assert_eq!(second, Some(Duration::from_secs(1)));
        let order = always(&["--lane-order", "weighted"]).unwrap().lane_order;
        assert_eq!(order, LaneOrder::Weighted);
        for args in [
            ["--num-workers", "0"],
            ["--num-workers", "10001"],
            ["--lane-order", "random"],
            ["--lease", "999ms"],
            ["--queues", "a.b"],
            ["--grace", "5"],
        ] {
            always(&args).unwrap_err();
        }
    }
}
