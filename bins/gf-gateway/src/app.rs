//! What every route needs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use goflow_core::{GoFlow, Task, TaskId, TaskRecord};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::finished::Feed;
use crate::json::task;
use crate::options::Record;
use crate::problem::{Code, Problem};

mod operate;

pub(crate) use operate::worker_id;

/// Streams of finished tasks at once, over both surfaces.
const MAX_STREAMS: usize = 100;

/// Batches read at once: each may hold 34 MiB.
const MAX_BATCHES: usize = 8;

/// The longest wait for a task's end within one request.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(60);

/// The parts of a running gateway.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) engine: GoFlow,
    pub(crate) record: Record,
    pub(crate) feed: Feed,
    /// Ends waits and streams, so that connections can be closed in good order.
    pub(crate) ending: CancellationToken,
    pushed: AtomicU64,
    streams: Arc<Semaphore>,
    batches: Arc<Semaphore>,
}

impl App {
    pub(crate) fn new(
        engine: GoFlow,
        record: Record,
        feed: Feed,
        ending: CancellationToken,
    ) -> Self {
        Self {
            engine,
            record,
            feed,
            ending,
            pushed: AtomicU64::new(0),
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
            batches: Arc::new(Semaphore::new(MAX_BATCHES)),
        }
    }

    /// Tasks accepted by this gateway since its start.
    pub(crate) fn pushed(&self) -> u64 {
        self.pushed.load(Ordering::Relaxed)
    }

    pub(crate) async fn push(&self, task: Task) -> Result<TaskId, Problem> {
        let id = self.engine.push(task).await?;
        self.pushed.fetch_add(1, Ordering::Relaxed);
        Ok(id)
    }

    pub(crate) async fn push_many(&self, tasks: Vec<Task>) -> Result<Vec<TaskId>, Problem> {
        let ids = self.engine.push_many(tasks).await?;
        self.pushed.fetch_add(ids.len() as u64, Ordering::Relaxed);
        Ok(ids)
    }

    /// The record when the task has ended, at the end of the wait, or when the gateway is about to end.
    pub(crate) async fn wait(&self, id: TaskId, wait: Duration) -> Result<TaskRecord, Problem> {
        let record = tokio::select! {
            record = self.engine.wait_record(id, wait.min(MAX_WAIT)) => record,
            () = self.ending.cancelled() => self.engine.get(id).await,
        };
        Ok(record?)
    }

    pub(crate) async fn cancel(&self, id: TaskId) -> Result<TaskRecord, Problem> {
        let changed = self.engine.cancel(id).await;
        self.or_why_not(id, changed).await
    }

    pub(crate) async fn retry(&self, id: TaskId) -> Result<TaskRecord, Problem> {
        let changed = self.engine.retry(id).await;
        self.or_why_not(id, changed).await
    }

    /// Adds to a refused change the task that refused it.
    async fn or_why_not<T>(
        &self,
        id: TaskId,
        changed: Result<T, goflow_core::Error>,
    ) -> Result<T, Problem> {
        match changed {
            Ok(changed) => Ok(changed),
            Err(error) => {
                let problem = Problem::from(error);
                if problem.code() != Code::WrongState {
                    return Err(problem);
                }
                let record = self.engine.get(id).await.ok();
                Err(match record.as_ref().and_then(task::to_raw) {
                    Some(json) => problem.with_task(json),
                    None => problem,
                })
            }
        }
    }

    /// A place among the streams.
    pub(crate) fn stream_permit(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let permit = Arc::clone(&self.streams).try_acquire_owned();
        permit.map_err(|_| {
            Problem::new(
                Code::Overloaded,
                format!("{MAX_STREAMS} streams are open: try again later"),
            )
        })
    }

    /// A place among the batches, soon.
    pub(crate) async fn batch_permit(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let permit = Arc::clone(&self.batches).acquire_owned();
        match tokio::time::timeout(Duration::from_secs(5), permit).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(Problem::new(
                Code::Overloaded,
                "too many batches at once: try again later",
            )),
        }
    }
}

/// Reads a task's id.
pub(crate) fn task_id(text: &str) -> Result<TaskId, Problem> {
    let shown: String = text.chars().take(64).collect();
    text.parse().map_err(|_| {
        Problem::new(
            Code::InvalidId,
            format!("{shown:?} is no task id: ids are UUIDs"),
        )
    })
}
