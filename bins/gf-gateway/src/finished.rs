//! Tasks as they finish, read once for all who watch.

use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::StreamExt;
use goflow_core::{GoFlow, QueueName, State, TaskId, TaskRecord, TaskType};
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;

use crate::json::task;

/// Finished tasks that a watcher may be behind before it misses some.
const BACKLOG: usize = 256;

/// Records read from the store at once.
const READS: usize = 16;

/// Gives the records of finished tasks to all who watch. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Feed {
    records: broadcast::Sender<Arc<TaskRecord>>,
    count: Arc<AtomicU64>,
}

impl Feed {
    pub(crate) fn new() -> Self {
        Self {
            records: broadcast::Sender::new(BACKLOG),
            count: Arc::default(),
        }
    }

    /// Tasks seen to finish since the start.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// What finishes from now on.
    pub(crate) fn watch(&self) -> BroadcastStream<Arc<TaskRecord>> {
        BroadcastStream::new(self.records.subscribe())
    }

    /// Feeds until the engine ends. Nothing is read while nobody watches.
    pub(crate) async fn run(self, finished: broadcast::Receiver<TaskId>, engine: GoFlow) {
        let ids = BroadcastStream::new(finished).filter_map(|id| ready(self.note(id)));
        let records = ids
            .map(|id| self.clone().read(engine.clone(), id))
            .buffered(READS);
        let mut records = std::pin::pin!(records);
        while let Some(record) = records.next().await {
            if let Some(record) = record {
                // Nobody listens any more: nothing to do about it.
                let _ = self
                    .records
                    .send(Arc::new(task::without_large_contents(record)));
            }
        }
    }

    fn note(&self, id: Result<TaskId, BroadcastStreamRecvError>) -> Option<TaskId> {
        match id {
            Ok(id) => {
                self.count.fetch_add(1, Ordering::Relaxed);
                Some(id)
            }
            Err(BroadcastStreamRecvError::Lagged(missed)) => {
                self.count.fetch_add(missed, Ordering::Relaxed);
                None
            }
        }
    }

    async fn read(self, engine: GoFlow, id: TaskId) -> Option<TaskRecord> {
        if self.records.receiver_count() == 0 {
            return None;
        }
        engine
            .get(id)
            .await
            .inspect_err(|error| tracing::debug!(task.id = %id, %error, "finished task not read"))
            .ok()
    }
}

/// Which finished tasks a watcher wants. Empty parts let everything pass.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    pub(crate) states: Vec<State>,
    pub(crate) task_type: Option<TaskType>,
    pub(crate) queue: Option<QueueName>,
}

impl Wanted {
    pub(crate) fn matches(&self, record: &TaskRecord) -> bool {
        (self.states.is_empty() || self.states.contains(&record.state))
            && self
                .task_type
                .as_ref()
                .is_none_or(|wanted| *wanted == record.spec.task_type)
            && self
                .queue
                .as_ref()
                .is_none_or(|wanted| *wanted == record.spec.queue)
    }
}
