//! The flags of `gf push`.

use std::time::Duration;

use gf_process::duration;

/// Flags of `gf push`.
#[derive(Debug, Clone, clap::Args)]
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

    /// Push many tasks instead: one for each line of a file, or of stdin (-), that is not blank. A line is a payload,
    /// JSON or of the --content-type; all options hold for each. Up to 1,000 at a time are accepted, all or none, and
    /// their ids printed. With --unique the key of each is KEY:LINE; with --unique-period too, the same file can be
    /// pushed again within that time, and each line keeps its task
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["payload", "wait", "idempotency_key"]
    )]
    pub batch: Option<String>,

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

    /// The waits between failed attempts, such as 5s or 1s,10s,1m; the last one repeats [default: 1s, doubled each
    /// time, 10m at most]
    #[arg(long, value_name = "DURATION,…", value_parser = duration, value_delimiter = ',')]
    pub backoff: Vec<Duration>,

    /// How urgent it is among the tasks of its queue, 3 the most [default: 1]
    #[arg(long, value_name = "0..3", value_parser = clap::value_parser!(u8).range(0..=3))]
    pub priority: Option<u8>,

    /// The task ends as expired when it has not finished by then: a time such as 2030-01-31T12:00:00Z, or how long
    /// after it is accepted, such as 10m
    #[arg(long, value_name = "TIME")]
    pub deadline: Option<String>,

    /// Keeps a second unfinished task with this key out: a further push gets the id of the one that is there
    #[arg(long, value_name = "KEY")]
    pub unique: Option<String>,

    /// Keeps it out for this long after the push instead, whatever becomes of the task
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "unique")]
    pub unique_period: Option<Duration>,

    /// A further push is an error instead
    #[arg(long, requires = "unique")]
    pub unique_reject: bool,

    /// How long its record is kept once it has finished [default: 7d, 30d when it failed]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub retention: Option<Duration>,

    /// A handler that reports nothing for this long counts as hung: the attempt has failed
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub heartbeat_timeout: Option<Duration>,

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

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}
