//! The command line.

use clap::{Parser, Subcommand, ValueEnum};

mod bench;
mod dev;
mod operate;
mod push;
mod servers;
mod tasks;

pub(crate) use bench::Bench;
pub(crate) use dev::Dev;
pub(crate) use operate::{Dead, Purge, QueueCommand, WorkerCommand};
pub(crate) use push::Push;
pub(crate) use servers::{Doctor, Migrate};
pub(crate) use tasks::{Change, Filters, List, OneTask, Wait};

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
    /// Run everything in one process, with nothing to install; the schema of its store is brought up to date
    Dev(Dev),
    /// Push a task and print its id
    Push(Box<Push>),
    /// Show a task
    Get(OneTask),
    /// Wait for the end of a task and print its result
    Wait(Wait),
    /// List tasks, newest first
    List(List),
    /// Cancel tasks that are not finished, by id or by filter
    Cancel(Change),
    /// Reopen tasks that failed, crashed, expired or were cancelled, by id or by filter
    Retry(Change),
    /// Push a finished task anew, under a new id, and print that
    RunAgain(OneTask),
    /// Show tasks that failed, crashed or expired, grouped by type and error
    Dead(Dead),
    /// Show the queues
    Queues,
    /// Pause, resume or purge a queue
    #[command(subcommand)]
    Queue(QueueCommand),
    /// Show the live workers and the tasks they run
    Workers,
    /// Tell a worker to be quiet, to go on or to stop
    #[command(subcommand)]
    Worker(WorkerCommand),
    /// Bring the schema of the store up to date
    Migrate(Migrate),
    /// Measure what a deployment takes: push rates, and the time from a push to its result
    Bench(Bench),
    /// Check gateway and servers, and say what to do about what is wrong
    Doctor(Doctor),
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::CommandFactory;
    use goflow_core::State;

    use super::*;

    fn parse(args: &[&str]) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("gf").chain(args.iter().copied()))
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn settings_are_listed() {
        let unlisted = gf_process::settings::unlisted::<Cli>();
        assert!(unlisted.is_empty(), "{unlisted:?}");
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
            "--backoff",
            "1s,10s",
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
            "--priority",
            "0",
            "--deadline",
            "10m",
            "--unique",
            "u",
            "--unique-period",
            "1h",
            "--unique-reject",
            "--retention",
            "30d",
            "--heartbeat-timeout",
            "1m",
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
            &["cancel", "--yes"],
            &["cancel", "--limit", "5"],
            &["cancel", "an-id", "--type", "t"],
            &["cancel", "an-id", "--yes"],
            &["retry"],
            &["retry", "--state", "done"],
            &["run-again"],
            &["queue"],
            &["queue", "purge"],
            &["queue", "drop", "q"],
            &["worker", "stop"],
            &["worker", "kill", "w"],
            &["push", "echo", "1", "--priority", "4"],
            &["push", "echo", "1", "--priority", "-1"],
            &["push", "echo", "1", "--unique-reject"],
            &["push", "echo", "1", "--unique-period", "1h"],
            &["queues", "--output", "xml"],
            &["dev", "--timeout", "1s"],
            &["bench", "--tasks", "0"],
            &["bench", "--rate", "0"],
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
        assert_eq!(list.filters.state, [State::Failed, State::Crashed]);
    }

    #[test]
    fn many_tasks_are_changed_by_filter() {
        let Command::Cancel(change) =
            parse(&["cancel", "--type", "t", "--state", "queued", "--limit", "9"])
                .unwrap()
                .command
        else {
            panic!("not cancel")
        };
        assert_eq!((change.limit, change.yes), (Some(9), false));
        let Command::Retry(change) = parse(&["retry", "a", "b"]).unwrap().command else {
            panic!("not retry")
        };
        assert_eq!(change.ids, ["a", "b"]);
    }
}
