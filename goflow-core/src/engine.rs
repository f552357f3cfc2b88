//! The engine: everything between a push and the record of its outcome.
//!
//! One loop a duty, each in its file: [accept] commits pushes in groups, [dispatch] publishes them, [results]
//! applies outcomes, [schedule] finds what is due, [listen] hears signals, [prepare] sets up and maintains.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{Mutex, Notify, broadcast, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::broker::{self, Connection, Depth};
use crate::error::Error;
use crate::handler::IntoHandler;
use crate::id::{Route, TaskId};
use crate::limits;
use crate::record::{Filter, Page, PageRequest, QueueCounts, TaskRecord, TaskResult};
use crate::store::{self, IdempotencyKey, NewTasks, TaskStore};
use crate::task::{Start, Task, TaskSpec};
use crate::worker::Worker;

mod accept;
mod build;
mod dispatch;
mod listen;
mod prepare;
mod query;
mod registry;
mod results;
mod schedule;
mod waiters;

pub use build::{Builder, LocalBuilder};
pub use registry::WorkerSeen;

/// Finished tasks that a receiver of [`GoFlow::finished`] may be behind.
const FINISHED_BACKLOG: usize = 8_192;

/// How long a push may take, room aside.
const PUSH_DEADLINE: Duration = Duration::from_secs(5);

/// How long `close` waits for what is to be published and confirmed.
const DISPATCH_PATIENCE: Duration = Duration::from_secs(2);

/// How long `close` waits for outcomes that are on their way through an in-process broker.
const FLUSH_PATIENCE: Duration = Duration::from_secs(3);

/// Whether a task has a row before its push returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Record {
    /// Yes: an accepted task survives the loss of the whole broker.
    #[default]
    Full,
    /// Not before its first outcome: an accepted task survives what the broker survives. Faster. A push with a
    /// delay, a `run_at` or an idempotency key has a row all the same.
    Outcome,
}

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
    running: RwLock<Option<Running>>,
    /// Held while starting or closing.
    stage: Mutex<Stage>,
}

#[derive(Debug)]
enum Stage {
    Built,
    Started(Loops),
    Closed,
}

#[derive(Debug, Clone)]
struct Running {
    core: Arc<Core>,
    accept: mpsc::Sender<accept::Request>,
    publish: mpsc::Sender<accept::Publish>,
}

/// The loops of a running engine.
#[derive(Debug)]
struct Loops {
    /// End when nobody can push any more.
    pushing: JoinSet<()>,
    /// Stopped last.
    around: JoinSet<()>,
}

/// What the loops share.
#[derive(Debug)]
struct Core {
    connection: Connection,
    store: Arc<dyn TaskStore>,
    route: Route,
    record: Record,
    in_process: bool,
    dispatcher: dispatch::Dispatcher,
    schedule: schedule::Schedule,
    waiters: waiters::Waiters,
    registry: registry::Registry,
    prepared: prepare::Prepared,
    finished: broadcast::Sender<TaskId>,
    /// Told when tasks finish: there may be room for another push.
    room: Notify,
    /// Fires when another process took over the store of an in-process broker.
    lost_claim: CancellationToken,
}

/// How the parts an engine needs are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// What is wrong with the store, if anything.
    pub store: Option<String>,
    /// What is wrong with the broker, if anything.
    pub broker: Option<String>,
    /// Whether pushes are accepted.
    pub ready: bool,
}

/// A queue as the engine sees it.
#[derive(Debug, Clone)]
pub struct QueueStatus {
    /// Its live tasks in the store.
    pub counts: QueueCounts,
    /// Its messages in the broker, if the broker answered.
    pub depth: Option<Depth>,
    /// How many live workers take from it.
    pub workers: usize,
    /// Tasks whose handlers run, as heartbeats tell.
    pub running: usize,
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
        let (dispatcher, dispatches) = dispatch::Dispatcher::new();
        let core = Arc::new(Core {
            connection: inner.connection.clone(),
            store: inner.store.clone(),
            route: inner.store.route(),
            record: inner.record,
            in_process: inner.connection.control.identify().await?.in_process,
            dispatcher,
            schedule: schedule::Schedule::default(),
            waiters: waiters::Waiters::default(),
            registry: registry::Registry::default(),
            prepared: prepare::Prepared::default(),
            finished: broadcast::channel(FINISHED_BACKLOG).0,
            room: Notify::new(),
            lost_claim: CancellationToken::new(),
        });
        core.prepare().await?;

        let mut pushing = JoinSet::new();
        let (accept, requests) = mpsc::channel(accept::BACKLOG);
        pushing.spawn(accept::run(core.clone(), requests));
        let (publish, publishes) = mpsc::channel(accept::BACKLOG);
        pushing.spawn(accept::publish(core.clone(), publishes));

        let mut around = JoinSet::new();
        let (fetched, to_apply) = mpsc::channel(2);
        around.spawn(results::fetch(core.clone(), fetched));
        around.spawn(results::apply(core.clone(), to_apply));
        around.spawn(dispatch::run(core.clone(), dispatches));
        around.spawn(schedule::run(core.clone()));
        around.spawn(listen::run(core.clone()));
        let maintained = core.clone();
        around.spawn(async move { maintained.maintain().await });

        if let Some(worker) = &inner.local {
            worker.start().await?;
        }
        *self.running_slot() = Some(Running { core, accept, publish });
        *stage = Stage::Started(Loops { pushing, around });
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
        let Some(Running { core, accept, publish }) = self.running_slot().take() else {
            return Ok(());
        };
        drop((accept, publish));
        while loops.pushing.join_next().await.is_some() {}
        // What is left is swept up by another engine, or by this one when it starts again.
        if tokio::time::timeout(DISPATCH_PATIENCE, dispatch::flush(&core)).await.is_err() {
            warn!("closed before everything was dispatched");
        }
        let mut unfinished = 0;
        if let Some(worker) = &inner.local {
            if !inner.store.is_durable() {
                unfinished = core.drain(inner.grace).await;
            }
            worker.close().await?;
        }
        if core.in_process {
            core.flush(FLUSH_PATIENCE).await;
        }
        loops.around.shutdown().await;
        inner.store.close().await;
        inner.connection.control.close().await;
        if unfinished > 0 {
            warn!(unfinished, "closed with unfinished tasks in memory");
            return Err(Error::Unfinished(unfinished));
        }
        info!("closed");
        Ok(())
    }

    fn running_slot(&self) -> std::sync::RwLockWriteGuard<'_, Option<Running>> {
        self.inner.running.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self) -> Result<Running, Error> {
        let running = self.inner.running.read().unwrap_or_else(PoisonError::into_inner);
        running.clone().ok_or(Error::NotStarted)
    }

    /// Registers a handler, before or after `start`. Tasks of its type that were pushed before run then.
    ///
    /// # Errors
    /// [`Error::HandlersBelongToWorkers`] in distributed mode, [`Error::HandlerExists`], [`Error::Name`].
    pub fn register_handler<A>(&self, task_type: impl AsRef<str>, handler: impl IntoHandler<A>) -> Result<(), Error> {
        let worker = self.inner.local.as_ref().ok_or(Error::HandlersBelongToWorkers)?;
        worker.register_handler(task_type, handler)
    }

    /// Pushes a task. From the moment this returns its id, the task is executed at least once.
    ///
    /// While the queue is full it waits for room. Not cancel-safe: a push that is dropped may have been
    /// accepted; use [`Task::idempotency_key`] to push again.
    ///
    /// # Errors
    /// [`Error::NotStarted`], limits, [`Error::QueueFull`], [`Error::KeyReused`], what store or broker say.
    /// After an error of store or broker the task may have been accepted.
    pub async fn push(&self, task: Task) -> Result<TaskId, Error> {
        limits::check(&task.spec)?;
        let running = self.running()?;
        let Task { spec, idempotency_key } = task;
        if self.inner.record == Record::Outcome && spec.start == Start::Now && idempotency_key.is_none() {
            return running.publish(spec).await;
        }
        let key = idempotency_key.map(|key| idempotency(key, &spec)).transpose()?;
        let ids = self.accept(&running, NewTasks { tasks: vec![spec], key }).await?;
        ids.first().copied().ok_or_else(|| Error::invalid("the store gave no id"))
    }

    /// Pushes many tasks: all are accepted, in one commit, or none. The ids are in the order of the tasks.
    /// They have rows in record mode `outcome` too.
    ///
    /// # Errors
    /// As [`GoFlow::push`]; more than 1,000 tasks or 32 MiB; a task with an idempotency key.
    pub async fn push_many(&self, tasks: Vec<Task>) -> Result<Vec<TaskId>, Error> {
        let running = self.running()?;
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        if tasks.len() > limits::MAX_BATCH {
            return Err(Error::invalid(format!("{} tasks, {} is the most", tasks.len(), limits::MAX_BATCH)));
        }
        let mut bytes = 0;
        for (index, task) in tasks.iter().enumerate() {
            limits::check(&task.spec).map_err(|error| Error::invalid(format!("task {index}: {error}")))?;
            if task.idempotency_key.is_some() {
                return Err(Error::invalid(format!("task {index}: an idempotency key needs a push of its own")));
            }
            bytes += task.spec.payload.len();
        }
        if bytes > limits::MAX_BATCH_BYTES {
            return Err(Error::TooLarge { what: "batch", bytes, limit: limits::MAX_BATCH_BYTES });
        }
        let tasks = tasks.into_iter().map(|task| task.spec).collect();
        self.accept(&running, NewTasks { tasks, key: None }).await
    }

    /// Has the store accept, waiting for room as long as a push may.
    async fn accept(&self, running: &Running, tasks: NewTasks) -> Result<Vec<TaskId>, Error> {
        let deadline = Instant::now() + self.inner.push_timeout;
        loop {
            let room = running.core.room.notified();
            let full = match running.accept(tasks.clone()).await {
                Err(error @ Error::QueueFull { .. }) => error,
                other => return other,
            };
            // The second bound is for tasks that finish in other engines.
            let look_again = deadline.min(Instant::now() + Duration::from_millis(250));
            tokio::select! { () = room => {}, () = tokio::time::sleep_until(look_again) => {} }
            if Instant::now() >= deadline {
                return Err(full);
            }
        }
    }

    /// All that is known of a task, and whether a worker runs it now.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::NotRecordedYet`] in record mode `outcome`; what the store says.
    pub async fn get(&self, id: TaskId) -> Result<TaskRecord, Error> {
        self.running()?.core.get(id).await
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
        self.running()?.core.wait(id, timeout).await
    }

    /// A page of tasks, newest first. Large content and failed attempts are left out.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a limit out of range, or `running` (which heartbeats answer) beside other states.
    pub async fn list(&self, filter: &Filter, page: PageRequest) -> Result<Page, Error> {
        self.running()?.core.list(filter, page).await
    }

    /// Cancels a task that has not finished. Once this returns, no success of it is ever recorded; a handler
    /// that runs is told to stop.
    ///
    /// # Errors
    /// [`Error::Forbidden`] when it has finished, [`Error::NotFound`], [`Error::NeedsFullRecord`].
    pub async fn cancel(&self, id: TaskId) -> Result<TaskRecord, Error> {
        self.running()?.core.cancel(id).await
    }

    /// Reopens a task that failed, crashed, expired or was cancelled, with as many attempts as it had at first.
    ///
    /// # Errors
    /// [`Error::Forbidden`] in any other state, [`Error::NotFound`].
    pub async fn retry(&self, id: TaskId) -> Result<TaskRecord, Error> {
        self.running()?.core.retry(id).await
    }

    /// The queues that the store, this engine or a worker knows, by name.
    ///
    /// # Errors
    /// What the store says.
    pub async fn queues(&self) -> Result<Vec<QueueStatus>, Error> {
        self.running()?.core.queues().await
    }

    /// The workers that are alive, by id. Empty before `start`.
    pub fn workers(&self) -> Vec<WorkerSeen> {
        self.running().map(|running| running.core.registry.list()).unwrap_or_default()
    }

    /// Asks store and broker how they are; within 2 s.
    pub async fn health(&self) -> Health {
        let Ok(Running { core, .. }) = self.running() else {
            let reason = Some(Error::NotStarted.to_string());
            return Health { store: reason.clone(), broker: reason, ready: false };
        };
        let (store, broker) = tokio::join!(core.store.ping(), core.connection.control.ping());
        let mut store = store.err().map(|error| error.to_string());
        if core.lost_claim.is_cancelled() {
            store = Some("another process has taken the store over".to_owned());
        }
        let broker = broker.err().map(|error| error.to_string());
        let ready = store.is_none() && (core.record == Record::Full || broker.is_none());
        Health { store, broker, ready }
    }

    /// The ids of tasks as they finish from now on, in any engine on the same store. Lossy: signals may be
    /// lost, and a receiver that lags misses some.
    ///
    /// # Errors
    /// [`Error::NotStarted`].
    pub fn finished(&self) -> Result<broadcast::Receiver<TaskId>, Error> {
        Ok(self.running()?.core.finished.subscribe())
    }
}

/// Names a push by its key and what it asks for, the id aside.
fn idempotency(key: String, spec: &TaskSpec) -> Result<IdempotencyKey, Error> {
    if key.is_empty() || key.len() > limits::MAX_KEY_BYTES || key.chars().any(char::is_control) {
        let most = limits::MAX_KEY_BYTES;
        return Err(Error::invalid(format!("an idempotency key has 1 to {most} bytes and no control characters")));
    }
    let fixed = TaskSpec { id: TaskId::from(uuid::Uuid::nil()), ..spec.clone() };
    let bytes = rmp_serde::to_vec_named(&fixed).map_err(|error| Error::invalid(error.to_string()))?;
    Ok(IdempotencyKey { key, body_hash: fnv1a(&bytes) })
}

/// FNV-1a, 64 bits: the same in every version and process, which the standard hasher does not promise.
/// Constants from <http://www.isthe.com/chongo/tech/comp/fnv/>.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

impl Running {
    async fn accept(&self, tasks: NewTasks) -> Result<Vec<TaskId>, Error> {
        self.core.check_claim()?;
        let (reply, answer) = oneshot::channel();
        let accepted = async {
            self.accept.send(accept::Request { tasks, reply }).await.map_err(|_| Error::NotStarted)?;
            answer.await.map_err(|_| Error::NotStarted)?
        };
        let late = |_| Err(store::Error::unavailable("push", "no commit within 5 s").into());
        tokio::time::timeout(PUSH_DEADLINE, accepted).await.unwrap_or_else(late)
    }

    async fn publish(&self, spec: TaskSpec) -> Result<TaskId, Error> {
        self.core.check_claim()?;
        let (reply, answer) = oneshot::channel();
        let published = async {
            self.publish.send(accept::Publish { spec, reply }).await.map_err(|_| Error::NotStarted)?;
            answer.await.map_err(|_| Error::NotStarted)?
        };
        let late = |_| Err(broker::Error::unavailable("push", "not published within 5 s").into());
        tokio::time::timeout(PUSH_DEADLINE, published).await.unwrap_or_else(late)
    }
}

impl Core {
    fn check_claim(&self) -> Result<(), Error> {
        if self.lost_claim.is_cancelled() { Err(store::Error::Claimed.into()) } else { Ok(()) }
    }

    /// Waits until no task is queued or retrying, for `grace` at most; how many still are.
    async fn drain(&self, grace: Duration) -> u64 {
        let deadline = Instant::now() + grace;
        loop {
            let room = self.room.notified();
            let unfinished = match self.store.queue_counts().await {
                Ok(counts) => counts.iter().map(|c| c.queued + c.retrying).sum(),
                Err(_) => 0,
            };
            if unfinished == 0 || Instant::now() >= deadline {
                return unfinished;
            }
            tokio::select! { () = room => {}, () = tokio::time::sleep_until(deadline) => {} }
        }
    }

    /// Waits until all outcomes in an in-process broker are applied, for `patience` at most.
    async fn flush(&self, patience: Duration) {
        let empty = async {
            while self.connection.results.depth(self.route.as_str()).await.is_ok_and(|d| d != Depth::default()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(patience, empty).await.is_err() {
            warn!("outcomes were left in the broker");
        }
    }
}
