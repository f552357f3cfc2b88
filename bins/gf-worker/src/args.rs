//! The arguments of `gf-worker`.

use clap::Parser;
use gf_process::{BrokerUrl, WorkerOptions, at_least_one, logging};

use crate::executable;

/// Runs tasks: those with an executable handler, and the built-in types echo and sleep.
#[derive(Debug, Clone, Parser)]
#[command(name = "gf-worker", version, after_help = executable::CONTRACT)]
#[command(mut_arg("num_workers", at_least_one))]
pub struct Args {
    /// The broker to take tasks from: nats://HOST:PORT or tls://HOST:PORT, several parted by commas
    #[arg(long, env = "GF_BROKER", value_name = "URL")]
    pub broker: BrokerUrl,

    /// How it works
    #[command(flatten)]
    pub worker: WorkerOptions,

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_listed() {
        assert!(gf_process::settings::unlisted::<Args>().is_empty());
    }

    #[test]
    fn it_needs_a_broker_and_workers() {
        let args = Args::try_parse_from(["gf-worker", "--broker", "nats://a"]).unwrap();
        assert_eq!(args.worker.num_workers, Some(5));
        Args::try_parse_from(["gf-worker", "--broker", "nats://a", "--num-workers", "0"])
            .unwrap_err();
        Args::try_parse_from(["gf-worker"]).unwrap_err();
    }
}
