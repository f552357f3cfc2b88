//! Executable handlers: a program for each task type.
//!
//! The payload is the program's stdin, its stdout is the result. Exit status 0 is success, 65 a failure that no
//! further attempt can mend, 75 the wish to be called again in a minute without having used an attempt, and anything
//! else a failure after which the task is tried again. The end of stderr is the error. `GF_TASK_ID`, `GF_ATTEMPT` and
//! `GF_MAX_ATTEMPTS` are in its environment; when the attempt has a timeout, `GF_DEADLINE` (RFC 3339, UTC); and when
//! the push was part of a trace, `TRACEPARENT` (W3C Trace Context).
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

mod discover;
mod failure;
mod group;
mod pipes;

pub use discover::register;
use failure::{EndedEarly, failure};
use group::Group;
use pipes::{Bounded, Tail, TooMuch};

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
    every attempt), GF_ATTEMPT, GF_MAX_ATTEMPTS, GF_DEADLINE (if there is a timeout) and TRACEPARENT (if there is a \
    trace).";

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
        let mut child = self.spawn(&ctx)?;
        let group = Group::of(&child);
        let mut stdout = Bounded::new(MAX_CONTENT_BYTES);
        let mut stderr = Tail::new(TAIL_BYTES);
        let (exit, read) = self
            .attend(&ctx, payload, &mut child, group, &mut stdout, &mut stderr)
            .await?;
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

/// How the program ended.
struct Exit {
    status: ExitStatus,
    early: EndedEarly,
}

impl Executable {
    fn spawn(&self, ctx: &Ctx) -> Result<Child, HandlerError> {
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
        group: Group,
        stdout: &mut Bounded,
        stderr: &mut Tail,
    ) -> Result<(Exit, Result<(), TooMuch>), HandlerError> {
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(input), Some(output), Some(errors)) = pipes else {
            return Err(HandlerError::retry("the handler's pipes are missing"));
        };
        let mut io = std::pin::pin!(async {
            tokio::try_join!(
                pipes::feed(input, payload.bytes),
                pipes::drain(output, stdout),
                pipes::drain(errors, stderr)
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
        let exit = exit.map_err(|error| {
            HandlerError::retry(format!("wait for {}: {error}", self.path.display()))
        })?;
        let read = match read {
            Some(read) => read,
            None => timeout(PIPES_PATIENCE, io).await.unwrap_or(Ok(())),
        };
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

#[cfg(test)]
mod tests;
