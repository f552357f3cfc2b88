//! [`GoFlow`]: the queue as an application uses it.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::{Mutex, broadcast};
use tracing::{info, warn};

use crate::broker::Connection;
use crate::engine::{Action, Bulk, Engine, Health, Loops, QueueStatus, Record, WorkerSeen};
use crate::error::Error;
use crate::handler::IntoHandler;
use crate::id::{TaskId, WorkerId};
use crate::name::QueueName;
use crate::record::{DeadGroup, Filter, Page, PageRequest, TaskRecord, TaskResult};
use crate::signal::Command;
use crate::store::TaskStore;
use crate::task::Task;
use crate::worker::Worker;

mod build;

pub use build::{Builder, LocalBuilder};

/// A task queue: pushes tasks, waits for them, asks for them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct GoFlow {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    connection: Connection,
    store: Arc<dyn TaskStore>,
    record: Record,
    /// The pool of local mode.
    local: Option<Worker>,
    /// How long a push waits for room.
    push_timeout: Duration,
    /// How long `close` lets local tasks finish.
    grace: Duration,
    engine: OnceLock<Engine>,
    /// Held while starting or closing.
    stage: Mutex<Stage>,
}

#[derive(Debug)]
enum Stage {
    Built,
    Started(Loops),
    Closed,
}

impl GoFlow {
    /// A queue in this process, with its own pool of workers: nothing to install, nothing to configure.
    pub fn local() -> LocalBuilder {
        LocalBuilder::default()
    }

    /// A queue over a broker, whose tasks run in [`Worker`]s anywhere.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Prepares store and broker and starts. In local mode, starts the pool too.
    ///
    /// # Errors
    /// [`Error::AlreadyStarted`]; [`Error::NotStarted`] after `close`; what store or broker say. After an error
    /// it may be called again.
    pub async fn start(&self) -> Result<(), Error> {
        let inner = &self.inner;
        let mut stage = inner.stage.lock().await;
        match *stage {
            Stage::Built => {}
            Stage::Started(_) => return Err(Error::AlreadyStarted),
            Stage::Closed => return Err(Error::NotStarted),
        }
        let (engine, loops) =
            Engine::start(inner.connection.clone(), inner.store.clone(), inner.record).await?;
        if let Some(worker) = &inner.local {
            worker.start().await?;
        }
        // It is started once, while the stage is held.
        inner.engine.get_or_init(|| engine);
        *stage = Stage::Started(loops);
        Ok(())
    }

    /// Ends. Pushes are refused from now on. In local mode on a memory store every queued and retrying task
    /// still runs, for the grace at most; with a durable store what has not started runs after the next start.
    /// A second call does nothing.
    ///
    /// # Errors
    /// [`Error::NotStarted`]; [`Error::Unfinished`] when the grace was over before all tasks in memory were.
    pub async fn close(&self) -> Result<(), Error> {
        let inner = &self.inner;
        let mut stage = inner.stage.lock().await;
        let mut loops = match std::mem::replace(&mut *stage, Stage::Closed) {
            Stage::Started(loops) => loops,
            Stage::Closed => return Ok(()),
            Stage::Built => {
                *stage = Stage::Built;
                return Err(Error::NotStarted);
            }
        };
        let Some(engine) = inner.engine.get() else {
            return Ok(());
        };
        let engine = engine.stop_pushing(&mut loops).await;
        let mut unfinished = 0;
        if let Some(worker) = &inner.local {
            if !inner.store.is_durable() {
                unfinished = engine.drain(inner.grace).await;
            }
            worker.close().await?;
        }
        engine.stop(loops).await;
        inner.store.close().await;
        inner.connection.control.close().await;
        if unfinished > 0 {
            warn!(unfinished, "closed with unfinished tasks in memory");
            return Err(Error::Unfinished(unfinished));
        }
        info!("closed");
        Ok(())
    }

    fn engine(&self) -> Result<&Engine, Error> {
        let engine = self.inner.engine.get();
        let running = engine.filter(|engine| !engine.is_stopping());
        running.ok_or(Error::NotStarted)
    }

    /// Registers a handler, before or after `start`. Tasks of its type that were pushed before run then.
    ///
    /// # Errors
    /// [`Error::HandlersBelongToWorkers`] in distributed mode, [`Error::HandlerExists`], [`Error::Name`].
    pub fn register_handler<A>(
        &self,
        task_type: impl AsRef<str>,
        handler: impl IntoHandler<A>,
    ) -> Result<(), Error> {
        let worker = self
            .inner
            .local
            .as_ref()
            .ok_or(Error::HandlersBelongToWorkers)?;
        worker.register_handler(task_type, handler)
    }

    /// Pushes a task. From the moment this returns its id, the task is executed at least once.
    ///
    /// While the queue is full it waits for room. Not cancel-safe: a push that is dropped may have been
    /// accepted; use [`Task::idempotency_key`] to push again.
    ///
    /// # Errors
    /// [`Error::NotStarted`], limits, [`Error::QueueFull`], [`Error::KeyReused`], what store or broker say.
    /// After an error of store or broker, or when it is closed meanwhile, the task may have been accepted.
    pub async fn push(&self, task: Task) -> Result<TaskId, Error> {
        self.engine()?.push(task, self.inner.push_timeout).await
    }

    /// Pushes many tasks: all are accepted, in one commit, or none. The ids are in the order of the tasks.
    /// They have rows in record mode `outcome` too.
    ///
    /// # Errors
    /// As [`GoFlow::push`]; more than 1,000 tasks or 32 MiB; a task with an idempotency key.
    pub async fn push_many(&self, tasks: Vec<Task>) -> Result<Vec<TaskId>, Error> {
        self.engine()?
            .push_many(tasks, self.inner.push_timeout)
            .await
    }

    /// All that is known of a task, and whether a worker runs it now.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::NotRecordedYet`] in record mode `outcome`; what the store says.
    pub async fn get(&self, id: TaskId) -> Result<TaskRecord, Error> {
        self.engine()?.get(id).await
    }

    /// The result of a task; none while it has not finished.
    ///
    /// # Errors
    /// As [`GoFlow::get`].
    pub async fn get_result(&self, id: TaskId) -> Result<Option<TaskResult>, Error> {
        let record = self.get(id).await?;
        Ok(record.state.is_terminal().then(|| record.into()))
    }

    /// Waits for a task's end. Cancel-safe.
    ///
    /// # Errors
    /// [`Error::WaitTimeout`] after `timeout`; as [`GoFlow::get`].
    pub async fn wait(&self, id: TaskId, timeout: Duration) -> Result<TaskResult, Error> {
        match self.wait_record(id, timeout).await {
            Ok(record) if record.state.is_terminal() => Ok(record.into()),
            Ok(_) | Err(Error::NotRecordedYet(_)) => Err(Error::WaitTimeout(id)),
            Err(error) => Err(error),
        }
    }

    /// Waits for a task's end or for `timeout`, whichever comes first, and gives the record as it is then.
    /// Cancel-safe.
    ///
    /// # Errors
    /// As [`GoFlow::get`].
    pub async fn wait_record(&self, id: TaskId, timeout: Duration) -> Result<TaskRecord, Error> {
        self.engine()?.wait(id, timeout).await
    }

    /// A page of tasks, newest first. Large content and failed attempts are left out.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a limit out of range, or `running` (which heartbeats answer) beside other states.
    pub async fn list(&self, filter: &Filter, page: PageRequest) -> Result<Page, Error> {
        self.engine()?.list(filter, page).await
    }

    /// Cancels a task that has not finished. Once this returns, no success of it is ever recorded; a handler
    /// that runs is told to stop.
    ///
    /// # Errors
    /// [`Error::Forbidden`] when it has finished, [`Error::NotFound`], [`Error::NeedsFullRecord`].
    pub async fn cancel(&self, id: TaskId) -> Result<TaskRecord, Error> {
        self.engine()?.cancel(id).await
    }

    /// Reopens a task that failed, crashed, expired or was cancelled, with as many attempts as it had at first.
    ///
    /// # Errors
    /// [`Error::Forbidden`] in any other state, [`Error::NotFound`].
    pub async fn retry(&self, id: TaskId) -> Result<TaskRecord, Error> {
        self.engine()?.retry(id).await
    }

    /// Pushes a finished task anew: the same type, payload and options, but a new id, whose record names the old one
    /// (`retry_of`), and no deadline.
    ///
    /// # Errors
    /// [`Error::Forbidden`] when it has not finished, [`Error::NotFound`], as [`GoFlow::push`].
    pub async fn run_again(&self, id: TaskId) -> Result<TaskId, Error> {
        self.engine()?.run_again(id).await
    }

    /// Cancels the unfinished tasks that pass `filter`, newest first, `limit` (10,000 at most) of them.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a limit out of range or states that cannot be cancelled; what the store says, with
    /// some tasks cancelled.
    pub async fn cancel_many(&self, filter: &Filter, limit: usize) -> Result<Bulk, Error> {
        self.engine()?.bulk(Action::Cancel, filter, limit).await
    }

    /// Reopens the failed, crashed, expired and cancelled tasks that pass `filter`, newest first, `limit` (10,000
    /// at most) of them.
    ///
    /// # Errors
    /// As [`GoFlow::cancel_many`].
    pub async fn retry_many(&self, filter: &Filter, limit: usize) -> Result<Bulk, Error> {
        self.engine()?.bulk(Action::Retry, filter, limit).await
    }

    /// Tasks that failed, crashed or expired since `since`, grouped by type and error, most first; 200 groups at
    /// most.
    ///
    /// # Errors
    /// What the store says.
    pub async fn dead(&self, since: OffsetDateTime) -> Result<Vec<DeadGroup>, Error> {
        self.engine()?.dead(since).await
    }

    /// Stops the delivery of a queue's tasks, at once and until [`resume_queue`](Self::resume_queue), over restarts of
    /// everything. Tasks that run go on, as do the few that a worker has taken ahead.
    ///
    /// # Errors
    /// What store and broker say; after one of the broker, the pause is noted and call again.
    pub async fn pause_queue(&self, queue: &QueueName) -> Result<(), Error> {
        self.engine()?.set_paused(queue, true).await
    }

    /// Delivers the tasks of a paused queue again.
    ///
    /// # Errors
    /// What store and broker say.
    pub async fn resume_queue(&self, queue: &QueueName) -> Result<(), Error> {
        self.engine()?.set_paused(queue, false).await
    }

    /// Cancels all unfinished tasks of a queue, newest first, a thousand at a time until none is left; no new round
    /// begins once `limit` has passed, and [`Bulk::more`] then says that there may be more. Tasks that are pushed
    /// meanwhile may be among them.
    ///
    /// # Errors
    /// What the store says, with some tasks cancelled.
    pub async fn purge_queue(&self, queue: &QueueName, limit: Duration) -> Result<Bulk, Error> {
        self.engine()?.purge(queue, limit).await
    }

    /// Tells a live worker to be quiet, to go on, or to stop. It is a signal: the worker's next heartbeat shows
    /// whether it was heard.
    ///
    /// # Errors
    /// [`Error::NoWorker`], what the broker says.
    pub async fn command(&self, worker: WorkerId, command: Command) -> Result<(), Error> {
        self.engine()?.command(worker, command).await
    }

    /// The queues that the store, this engine or a worker knows, by name.
    ///
    /// # Errors
    /// What the store says.
    pub async fn queues(&self) -> Result<Vec<QueueStatus>, Error> {
        self.engine()?.queues().await
    }

    /// The workers that are alive, by id. Empty before `start`.
    pub fn workers(&self) -> Vec<WorkerSeen> {
        self.engine()
            .map(|engine| engine.workers())
            .unwrap_or_default()
    }

    /// Asks store and broker how they are; within 2 s.
    pub async fn health(&self) -> Health {
        match self.engine() {
            Ok(engine) => engine.health().await,
            Err(error) => {
                let reason = Some(error.to_string());
                Health {
                    store: reason.clone(),
                    broker: reason,
                    ready: false,
                }
            }
        }
    }

    /// The ids of tasks as they finish from now on, in any engine on the same store. Lossy: signals may be
    /// lost, and a receiver that lags misses some.
    ///
    /// # Errors
    /// [`Error::NotStarted`].
    pub fn finished(&self) -> Result<broadcast::Receiver<TaskId>, Error> {
        Ok(self.engine()?.finished())
    }
}
