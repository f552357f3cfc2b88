//! Runs one delivered attempt and says what came of it.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::content::Content;
use crate::ctx::{Attempt, Ctx};
use crate::handler::{Handler, HandlerError};
use crate::limits::{self, MAX_CONTENT_BYTES};
use crate::outcome::Verdict;

/// How long a handler may go on after it was told to end, because of its timeout or a cancel.
const ABORT_AFTER: Duration = Duration::from_secs(5);

/// The same when the worker itself has to go.
const ABORT_AFTER_DRAIN: Duration = Duration::from_secs(1);

/// How a run ended.
#[derive(Debug)]
pub(super) enum End {
    /// With an outcome; and how long the handler took, if it ended by itself in a task of its own.
    Verdict(Verdict, Option<Duration>),
    /// The task was cancelled: there is nothing to say any more.
    Cancelled,
}

/// Calls the handler, once polled.
pub(super) fn call(
    handler: Arc<dyn Handler>,
    attempt: &Arc<Attempt>,
    checkpoint: Option<Bytes>,
) -> Call {
    let ctx = Ctx::new(attempt.clone(), checkpoint);
    let payload = attempt.message().spec.payload.clone();
    let call = async move { handler.call(ctx, payload).await };
    Box::pin(AssertUnwindSafe(call).catch_unwind())
}

/// Runs the call in place, as far as it comes without waiting; none if it has to be [watched](watch) from there on.
///
/// One that never waits needs no task of its own. One that may compute does: a loop that was woken on this thread could not
/// be taken over by another one until it is done.
pub(super) async fn try_at_once(call: &mut Call) -> Option<End> {
    match futures_util::poll!(call) {
        Poll::Ready(ended) => Some(End::Verdict(verdict(ended), None)),
        Poll::Pending => None,
    }
}

/// Runs the call in a task of its own and waits for its end, its timeouts, a cancel of its task, or `leave`. A thread that it
/// keeps to itself is not the one that watches the time.
pub(super) async fn watch(call: Call, attempt: &Attempt, leave: &CancellationToken) -> End {
    let spec = &attempt.message().spec;
    let mut run = Run(tokio::spawn(async move {
        // The wait for a thread is not its own.
        let begun = Instant::now();
        (call.await, begun.elapsed())
    }));
    let ending = attempt.ending();
    tokio::select! {
        biased;
        (verdict, took) = run.verdict() => End::Verdict(verdict, took),
        () = ending.cancelled() => {
            run.end(ending, ABORT_AFTER).await;
            End::Cancelled
        }
        limit = expired(spec.timeout) => {
            run.end(ending, ABORT_AFTER).await;
            End::Verdict(Verdict::failed(format!("timed out after {limit:?}")), None)
        }
        limit = silent(spec.heartbeat_timeout, attempt) => {
            run.end(ending, ABORT_AFTER).await;
            End::Verdict(Verdict::failed(format!("hung: no heartbeat for {limit:?}")), None)
        }
        () = leave.cancelled() => match run.end(ending, ABORT_AFTER_DRAIN).await {
            // A shutdown is no failure: only what went well counts.
            Some(verdict @ Verdict::Succeeded(_)) => End::Verdict(verdict, None),
            _ => End::Verdict(Verdict::Released, None),
        },
    }
}

/// Ends when `limit` has passed, if there is one.
async fn expired(limit: Option<Duration>) -> Duration {
    let Some(limit) = limit else {
        return std::future::pending().await;
    };
    tokio::time::sleep(limit).await;
    limit
}

/// Ends when the handler has said nothing for `limit`, if there is one.
async fn silent(limit: Option<Duration>, attempt: &Attempt) -> Duration {
    let Some(limit) = limit else {
        return std::future::pending().await;
    };
    loop {
        let until = attempt.last_word() + limit;
        if until <= Instant::now() {
            return limit;
        }
        tokio::time::sleep_until(until).await;
    }
}

/// What came of a call: an answer, or a panic.
type Ended = Result<Result<Content, HandlerError>, Box<dyn Any + Send>>;

/// A call of a handler.
pub(super) type Call = Pin<Box<dyn Future<Output = Ended> + Send>>;

fn verdict(ended: Ended) -> Verdict {
    match ended {
        Ok(Ok(result)) if result.len() > MAX_CONTENT_BYTES => {
            let bytes = result.len();
            Verdict::failed_for_good(format!(
                "result of {bytes} bytes, {MAX_CONTENT_BYTES} is the most"
            ))
        }
        Ok(Ok(result)) => Verdict::Succeeded(result),
        Ok(Err(error)) => error.into_verdict(),
        Err(panic) => {
            let error = format!("panicked: {}", panic_text(panic.as_ref()));
            Verdict::failed(limits::clip_error(&error))
        }
    }
}

/// A handler's task, aborted when dropped.
struct Run(JoinHandle<(Ended, Duration)>);

impl Run {
    /// What came of it, and how long it took unless it was aborted.
    async fn verdict(&mut self) -> (Verdict, Option<Duration>) {
        match (&mut self.0).await {
            Ok((ended, took)) => (verdict(ended), Some(took)),
            Err(_) => (Verdict::failed("aborted"), None),
        }
    }

    /// Tells the handler to end, aborts it when it does not within `grace`; its verdict if it had one.
    async fn end(&mut self, ending: &CancellationToken, grace: Duration) -> Option<Verdict> {
        ending.cancel();
        let ended = tokio::time::timeout(grace, self.verdict()).await;
        if ended.is_err() {
            self.0.abort();
        }
        ended.ok().map(|(verdict, _)| verdict)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
}
