//! Workers: pools that take tasks from queues and run their handlers.
//!
//! ```no_run
//! # use goflow_core::{Worker, HandlerError, broker};
//! # async fn example(connection: broker::Connection) -> Result<(), goflow_core::Error> {
//! let worker = Worker::builder()
//!     .broker(connection)
//!     .handler("greet", async |name: String| Ok::<_, HandlerError>(format!("hello {name}")))
//!     .num_workers(10)
//!     .queues(["default", "mail"])
//!     .build()?;
//! worker.start().await?;
//! # worker.close().await
//! # }
//! ```

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::ambient;
use crate::broker::{Connection, MIN_LEASE};
use crate::error::Error;
use crate::handler::{Handlers, IntoHandler};
use crate::id::WorkerId;
use crate::name::QueueName;
use crate::signal::Signal;

mod beat;
mod buffer;
mod held;
mod lanes;
mod pace;
mod pool;
mod renew;
mod report;
mod run;
mod slot;
mod tombs;

#[cfg(test)]
mod tests;

use beat::Beat;
pub use lanes::LaneOrder;
use pool::Pool;
use renew::Renewer;

/// Tasks run at once, unless said otherwise.
pub const DEFAULT_WORKERS: usize = 5;

/// How long a drain lets handlers go on, unless said otherwise.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(25);

/// How long a drain waits for handlers that were told to end, which are aborted before.
const LEAVE_PATIENCE: Duration = Duration::from_secs(8);

/// How long a drain waits for outcomes to be confirmed after the grace.
const FLUSH_PATIENCE: Duration = Duration::from_secs(3);

/// A pool of workers: takes tasks from queues and runs their handlers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Worker {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    pool: Arc<Pool>,
    beat: Arc<Beat>,
    grace: Duration,
    outcomes: usize,
    /// Fires when someone told the worker to stop.
    stop: CancellationToken,
    stage: Mutex<Stage>,
}

#[derive(Debug)]
enum Stage {
    Built,
    Running(Box<Running>),
    Closed,
}

/// The loops of a running worker.
#[derive(Debug)]
struct Running {
    /// Take and run tasks; they end by the drain.
    work: JoinSet<()>,
    /// Hands outcomes over; it ends when all who hand in have.
    report: JoinSet<()>,
    /// Beat, watch and begin; they are stopped last.
    around: JoinSet<()>,
    abandon: CancellationToken,
    renewer: Renewer,
}

/// How to build a [`Worker`].
#[derive(Debug)]
pub struct WorkerBuilder {
    connection: Option<Connection>,
    handlers: Handlers,
    workers: usize,
    queues: Vec<QueueName>,
    lease: Option<Duration>,
    order: LaneOrder,
    grace: Duration,
    outcomes: usize,
    error: Option<Error>,
}

impl Default for WorkerBuilder {
    fn default() -> Self {
        Self {
            connection: None,
            handlers: Handlers::default(),
            workers: DEFAULT_WORKERS,
            queues: vec![QueueName::default()],
            lease: None,
            order: LaneOrder::default(),
            grace: DEFAULT_GRACE,
            outcomes: 1_000,
            error: None,
        }
    }
}

impl Worker {
    /// A pool over a broker.
    pub fn builder() -> WorkerBuilder {
        WorkerBuilder::default()
    }

    /// Its id, fresh for every pool that is built.
    pub fn id(&self) -> WorkerId {
        self.inner.pool.worker
    }

    /// Registers a handler, before or after `start`; engines hear of its type at once.
    ///
    /// # Errors
    /// [`Error::Name`], [`Error::HandlerExists`].
    pub fn register_handler<A>(
        &self,
        task_type: impl AsRef<str>,
        handler: impl IntoHandler<A>,
    ) -> Result<(), Error> {
        let mut handlers = self
            .inner
            .pool
            .handlers
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        handlers.register(task_type, handler)?;
        drop(handlers);
        self.inner.beat.now.notify_one();
        Ok(())
    }

    /// Ends when someone told this worker to stop, through an engine: whoever owns it should
    /// [`close`](Self::close) it then. Cancel-safe.
    pub async fn told_to_stop(&self) {
        self.inner.stop.cancelled().await;
    }

    /// Starts taking tasks. A broker that is not prepared yet is waited for in the background: an engine
    /// prepares it when it hears of this worker.
    ///
    /// # Errors
    /// [`Error::AlreadyStarted`]; [`Error::NotStarted`] after `close`.
    pub async fn start(&self) -> Result<(), Error> {
        let inner = &self.inner;
        let mut stage = inner.stage.lock().unwrap_or_else(PoisonError::into_inner);
        match *stage {
            Stage::Built => {}
            Stage::Running(_) => return Err(Error::AlreadyStarted),
            Stage::Closed => return Err(Error::NotStarted),
        }
        let pool = &inner.pool;
        let renewer = Renewer::start(pool.held.clone())?;
        let (reporter, reports) = report::channel(inner.outcomes);
        let abandon = CancellationToken::new();
        let mut report = JoinSet::new();
        report.spawn(report::run(
            reports,
            pool.connection.clone(),
            abandon.clone(),
        ));

        let mut work = JoinSet::new();
        let ready = CancellationToken::new();
        for queue in pool.queues() {
            let (pool, reporter, ready) = (pool.clone(), reporter.clone(), ready.clone());
            work.spawn(async move {
                let is_ready = pool.draining.run_until_cancelled(ready.cancelled()).await;
                if is_ready.is_some() {
                    pool.fetch(&queue, &reporter).await;
                }
            });
        }
        for _ in 0..pool.slots {
            let (pool, reporter) = (pool.clone(), reporter.clone());
            work.spawn(async move { pool.slot(&reporter).await });
        }
        let giver = pool.clone();
        work.spawn(async move { giver.give_back().await });

        let mut around = JoinSet::new();
        let (beat, beating) = (inner.beat.clone(), pool.clone());
        around.spawn(async move { beat.run(&beating).await });
        let saving = pool.clone();
        around.spawn(async move { saving.save_checkpoints().await });
        let (obeying, beat, stop) = (pool.clone(), inner.beat.clone(), inner.stop.clone());
        around.spawn(async move { beat::obey(&obeying, &beat, &stop).await });
        let watching = pool.clone();
        around.spawn(async move {
            // Tombstones first: nothing that was cancelled before may start.
            if let Some(tombstones) = beat::tombstones(&watching).await {
                watching.refresh_leases().await;
                ready.cancel();
                beat::watch(&watching, tombstones).await;
            }
        });
        info!(worker = %pool.worker, slots = pool.slots, "worker started");
        *stage = Stage::Running(Box::new(Running {
            work,
            report,
            around,
            abandon,
            renewer,
        }));
        Ok(())
    }

    /// Drains: takes no more tasks, gives back what has not started, lets what runs end for the grace, then
    /// gives that back too, unharmed. Returns when all outcomes are confirmed, or 3 s after all handlers
    /// ended if the broker does not take them. A second call returns at once.
    ///
    /// # Errors
    /// [`Error::NotStarted`].
    pub async fn close(&self) -> Result<(), Error> {
        let inner = &self.inner;
        let before = {
            let mut stage = inner.stage.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *stage, Stage::Closed)
        };
        let mut running = match before {
            Stage::Built => return Err(Error::NotStarted),
            Stage::Closed => return Ok(()),
            Stage::Running(running) => running,
        };
        let pool = &inner.pool;
        info!(worker = %pool.worker, held = pool.held.len(), grace = ?inner.grace, "draining");
        pool.draining.cancel();
        inner.beat.now.notify_one();
        pool.give_back_rest().await;
        if tokio::time::timeout(inner.grace, finish(&mut running.work))
            .await
            .is_err()
        {
            info!(worker = %pool.worker, held = pool.held.len(), "the grace is over: giving back what still runs");
            pool.leaving.cancel();
            if tokio::time::timeout(LEAVE_PATIENCE, finish(&mut running.work))
                .await
                .is_err()
            {
                // Outcomes that nobody takes hold the slots up.
                running.abandon.cancel();
                finish(&mut running.work).await;
            }
        }
        // A fetch that was under way at the drain may have brought more.
        pool.give_back_rest().await;
        if tokio::time::timeout(FLUSH_PATIENCE, finish(&mut running.report))
            .await
            .is_err()
        {
            running.abandon.cancel();
            finish(&mut running.report).await;
        }
        running.around.shutdown().await;
        if let Err(error) = pool
            .connection
            .control
            .signal(Signal::Goodbye(pool.worker))
            .await
        {
            warn!(%error, "cannot say goodbye");
        }
        running.renewer.stop().await;
        info!(worker = %pool.worker, "worker ended");
        Ok(())
    }
}

/// Waits for all tasks of a set. A panic in one is a bug of the pool: it is logged, the others go on.
async fn finish(tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended
            && error.is_panic()
        {
            tracing::error!(%error, "a loop of the worker panicked");
        }
    }
}

impl WorkerBuilder {
    /// The broker. Required.
    pub fn broker(mut self, connection: Connection) -> Self {
        self.connection = Some(connection);
        self
    }

    /// A handler. What is wrong with it comes out of [`WorkerBuilder::build`].
    pub fn handler<A>(mut self, task_type: impl AsRef<str>, handler: impl IntoHandler<A>) -> Self {
        if let Err(error) = self.handlers.register(task_type, handler) {
            self.error.get_or_insert(error);
        }
        self
    }

    /// These handlers, in place of all others so far.
    pub fn handlers(mut self, handlers: Handlers) -> Self {
        self.handlers = handlers;
        self
    }

    /// Tasks run at once; at least 1. Default: 5.
    pub fn num_workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// The queues to take from. Default: `default`.
    pub fn queues<Q: AsRef<str>>(mut self, queues: impl IntoIterator<Item = Q>) -> Self {
        match queues.into_iter().map(QueueName::new).collect() {
            Ok(queues) => self.queues = queues,
            Err(error) => drop(self.error.get_or_insert(error.into())),
        }
        self
    }

    /// The lease its queues are to have, 1 s at least. Default: the one they have, which is 30 s at first.
    /// The lease belongs to the queue: the last worker that says one wins.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = Some(lease);
        self
    }

    /// How it chooses among priorities. Default: strict.
    pub fn lane_order(mut self, order: LaneOrder) -> Self {
        self.order = order;
        self
    }

    /// How long [`Worker::close`] lets running handlers go on. Default: 25 s.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Outcomes that may wait to be handed over before slots wait too. Default: 1,000.
    pub(crate) fn outcomes(mut self, outcomes: usize) -> Self {
        self.outcomes = outcomes;
        self
    }

    /// The pool, not started yet.
    ///
    /// # Errors
    /// Whatever was wrong with what was set.
    pub fn build(self) -> Result<Worker, Error> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let connection = self
            .connection
            .ok_or_else(|| Error::invalid("a worker needs a broker"))?;
        if self.workers == 0 {
            return Err(Error::invalid("num_workers must be at least 1"));
        }
        if self.queues.is_empty() {
            return Err(Error::invalid("a worker needs a queue"));
        }
        if self.lease.is_some_and(|lease| lease < MIN_LEASE) {
            return Err(Error::invalid("a lease must be at least 1s"));
        }
        let worker = WorkerId(ambient::new_id());
        let pool = Arc::new(Pool::new(
            worker,
            connection,
            self.handlers,
            &self.queues,
            self.lease,
            self.workers,
            self.order,
        ));
        let inner = Inner {
            pool,
            beat: Arc::new(Beat::new(self.lease)),
            grace: self.grace,
            outcomes: self.outcomes,
            stop: CancellationToken::new(),
            stage: Mutex::new(Stage::Built),
        };
        Ok(Worker {
            inner: Arc::new(inner),
        })
    }
}
