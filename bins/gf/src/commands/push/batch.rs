//! `gf push --batch`: many tasks, a line each.

use std::fs::File;
use std::io::{BufReader, IsTerminal, stderr, stdin, stdout};
use std::thread;

use anyhow::{Context, Result, bail};
use gf_process::shutdown;
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::body::Body;
use crate::args::{OutputFormat, Push};
use crate::client::{Client, parse};
use crate::failure::{Failure, INTERRUPTED};
use crate::output;
use crate::payload;

mod lines;

use lines::{Batch, Batches};

/// Why a whole batch is refused, for sure.
const REFUSED: [&str; 3] = ["queue_full", "overloaded", "duplicate"];

#[derive(Deserialize)]
struct Accepted {
    ids: Vec<String>,
}

/// Pushes a task for each line. At the first Ctrl-C the batch under way is the last; the second ends the process.
pub(super) async fn run(
    client: &Client,
    push: Push,
    file: &str,
    format: OutputFormat,
) -> Result<u8> {
    let batches = read(push, file)?;
    let interrupted = CancellationToken::new();
    let signal = async {
        shutdown::signal().await;
        interrupted.cancel();
        std::future::pending().await
    };
    tokio::select! {
        code = push_all(client, batches, &interrupted, format) => code,
        never = signal => never,
    }
}

/// Reads ahead in a thread of its own, which nobody waits for: a terminal or a pipe may never say more.
fn read(push: Push, file: &str) -> Result<mpsc::Receiver<Result<Batch>>> {
    let content_type = push.content_type.clone();
    let template = Body::new(push, payload::of(b"null".to_vec(), None)?);
    let input: Box<dyn std::io::Read + Send> = match file {
        "-" => Box::new(stdin()),
        path => Box::new(
            File::open(path).map_err(|error| Failure::Usage(format!("open {path}: {error}")))?,
        ),
    };
    let batches = Batches::new(BufReader::new(input), template, content_type);
    let (sender, receiver) = mpsc::channel(1);
    thread::Builder::new()
        .name("lines".to_owned())
        .spawn(move || {
            for batch in batches {
                if sender.blocking_send(batch).is_err() {
                    return;
                }
            }
        })
        .context("start reading")?;
    Ok(receiver)
}

async fn push_all(
    client: &Client,
    mut batches: mpsc::Receiver<Result<Batch>>,
    interrupted: &CancellationToken,
    format: OutputFormat,
) -> Result<u8> {
    let mut tally = Tally::new();
    loop {
        let batch = tokio::select! {
            biased;
            () = interrupted.cancelled() => {
                tally.end();
                eprintln!("gf: interrupted: {tally}");
                return Ok(INTERRUPTED);
            }
            batch = batches.recv() => batch,
        };
        let Some(batch) = batch else {
            tally.end();
            return Ok(0);
        };
        let pushed = match batch {
            // Not to be interrupted: what became of it has to be known.
            Ok(batch) => push_one(client, batch).await,
            Err(error) => Err(error),
        };
        match pushed {
            Ok(accepted) => {
                tally.add(&accepted);
                print(&accepted, format)?;
            }
            Err(error) => {
                tally.end();
                let then = if tally.tasks > 0 { ", then" } else { "" };
                return Err(error.context(format!("{tally}{then}")));
            }
        }
    }
}

/// The bodies of the requests that push these lines, or why the last of them is none; for `tests/fuzz`.
#[doc(hidden)]
pub fn bodies(push: Push, lines: &[u8]) -> Result<Vec<Result<Vec<u8>>>> {
    let content_type = push.content_type.clone();
    let template = Body::new(push, payload::of(b"null".to_vec(), None)?);
    let batches = Batches::new(lines, template, content_type);
    Ok(batches.map(|batch| batch.map(|batch| batch.body)).collect())
}

/// Pushes a batch; lines and ids of its tasks.
async fn push_one(client: &Client, batch: Batch) -> Result<Vec<(u64, String)>> {
    let Batch { lines, body } = batch;
    let request = client.request(Method::POST, "v1/tasks/batch")?;
    let request = request.header(CONTENT_TYPE, "application/json").body(body);
    let accepted = match client.send(request).await {
        Ok(text) => parse::<Accepted>(&text)?.ids,
        Err(error) => {
            let place = place(&error, &lines);
            return Err(error.context(place));
        }
    };
    if accepted.len() != lines.len() {
        bail!(
            "the gateway gave {} ids for {} tasks",
            accepted.len(),
            lines.len()
        );
    }
    Ok(lines.into_iter().zip(accepted).collect())
}

/// The line that is at fault, if the gateway names it, or else the lines of the batch.
fn place(error: &anyhow::Error, lines: &[u64]) -> String {
    let (first, last) = (
        lines.first().copied().unwrap_or_default(),
        lines.last().copied().unwrap_or_default(),
    );
    match error.downcast_ref::<Failure>() {
        Some(Failure::Usage(detail)) => match task_at_fault(detail).and_then(|at| lines.get(at)) {
            Some(line) => format!("line {line}"),
            None => format!("lines {first} to {last}"),
        },
        Some(Failure::Refused { code, .. }) if REFUSED.contains(&code.as_str()) => {
            format!("lines {first} to {last}")
        }
        _ => format!("lines {first} to {last}, which may have been accepted"),
    }
}

/// The place in its batch of the task that the gateway finds fault with.
fn task_at_fault(detail: &str) -> Option<usize> {
    let rest = detail.strip_prefix("tasks[")?;
    rest.split_once(']')?.0.parse().ok()
}

fn print(accepted: &[(u64, String)], format: OutputFormat) -> Result<()> {
    let lines = accepted.iter().map(|(line, id)| match format {
        OutputFormat::Table => id.clone(),
        OutputFormat::Json => json!({"line": line, "id": id}).to_string(),
    });
    output::line(&lines.collect::<Vec<_>>().join("\n"))
}

/// What was accepted so far.
struct Tally {
    tasks: usize,
    last_line: u64,
    /// Whether someone watches: then one line of stderr tells.
    shown: bool,
}

impl Tally {
    fn new() -> Self {
        Self {
            tasks: 0,
            last_line: 0,
            shown: stderr().is_terminal() && !stdout().is_terminal(),
        }
    }

    fn add(&mut self, accepted: &[(u64, String)]) {
        self.tasks += accepted.len();
        self.last_line = accepted.last().map_or(self.last_line, |(line, _)| *line);
        if self.shown {
            eprint!("\r{} accepted so far", self.tasks);
        }
    }

    /// Ends the line that tells.
    fn end(&self) {
        if self.shown && self.tasks > 0 {
            eprintln!();
        }
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.tasks {
            0 => f.write_str("no task was accepted"),
            1 => write!(f, "1 task was accepted, up to line {}", self.last_line),
            tasks => write!(
                f,
                "{tasks} tasks were accepted, up to line {}",
                self.last_line
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_at_fault_is_named() {
        let place = |failure: Failure| place(&failure.into(), &[4, 5, 7]);
        let usage = |detail: &str| Failure::Usage(detail.to_owned());
        let refused = |code: &str| Failure::Refused {
            code: code.to_owned(),
            detail: String::new(),
        };
        assert_eq!(place(usage("tasks[2]: payload: too deep")), "line 7");
        for vague in ["tasks[3]: what", "tasks[x]", "too large"] {
            assert_eq!(place(usage(vague)), "lines 4 to 7");
        }
        assert_eq!(place(refused("queue_full")), "lines 4 to 7");
        let unknown = "lines 4 to 7, which may have been accepted";
        assert_eq!(place(refused("store_unavailable")), unknown);
        assert_eq!(place(Failure::Unreachable(String::new())), unknown);
    }
}
