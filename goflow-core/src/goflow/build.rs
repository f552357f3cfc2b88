//! How to build a [`GoFlow`].

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Mutex;

use super::{GoFlow, Inner, Stage};
use crate::broker::{self, Connection};
use crate::engine::Record;
use crate::error::Error;
use crate::handler::{Handlers, IntoHandler};
use crate::store::TaskStore;
use crate::store::memory::{self, MemoryStore};
use crate::worker::{DEFAULT_GRACE, DEFAULT_WORKERS, Worker};

/// How to build a [`GoFlow`] in local mode: everything in this process.
#[derive(Debug)]
pub struct LocalBuilder {
    workers: usize,
    queues: Vec<String>,
    tasks: usize,
    outcomes: usize,
    store: Option<Arc<dyn TaskStore>>,
    handlers: Handlers,
    push_timeout: Duration,
    grace: Duration,
    error: Option<Error>,
}

impl Default for LocalBuilder {
    fn default() -> Self {
        Self {
            workers: DEFAULT_WORKERS,
            queues: vec!["default".to_owned()],
            tasks: 1_000,
            outcomes: 1_000,
            store: None,
            handlers: Handlers::default(),
            push_timeout: Duration::from_secs(30),
            grace: DEFAULT_GRACE,
            error: None,
        }
    }
}

impl LocalBuilder {
    /// Tasks run at once; at least 1. Default: 5.
    pub fn num_workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// The queues the pool takes from. Default: `default`.
    pub fn queues<Q: Into<String>>(mut self, queues: impl IntoIterator<Item = Q>) -> Self {
        self.queues = queues.into_iter().map(Into::into).collect();
        self
    }

    /// Unfinished tasks (waiting and running) above which a push waits; at least 1. Default: 1,000. With a
    /// [`results_store`](Self::results_store) that store's own limit holds instead.
    pub fn task_queue_buffer_size(mut self, tasks: usize) -> Self {
        self.tasks = tasks.max(1);
        self
    }

    /// Outcomes that may wait to be recorded before workers wait; at least 1. Default: 1,000.
    pub fn result_queue_buffer_size(mut self, outcomes: usize) -> Self {
        self.outcomes = outcomes.max(1);
        self
    }

    /// Where records are kept. Default: in memory, finished tasks for an hour or 100,000 of them, whichever is
    /// less. With a durable store accepted tasks survive this process.
    pub fn results_store(mut self, store: Arc<dyn TaskStore>) -> Self {
        self.store = Some(store);
        self
    }

    /// A handler. What is wrong with it comes out of [`build`](Self::build).
    pub fn handler<A>(mut self, task_type: impl AsRef<str>, handler: impl IntoHandler<A>) -> Self {
        if let Err(error) = self.handlers.register(task_type, handler) {
            self.error.get_or_insert(error);
        }
        self
    }

    /// How long a push waits for room before it is an error. Default: 30 s. Zero never waits.
    pub fn push_timeout(mut self, timeout: Duration) -> Self {
        self.push_timeout = timeout;
        self
    }

    /// How long `close` lets accepted tasks finish. Default: 25 s.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// The queue, not started yet.
    ///
    /// # Errors
    /// Whatever was wrong with what was set.
    pub fn build(self) -> Result<GoFlow, Error> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let options = broker::memory::Options {
            results_capacity: self.outcomes,
            ..Default::default()
        };
        let connection = broker::memory::connect(options);
        let store = self.store.unwrap_or_else(|| {
            Arc::new(MemoryStore::new(memory::Options {
                max_live: self.tasks,
                ..Default::default()
            }))
        });
        let worker = Worker::builder()
            .broker(connection.clone())
            .handlers(self.handlers)
            .num_workers(self.workers)
            .queues(self.queues)
            .grace(self.grace)
            .outcomes(self.outcomes)
            .build()?;
        let inner = Inner {
            connection,
            store,
            record: Record::Full,
            local: Some(worker),
            push_timeout: self.push_timeout,
            grace: self.grace,
            engine: OnceLock::new(),
            stage: Mutex::new(Stage::Built),
        };
        Ok(GoFlow {
            inner: Arc::new(inner),
        })
    }
}

/// How to build a [`GoFlow`] in distributed mode.
#[derive(Debug, Default)]
pub struct Builder {
    connection: Option<Connection>,
    store: Option<Arc<dyn TaskStore>>,
    record: Record,
    push_timeout: Duration,
}

impl Builder {
    /// The broker. Default: one in memory, whose workers must be built on a clone of its connection.
    pub fn broker(mut self, connection: Connection) -> Self {
        self.connection = Some(connection);
        self
    }

    /// Where records are kept. Default: in memory.
    pub fn store(mut self, store: Arc<dyn TaskStore>) -> Self {
        self.store = Some(store);
        self
    }

    /// Whether a task has a row before its push returns. Default: [`Record::Full`].
    pub fn record(mut self, record: Record) -> Self {
        self.record = record;
        self
    }

    /// How long a push waits for room before it is an error. Default: not at all.
    pub fn push_timeout(mut self, timeout: Duration) -> Self {
        self.push_timeout = timeout;
        self
    }

    /// The queue, not started yet.
    pub fn build(self) -> GoFlow {
        let inner = Inner {
            connection: self
                .connection
                .unwrap_or_else(|| broker::memory::connect(Default::default())),
            store: self
                .store
                .unwrap_or_else(|| Arc::new(MemoryStore::new(Default::default()))),
            record: self.record,
            local: None,
            push_timeout: self.push_timeout,
            grace: Duration::ZERO,
            engine: OnceLock::new(),
            stage: Mutex::new(Stage::Built),
        };
        GoFlow {
            inner: Arc::new(inner),
        }
    }
}
