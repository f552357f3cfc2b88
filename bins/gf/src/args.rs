//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use gf_process::{BrokerUrl, StoreUrl, duration};
use goflow_core::{QueueName, State};

/// The command line of goflow, a distributed task queue
#[derive(Debug, Parser)]
#[command(name = "gf", version, after_help = EXIT_CODES)]
pub struct Cli {
    /// The gateway
    #[arg(
        long,
        global = true,
        env = "GF_SERVER",
        value_name = "URL",
        default_value = "http://127.0.0.1:8080"
    )]
    pub server: String,

    /// How results look
    #[arg(long, global = true, env = "GF_OUTPUT", value_enum, default_value_t)]
    pub output: OutputFormat,

    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 success, 1 failure, 2 a mistake in the call, 3 a wait that was over before the \
                          task, 4 no gateway there. With push --wait and wait, 0 means that the task succeeded and 1 \
                          that it ended otherwise.";

/// How results look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum OutputFormat {
    /// For people.
    #[default]
    Table,
    /// One JSON object a line.
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run everything in one process, with nothing to install
    Dev(Dev),
    /// Push a task and print its id
    Push(Push),
    /// Show a task
    Get(OneTask),
    /// Wait for the end of a task and print its result
    Wait(Wait),
    /// List tasks, newest first
    List(List),
    /// Cancel tasks that are not finished
    Cancel(Tasks),
    /// Reopen tasks that failed, crashed or were cancelled
    Retry(Tasks),
    /// Show the queues
    Queues,
    /// Show the live workers
    Workers,
    /// Bring the schema of the store up to date
    Migrate(Migrate),
    /// Check gateway and servers, and say what to do about what is wrong
    Doctor(Doctor),
}

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

/// Flags of `gf push`.
#[derive(Debug, clap::Args)]
pub struct Push {
    /// Which handler runs it
    #[arg(value_name = "TYPE")]
    pub task_type: String,

    /// The payload: JSON, @FILE to read a file, or - to read stdin
    #[arg(
        value_name = "JSON",
        default_value = "null",
        allow_hyphen_values = true
    )]
    pub payload: String,

    /// Wait for the end of the task and print its result
    #[arg(long)]
    pub wait: bool,

    /// How long to wait
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "60s")]
    pub timeout: Duration,

    /// The queue it waits in
    #[arg(long, value_name = "NAME")]
    pub queue: Option<String>,

    /// Start no sooner than after this long
    #[arg(long, value_name = "DURATION", value_parser = duration, conflicts_with = "run_at")]
    pub delay: Option<Duration>,

    /// Start no sooner than at this time, such as 2030-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    pub run_at: Option<String>,

    /// Failed attempts after which the task has failed
    #[arg(long, value_name = "N")]
    pub max_attempts: Option<u32>,

    /// The longest one attempt may take
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub timeout_per_attempt: Option<Duration>,

    /// A tag kept with the record; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    pub tag: Vec<(String, String)>,

    /// A header handed to the handler; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    pub header: Vec<(String, String)>,

    /// Makes the push repeatable: within 24 hours the same key and task give the first id
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,

    /// The media type of a payload that is not JSON
    #[arg(long, value_name = "TYPE")]
    pub content_type: Option<String>,
}

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

/// The tasks a command is about.
#[derive(Debug, clap::Args)]
pub struct Tasks {
    /// The ids of the tasks
    #[arg(required = true, value_name = "ID")]
    pub ids: Vec<String>,
}

/// Flags of `gf list`.
#[derive(Debug, clap::Args)]
pub struct List {
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

    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: u64,

    /// All of them, however many
    #[arg(long, conflicts_with = "limit")]
    pub all: bool,
}

/// Flags of `gf migrate`.
#[derive(Debug, clap::Args)]
pub struct Migrate {
    /// The store: postgres://USER@HOST:PORT/DATABASE
    #[arg(long, env = "GF_STORE", value_name = "URL", default_value = "memory:")]
    pub store: StoreUrl,
}

/// Flags of `gf doctor`.
#[derive(Debug, clap::Args)]
pub struct Doctor {
    /// A broker to check too: nats://HOST:PORT
    #[arg(long, env = "GF_BROKER", value_name = "URL")]
    pub broker: Option<BrokerUrl>,

    /// The monitoring address of that broker, such as http://127.0.0.1:8222, which tells how it writes to disk
    #[arg(long, env = "GF_NATS_MONITOR", value_name = "URL")]
    pub nats_monitor: Option<String>,

    /// A store to check too: postgres://USER@HOST:PORT/DATABASE
    #[arg(long, env = "GF_STORE", value_name = "URL")]
    pub store: Option<StoreUrl>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(args: &[&str]) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("gf").chain(args.iter().copied()))
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_push_takes_all_options() {
        let cli = parse(&[
            "push",
            "echo",
            "{\"n\":-1}",
            "--wait",
            "--timeout",
            "5m",
            "--queue",
            "q",
            "--delay",
            "10s",
            "--max-attempts",
            "2",
            "--timeout-per-attempt",
            "1m",
            "--tag",
            "a=b=c",
            "--tag",
            "d=",
            "--header",
            "e=f",
            "--idempotency-key",
            "k",
            "--output",
            "json",
        ])
        .unwrap();
        let Command::Push(push) = cli.command else {
            panic!("not a push")
        };
        assert_eq!(
            push.tag,
            [
                ("a".to_owned(), "b=c".to_owned()),
                ("d".to_owned(), String::new())
            ]
        );
        assert_eq!(
            (push.timeout, push.delay),
            (Duration::from_secs(300), Some(Duration::from_secs(10)))
        );
        assert_eq!(cli.output, OutputFormat::Json);
    }

    #[test]
    fn a_push_needs_only_a_type() {
        let Command::Push(push) = parse(&["push", "echo"]).unwrap().command else {
            panic!("not a push")
        };
        assert_eq!((push.payload.as_str(), push.wait), ("null", false));
        let Command::Push(push) = parse(&["push", "echo", "-"]).unwrap().command else {
            panic!("not a push")
        };
        assert_eq!(push.payload, "-");
        let Command::Push(push) = parse(&["push", "echo", "-5"]).unwrap().command else {
            panic!("not a push")
        };
        assert_eq!(push.payload, "-5");
    }

    #[test]
    fn mistakes_are_found_before_anything_is_asked() {
        for args in [
            &["push"][..],
            &["push", "echo", "1", "--tag", "a"],
            &[
                "push",
                "echo",
                "1",
                "--delay",
                "1s",
                "--run-at",
                "2030-01-01T00:00:00Z",
            ],
            &["push", "echo", "1", "--timeout", "30"],
            &["wait"],
            &["list", "--state", "done"],
            &["list", "--limit", "0"],
            &["list", "--limit", "1", "--all"],
            &["cancel"],
            &["queues", "--output", "xml"],
            &["dev", "--timeout", "1s"],
            &["bench"],
            &[],
        ] {
            assert_eq!(
                parse(args).map(|_| ()).unwrap_err().exit_code(),
                2,
                "{args:?}"
            );
        }
    }

    #[test]
    fn dev_runs_one_task() {
        let Command::Dev(dev) =
            parse(&["dev", "--once", "add", "{\"N\":10}", "--handlers-path", "h"])
                .unwrap()
                .command
        else {
            panic!("not dev")
        };
        assert_eq!(dev.once.unwrap(), ["add", "{\"N\":10}"]);
        let Command::List(list) = parse(&["list", "--state", "failed,crashed"])
            .unwrap()
            .command
        else {
            panic!("not list")
        };
        assert_eq!(list.state, [State::Failed, State::Crashed]);
    }
}
