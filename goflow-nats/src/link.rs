//! The connection, as everything in here shares it.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::{Client, Message, Request, Subject};
use bytes::Bytes;
use goflow_core::broker::Error;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::error::NoAnswer;
use crate::options::Options;

/// The deadline of a method of the port that does not say otherwise.
pub(crate) const DEADLINE: Duration = Duration::from_secs(5);

/// Publishes under way at once. More would starve consumers on the same connection.
pub(crate) const WINDOW: usize = 1_000;

/// A handle on the connection. Cheap to clone; it does not keep the connection alive, [`Owner`] does.
#[derive(Clone)]
pub(crate) struct Link(Arc<Inner>);

struct Inner {
    client: Client,
    options: Options,
    servers: String,
    /// Where JetStream listens.
    api_prefix: String,
    io: Handle,
    tasks: TaskTracker,
    closing: CancellationToken,
    stopped: CancellationToken,
    lives: watch::Receiver<Life>,
    window: Semaphore,
    /// How long it took to get an answer that the server gives at once, the last time; in microseconds.
    lag: AtomicU64,
}

/// Which connection to the server this is, and whether it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Life {
    pub(crate) connected: bool,
    /// Increases with each disconnection: what was asked of the server before has no answer.
    pub(crate) number: u64,
}

/// Ends the connection when nobody can use it any more.
#[derive(Debug)]
pub(crate) struct Owner(pub(crate) CancellationToken);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("servers", &self.0.servers)
            .finish_non_exhaustive()
    }
}

impl Link {
    pub(crate) fn new(
        client: Client,
        options: Options,
        io: Handle,
        stopped: CancellationToken,
        lives: watch::Receiver<Life>,
    ) -> Self {
        let api_prefix = options
            .domain
            .as_ref()
            .map_or("$JS.API".into(), |domain| format!("$JS.{domain}.API"));
        Self(Arc::new(Inner {
            client,
            servers: options.shown_servers(),
            options,
            api_prefix,
            io,
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
            stopped,
            lives,
            window: Semaphore::new(WINDOW),
            lag: AtomicU64::new(0),
        }))
    }

    pub(crate) fn client(&self) -> &Client {
        &self.0.client
    }

    pub(crate) fn options(&self) -> &Options {
        &self.0.options
    }

    pub(crate) fn servers(&self) -> &str {
        &self.0.servers
    }

    pub(crate) fn api_prefix(&self) -> &str {
        &self.0.api_prefix
    }

    /// So many places among the publishes under way, [`WINDOW`] at most. Closing comes first: once it has begun, it
    /// waits for those who have some and for nobody else.
    pub(crate) async fn permits(&self, count: usize) -> Result<SemaphorePermit<'_>, Error> {
        let count = count.min(WINDOW) as u32;
        tokio::select! {
            biased;
            () = self.closing().cancelled() => Err(Error::Closed),
            permits = self.0.window.acquire_many(count) => permits.map_err(|_| Error::Closed),
        }
    }

    /// How long it took to get an answer that the server gives at once, the last time.
    pub(crate) fn lag(&self) -> Duration {
        Duration::from_micros(self.0.lag.load(Ordering::Relaxed))
    }

    /// Notes how long it took now, and gives it back.
    pub(crate) fn note_lag(&self, lag: Duration) -> Duration {
        let micros = u64::try_from(lag.as_micros()).unwrap_or(u64::MAX);
        self.0.lag.store(micros, Ordering::Relaxed);
        lag
    }

    pub(crate) fn lives(&self) -> watch::Receiver<Life> {
        self.0.lives.clone()
    }

    /// Cancelled when the connection is being closed.
    pub(crate) fn closing(&self) -> &CancellationToken {
        &self.0.closing
    }

    pub(crate) fn open(&self) -> Result<(), Error> {
        if self.0.closing.is_cancelled() || self.0.stopped.is_cancelled() {
            Err(Error::Closed)
        } else {
            Ok(())
        }
    }

    /// Runs a task on the connection's own thread, until it ends or the connection does.
    pub(crate) fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.0.tasks.spawn_on(task, &self.0.io)
    }

    /// Asks and waits for the answer until `deadline`, no longer. Without a connection it waits for one, so that
    /// nothing is sent long after anyone wants it.
    pub(crate) async fn request(
        &self,
        subject: impl Into<Subject>,
        request: Request,
        deadline: Instant,
    ) -> Result<Message, NoAnswer> {
        let disconnected = |error: Error| match error {
            Error::Unavailable { source, .. } => NoAnswer::Unavailable(source.to_string().into()),
            error => NoAnswer::Unavailable(error.into()),
        };
        self.connected("request", deadline)
            .await
            .map_err(disconnected)?;
        match tokio::time::timeout_at(deadline, self.ask(subject, request)).await {
            Ok(answer) => answer,
            Err(_) => Err(NoAnswer::timed_out()),
        }
    }

    /// The same, however long it takes. The client's own timeout starts only once the request is in its queue, which
    /// can take for ever while it has no connection.
    pub(crate) async fn ask(
        &self,
        subject: impl Into<Subject>,
        request: Request,
    ) -> Result<Message, NoAnswer> {
        let (request, began) = (request.timeout(None), Instant::now());
        let answer = self.0.client.send_request(subject.into(), request).await?;
        self.note_lag(began.elapsed());
        Ok(answer)
    }

    /// Which connection this is: what was published over another one may not have been sent.
    pub(crate) fn connection(&self) -> u64 {
        self.0.client.statistics().connects.load(Ordering::Acquire)
    }

    /// Publishes without an answer.
    pub(crate) async fn publish(
        &self,
        operation: &'static str,
        subject: impl Into<Subject>,
        reply: Option<String>,
        payload: Bytes,
    ) -> Result<(), Error> {
        let (client, subject) = (&self.0.client, subject.into());
        let sent = async {
            match reply {
                Some(reply) => client.publish_with_reply(subject, reply, payload).await,
                None => client.publish(subject, payload).await,
            }
        };
        match tokio::time::timeout(DEADLINE, sent).await {
            Ok(sent) => sent.map_err(|error| crate::error::publish(operation, error)),
            Err(_) => Err(Error::unavailable(operation, "timed out")),
        }
    }

    /// Waits until everything published so far has been written to the connection.
    pub(crate) async fn flush(&self, operation: &'static str) -> Result<(), Error> {
        match tokio::time::timeout(DEADLINE, self.0.client.flush()).await {
            Ok(flushed) => flushed.map_err(|error| Error::unavailable(operation, error)),
            Err(_) => Err(Error::unavailable(operation, "timed out")),
        }
    }

    /// Waits until the connection stands.
    pub(crate) async fn connected(
        &self,
        operation: &'static str,
        deadline: Instant,
    ) -> Result<Life, Error> {
        let mut lives = self.lives();
        match tokio::time::timeout_at(deadline, lives.wait_for(|life| life.connected)).await {
            Ok(Ok(life)) => Ok(*life),
            Ok(Err(_)) => Err(Error::Closed),
            Err(_) => Err(Error::unavailable(
                operation,
                format!("no connection to NATS at {}", self.servers()),
            )),
        }
    }

    /// Refuses new calls, lets the present ones end, and ends the connection at `deadline` at the latest.
    pub(crate) async fn close(&self, deadline: Instant) {
        if self.open().is_err() {
            return;
        }
        self.0.closing.cancel();
        self.0.tasks.close();
        let client = self.0.client.clone();
        let drained = async {
            let all = self.0.window.acquire_many(WINDOW as u32).await;
            self.0.tasks.wait().await;
            // Nobody gets one any more.
            if let Ok(all) = all {
                all.forget();
            }
            client.flush().await
        };
        if tokio::time::timeout_at(deadline, drained).await.is_err() {
            tracing::warn!(servers = %self.servers(), "closed the connection before all was sent");
        }
        self.0.stopped.cancel();
    }
}
