//! What a gateway can be told.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use clap::builder::BoolishValueParser;
use gf_process::{BrokerUrl, StoreOptions, WorkerOptions};
use goflow_core::engine;

const NUM_WORKERS: &str = "How many tasks run at once inside this process; 0 for none [default: 5 with broker memory:, else 0]";

/// Which tasks have a row before their push is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Record {
    /// All: an accepted task survives the loss of the whole broker.
    #[default]
    Full,
    /// None before its first outcome: faster, and an accepted task survives what the broker survives.
    Outcome,
}

impl From<Record> for engine::Record {
    fn from(record: Record) -> Self {
        match record {
            Record::Full => Self::Full,
            Record::Outcome => Self::Outcome,
        }
    }
}

/// What a gateway can be told.
#[derive(Debug, Clone, clap::Args)]
#[command(mut_arg("num_workers", |arg| arg.help(NUM_WORKERS)))]
pub struct Options {
    /// Where to listen for HTTP and gRPC; port 0 takes a free one
    #[arg(
        long,
        env = "GF_LISTEN",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:8080"
    )]
    pub listen: String,

    /// The broker: memory:, or nats://HOST:PORT or tls://HOST:PORT, several parted by commas; with ?replicas=3 behind
    /// them a cluster keeps three copies of each message
    #[arg(long, env = "GF_BROKER", value_name = "URL", default_value = "memory:")]
    pub broker: BrokerUrl,

    /// Where tasks are kept
    #[command(flatten)]
    pub store: StoreOptions,

    /// Which tasks have a row before their push is answered
    #[arg(long, env = "GF_RECORD", value_enum, default_value_t)]
    pub record: Record,

    /// The workers inside this process
    #[command(flatten)]
    pub worker: WorkerOptions,

    /// Bring the schema of the store up to date before anything else
    #[arg(long, env = "GF_MIGRATE", value_parser = BoolishValueParser::new())]
    pub migrate: bool,

    /// Listen beyond loopback although whoever reaches the port may do everything
    #[arg(long, env = "GF_INSECURE_NO_AUTH", value_parser = BoolishValueParser::new())]
    pub insecure_no_auth: bool,

    /// Connections at once; further ones are answered with 503
    #[arg(
        long,
        env = "GF_MAX_CONNECTIONS",
        value_name = "N",
        default_value_t = 900
    )]
    pub max_connections: usize,
}

impl Default for Options {
    /// What the command line gives when it says nothing; the environment is not looked at.
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8080".to_owned(),
            broker: BrokerUrl::memory(),
            store: StoreOptions::default(),
            record: Record::default(),
            worker: WorkerOptions::default(),
            migrate: false,
            insecure_no_auth: false,
            max_connections: 900,
        }
    }
}

impl Options {
    /// Tasks that workers inside the process run at once.
    pub fn workers(&self) -> usize {
        let default = if self.broker.is_memory() { 5 } else { 0 };
        self.worker.num_workers.unwrap_or(default) as usize
    }

    /// The addresses to listen on. Refuses those that others can reach, unless told that this is fine.
    pub(crate) async fn addresses(&self) -> Result<Vec<SocketAddr>> {
        let found = tokio::net::lookup_host(&self.listen).await;
        let found: Vec<_> = found
            .with_context(|| format!("look up the listen address {:?}", self.listen))?
            .collect();
        match found.iter().find(|address| !address.ip().to_canonical().is_loopback()) {
            Some(open) if !self.insecure_no_auth => Err(gf_process::Usage(format!(
                "refusing to listen on {open}: whoever reaches it may do everything; listen on 127.0.0.1, or say --insecure-no-auth"
            ))
            .into()),
            _ => Ok(found),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args, Command, FromArgMatches};

    use super::*;

    fn parse(args: &[&str]) -> Options {
        let command = Options::augment_args(Command::new("gf-gateway").no_binary_name(true));
        Options::from_arg_matches(&command.get_matches_from(args)).unwrap()
    }

    #[test]
    fn the_defaults_are_the_same_everywhere() {
        assert_eq!(
            format!("{:?}", parse(&[])),
            format!("{:?}", Options::default())
        );
    }

    #[test]
    fn workers_come_with_the_memory_broker() {
        assert_eq!(parse(&[]).workers(), 5);
        assert_eq!(parse(&["--broker", "nats://127.0.0.1:4222"]).workers(), 0);
        assert_eq!(
            parse(&["--num-workers", "2", "--queues", "a,b"]).workers(),
            2
        );
    }

    #[tokio::test]
    async fn only_loopback_is_open_to_all() {
        for open in ["0.0.0.0:0", "[::]:0", "192.0.2.1:80"] {
            let error = parse(&["--listen", open]).addresses().await.unwrap_err();
            assert!(
                error.downcast_ref::<gf_process::Usage>().is_some(),
                "{error:#}"
            );
            parse(&["--listen", open, "--insecure-no-auth"])
                .addresses()
                .await
                .unwrap();
        }
        for local in ["127.0.0.1:0", "[::1]:0", "localhost:0"] {
            parse(&["--listen", local]).addresses().await.unwrap();
        }
    }
}
