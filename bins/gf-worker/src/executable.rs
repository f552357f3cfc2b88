//! Executable handlers: a program for each task type.
//!
//! The payload is the program's stdin, its stdout is the result. Exit status 0 is success, 65 a failure that no
//! further attempt can mend, 75 the wish to be called again in a minute without having used an attempt, and anything
//! else a failure after which the task is tried again. The end of stderr is the error. `GF_TASK_ID`, `GF_ATTEMPT` and
//! `GF_MAX_ATTEMPTS` are in its environment; when the attempt has a timeout, `GF_DEADLINE` (RFC 3339, UTC); and when
//! the push was part of a trace, `TRACEPARENT` (W3C Trace Context).
//!
//! While it runs, a program may write lines of JSON to the pipe whose path is in `GF_CONTROL`, as in
//! `echo '{"progress":0.5}' > "$GF_CONTROL"`. `progress` is any value, of 1 KiB at most, shown with the task.
//! `checkpoint` is a string, or any other JSON, of 64 KiB at most: the next attempt, or the next delivery of this
//! one, finds the last one in the file whose path is in `GF_CHECKPOINT` (a string without its quotes), and the first
//! has no such variable. `heartbeat` says nothing more; each line counts as one. A line may have several of them. It
//! has 512 KiB at most, and up to 4 KiB of it are not mixed with what other processes write. A line that cannot be
//! read is logged and ignored. The pipe is always read, so writing does not hold a program up. The directory of both
//! is temporary (`TMPDIR`) and ends with the attempt.
//!
//! A program runs in a process group of its own. The group ends with the attempt: what is still there when the
//! program has exited is killed. When the attempt has to end before, the group gets SIGTERM, and SIGKILL five
//! seconds later. When the worker itself is killed, its [`Guard`] kills what it started.

use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use goflow_core::limits::MAX_CONTENT_BYTES;
use goflow_core::{Content, Ctx, Handler, HandlerError};
use rustix::process::Signal;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::process::{Child, Command};
use tokio::time::timeout;
use tracing::debug;

use crate::guard::{self, Guard};

mod control;
mod discover;
mod failure;
mod group;
mod pipes;

use control::{Control, Reports};
pub use discover::register;
use failure::{EndedEarly, failure};
use group::Group;
use pipes::{Bounded, Sink, Tail, TooMuch};

/// Between SIGTERM and SIGKILL.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long output is read when the program has exited but something outside its group holds on to its pipes.
const PIPES_PATIENCE: Duration = Duration::from_secs(1);

/// How much of stderr becomes the error.
const TAIL_BYTES: usize = 8 * 1024;

/// The above for `--help`.
pub(crate) const CONTRACT: &str = "Executable handlers: the payload is stdin, the result stdout. Exit code 0 is success; \
    65 fails the task for good; 75 calls the handler again after 60s and uses no attempt; any other code fails the \
    attempt, and the task is tried again. The end of stderr is the error. In the environment: GF_TASK_ID (the same in \
    every attempt), GF_ATTEMPT, GF_MAX_ATTEMPTS, GF_DEADLINE (if there is a timeout), TRACEPARENT (if there is a \
    trace), GF_CONTROL and GF_CHECKPOINT. GF_CONTROL is a pipe for lines of JSON while it runs: {\"progress\": any \
    value}, shown with the task; {\"checkpoint\": a string or other JSON}, which later attempts find in the file \
    GF_CHECKPOINT; {\"heartbeat\": true}. Each line resets the heartbeat timeout.";

/// The header of a task that says which trace it belongs to.
const TRACEPARENT: &str = "traceparent";

/// What a handler should not know: where the worker's servers are, with passwords.
const SECRETS: [&str; 2] = ["GF_BROKER", "GF_STORE"];

/// The handler that is a program.
#[derive(Debug)]
struct Executable {
    path: PathBuf,
    guard: Arc<Guard>,
}

#[async_trait]
impl Handler for Executable {
    async fn call(&self, ctx: Ctx, payload: Content) -> Result<Content, HandlerError> {
        let control = Control::open(&self.guard.prefix(), ctx.last_checkpoint())
            .map_err(|error| HandlerError::retry(format!("make the handler's pipe: {error}")))?;
        let mut child = self.spawn(&ctx, &control)?;
        let mut output = Output {
            stdout: Bounded::new(MAX_CONTENT_BYTES),
            stderr: Tail::new(TAIL_BYTES),
            reports: Reports::to(&ctx),
        };
        let (exit, read) = self
            .attend(&ctx, payload, &mut child, control, &mut output)
            .await?;
        let Output {
            stdout,
            stderr,
            reports,
        } = output;
        reports.finish();
        let stderr = stderr.into_text();
        if read.is_err() {
            let message =
                format!("result larger than {MAX_CONTENT_BYTES} bytes, which is the most");
            return Err(HandlerError::permanent(message));
        }
        if exit.status.success() {
            debug!(path = %self.path.display(), stderr, "handler succeeded");
            return Ok(result(stdout.into_bytes()));
        }
        Err(failure(exit.status, exit.early, &stderr))
    }
}

/// What comes out of the program.
struct Output<'a> {
    stdout: Bounded,
    stderr: Tail,
    reports: Reports<'a>,
}

/// How the program ended.
struct Exit {
    status: ExitStatus,
    early: EndedEarly,
}

impl Executable {
    fn spawn(&self, ctx: &Ctx, control: &Control) -> Result<Child, HandlerError> {
        let token = self
            .guard
            .watch()
            .map_err(|error| HandlerError::retry(format!("start the guard: {error}")))?;
        let mut command = Command::new(&self.path);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .env(guard::VARIABLE, token)
            .env("GF_TASK_ID", ctx.task_id().to_string())
            .env("GF_ATTEMPT", ctx.attempt().to_string())
            .env("GF_MAX_ATTEMPTS", ctx.max_attempts().to_string())
            .env_remove("GF_DEADLINE")
            .env_remove("TRACEPARENT");
        control.announce(&mut command);
        let trace = ctx
            .headers()
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(TRACEPARENT));
        if let Some((_, value)) = trace {
            command.env("TRACEPARENT", value);
        }
        for secret in SECRETS {
            command.env_remove(secret);
        }
        if let Some(deadline) = ctx.remaining().and_then(|remaining| {
            let deadline = OffsetDateTime::now_utc().checked_add(remaining.try_into().ok()?)?;
            deadline.format(&Rfc3339).ok()
        }) {
            command.env("GF_DEADLINE", deadline);
        }
        command
            .spawn()
            .map_err(|error| HandlerError::retry(format!("start {}: {error}", self.path.display())))
    }

    /// Feeds and reads the program until it has exited, ends its group, and takes what is left in the pipes.
    async fn attend(
        &self,
        ctx: &Ctx,
        payload: Content,
        child: &mut Child,
        control: Control,
        output: &mut Output<'_>,
    ) -> Result<(Exit, Result<(), TooMuch>), HandlerError> {
        let group = Group::of(child);
        let Control {
            reader,
            writer,
            directory,
            ..
        } = control;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(input), Some(result), Some(errors)) = pipes else {
            return Err(HandlerError::retry("the handler's pipes are missing"));
        };
        let mut io = std::pin::pin!(async {
            tokio::try_join!(
                pipes::feed(input, payload.bytes),
                pipes::drain(result, &mut output.stdout),
                pipes::drain(errors, &mut output.stderr),
                pipes::drain(reader, &mut output.reports)
            )
            .map(|_| ())
        });
        let mut read = None;
        let exit = {
            let mut exit = std::pin::pin!(wait(ctx.cancelled(), child, &group));
            loop {
                tokio::select! {
                    exit = &mut exit => break exit,
                    result = &mut io, if read.is_none() => {
                        if result.is_err() {
                            group.signal(Signal::KILL);
                        }
                        read = Some(result);
                    }
                }
            }
        };
        drop(group);
        // Now the pipe ends with what is in it.
        drop(writer);
        let exit = exit.map_err(|error| {
            HandlerError::retry(format!("wait for {}: {error}", self.path.display()))
        })?;
        let read = match read {
            Some(read) => read,
            None => timeout(PIPES_PATIENCE, io).await.unwrap_or(Ok(())),
        };
        drop(directory);
        Ok((exit, read))
    }
}

/// Waits for the program's exit; ends its group when the attempt has to end before.
async fn wait(
    cancelled: impl Future<Output = ()>,
    child: &mut Child,
    group: &Group,
) -> io::Result<Exit> {
    tokio::select! {
        status = child.wait() => return Ok(Exit { status: status?, early: EndedEarly::No }),
        () = cancelled => {}
    }
    group.signal(Signal::TERM);
    let status = match timeout(PATIENCE, child.wait()).await {
        Ok(status) => status?,
        Err(_) => {
            group.signal(Signal::KILL);
            child.wait().await?
        }
    };
    Ok(Exit {
        status,
        early: EndedEarly::Yes,
    })
}

/// What a program printed, as content. The newline that ends a line of text is not part of it.
fn result(stdout: Vec<u8>) -> Content {
    let mut content = Content::sniff(stdout);
    if content.is_json() {
        let trimmed = content.bytes.trim_ascii();
        content.bytes = content.bytes.slice_ref(trimmed);
    } else if let Some(line) = content
        .bytes
        .strip_suffix(b"\n")
        .filter(|_| content.content_type == goflow_core::content::TEXT)
    {
        let line = content.bytes.slice_ref(line);
        return if line.is_empty() {
            Content::sniff(line)
        } else {
            Content::new(line, content.content_type)
        };
    }
    content
}

/// Passes on a line that a program wrote to its pipe, for `tests/fuzz`.
#[doc(hidden)]
pub fn control_line(ctx: &Ctx, line: &[u8]) -> Result<(), String> {
    Reports::to(ctx).pass_on(line)
}

/// Passes on what a program wrote to its pipe, in the pieces in which it was read; how many lines were bad. For
/// `tests/fuzz`.
#[doc(hidden)]
pub fn control_pieces(ctx: &Ctx, pieces: &[&[u8]]) -> usize {
    let mut reports = Reports::to(ctx);
    for piece in pieces {
        // Never too much.
        let _ = reports.take(piece);
    }
    reports.finish()
}

#[cfg(test)]
mod tests;
