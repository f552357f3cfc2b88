//! The arguments of `gf-worker`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use gf_process::{BrokerUrl, logging};
use goflow_core::QueueName;
use goflow_core::broker::MIN_LEASE;

use crate::executable;
use crate::lane_order::LaneOrder;

/// Runs tasks: those with an executable handler, and the built-in types echo and sleep.
#[derive(Debug, Clone, Parser)]
#[command(name = "gf-worker", version, after_help = executable::CONTRACT)]
pub struct Args {
    /// The broker to take tasks from: nats://HOST:PORT or tls://HOST:PORT, several parted by commas
    #[arg(long, env = "GF_BROKER", value_name = "URL")]
    pub broker: BrokerUrl,

    /// A directory of executables, each the handler of the task type it is named like
    #[arg(long, env = "GF_HANDLERS_PATH", value_name = "DIR")]
    pub handlers_path: Option<PathBuf>,

    /// How many tasks run at once
    #[arg(long, env = "GF_NUM_WORKERS", value_name = "N", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub num_workers: u32,

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

    /// How long running handlers may go on when the worker has to end
    #[arg(long, env = "GF_GRACE", value_name = "DURATION", value_parser = gf_process::duration)]
    #[arg(default_value = "25s")]
    pub grace: Duration,

    /// How log lines look
    #[arg(
        long,
        env = "GF_LOG_FORMAT",
        value_name = "FORMAT",
        value_enum,
        default_value_t
    )]
    pub log_format: logging::Format,
}

fn lease(text: &str) -> Result<Duration, String> {
    match gf_process::duration(text)? {
        lease if lease < MIN_LEASE => Err("a lease is 1s at least".to_owned()),
        lease => Ok(lease),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_listed() {
        assert!(gf_process::settings::unlisted::<Args>().is_empty());
    }

    #[test]
    fn defaults_and_limits() {
        let args = Args::try_parse_from(["gf-worker", "--broker", "nats://a"]).unwrap();
        assert_eq!(
            (args.num_workers, args.lease, args.grace),
            (5, None, Duration::from_secs(25))
        );
        assert_eq!(args.queues, [QueueName::default()]);

        let with = |flag: &str, value: &str| {
            Args::try_parse_from(["gf-worker", "--broker", "nats://a", flag, value])
        };
        assert_eq!(with("--queues", "a,b").unwrap().queues.len(), 2);
        assert_eq!(
            with("--lease", "1s").unwrap().lease,
            Some(Duration::from_secs(1))
        );
        assert_eq!(
            with("--lane-order", "weighted").unwrap().lane_order,
            LaneOrder::Weighted
        );
        assert_eq!(args.lane_order, LaneOrder::Strict);
        with("--lane-order", "random").unwrap_err();
        with("--lease", "999ms").unwrap_err();
        with("--queues", "a.b").unwrap_err();
        with("--num-workers", "0").unwrap_err();
        Args::try_parse_from(["gf-worker"]).unwrap_err();
    }
}
