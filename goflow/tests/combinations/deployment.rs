//! A queue with its workers, on any combination of adapters.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use goflow::broker::{self, Connection};
use goflow::handler::IntoHandler;
use goflow::record::TaskRecord;
use goflow::worker::WorkerBuilder;
use goflow::{GoFlow, State, TaskId, TaskStore, Worker, nats, postgres};
use goflow_test_servers::{Nats, Postgres, eventually};

use crate::PATIENCE;

/// The lease of queues on NATS: the least there is.
pub(crate) const LEASE: Duration = Duration::from_secs(1);

/// Unfinished tasks, at most.
const ROOM: usize = 10_000;

/// Which broker, and which store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Combination {
    MemoryMemory,
    MemoryPostgres,
    NatsMemory,
    NatsPostgres,
}

/// The servers of a combination, all its own.
pub(crate) struct Servers {
    /// When the broker is in memory.
    memory: Connection,
    nats: Option<Nats>,
    postgres: Option<(Postgres, String)>,
}

impl Servers {
    pub(crate) async fn start(on: Combination) -> Self {
        use Combination::{MemoryPostgres, NatsMemory, NatsPostgres};
        let nats = matches!(on, NatsMemory | NatsPostgres).then(|| Nats::start().unwrap());
        let postgres = if matches!(on, MemoryPostgres | NatsPostgres) {
            let server = Postgres::start().unwrap();
            let url = server.create_database().unwrap();
            postgres::migrate(&url).await.unwrap();
            Some((server, url))
        } else {
            None
        };
        Self {
            memory: broker::memory::connect(Default::default()),
            nats,
            postgres,
        }
    }

    /// Whether tasks outlive the engine that accepted them.
    pub(crate) fn keeps_records(&self) -> bool {
        self.postgres.is_some()
    }

    /// Whether the broker is one that workers reach from elsewhere.
    pub(crate) fn has_nats(&self) -> bool {
        self.nats.is_some()
    }

    /// A connection to the broker.
    pub(crate) async fn broker(&self) -> Connection {
        match &self.nats {
            Some(nats) => nats::connect(nats::Options::new(nats.url())).await.unwrap(),
            None => self.memory.clone(),
        }
    }

    /// A connection to the store that is a server.
    async fn store(&self) -> Option<Arc<dyn TaskStore>> {
        let (_, url) = self.postgres.as_ref()?;
        let store = postgres::connect(postgres::Options::new(url)).await;
        Some(Arc::new(store.unwrap()))
    }

    /// An engine without workers, started.
    pub(crate) async fn engine(&self) -> GoFlow {
        let mut builder = GoFlow::builder().broker(self.broker().await);
        if let Some(store) = self.store().await {
            builder = builder.store(store);
        }
        let flow = builder.build();
        flow.start().await.unwrap();
        flow
    }

    /// A pool of workers to be built, on a connection of its own.
    pub(crate) async fn workers(&self) -> WorkerBuilder {
        Worker::builder().broker(self.broker().await).lease(LEASE)
    }

    /// An engine with workers in this process, started.
    async fn local(&self, workers: usize) -> GoFlow {
        let mut builder = GoFlow::local()
            .num_workers(workers)
            .queues(QUEUES)
            .task_queue_buffer_size(ROOM);
        if let Some(store) = self.store().await {
            builder = builder.results_store(store);
        }
        let flow = builder.build().unwrap();
        flow.start().await.unwrap();
        flow
    }
}

/// The queues that workers take from.
pub(crate) const QUEUES: [&str; 2] = ["default", "other"];

/// A queue that runs its tasks: in local mode on the broker in memory, with a pool apart on NATS.
pub(crate) struct Deployment {
    flow: GoFlow,
    /// The pool, unless the queue has its own.
    worker: Option<Worker>,
    pub(crate) servers: Servers,
    workers: usize,
}

impl Deployment {
    /// Starts it with this many slots for tasks.
    pub(crate) async fn start(on: Combination, workers: usize) -> Self {
        let servers = Servers::start(on).await;
        let (flow, worker) = if servers.has_nats() {
            let flow = servers.engine().await;
            (flow, Some(pool(&servers, workers).await))
        } else {
            (servers.local(workers).await, None)
        };
        Self {
            flow,
            worker,
            servers,
            workers,
        }
    }

    /// Registers a handler where tasks are run.
    pub(crate) fn register_handler<A>(&self, task_type: &str, handler: impl IntoHandler<A>) {
        let registered = match &self.worker {
            Some(worker) => worker.register_handler(task_type, handler),
            None => self.flow.register_handler(task_type, handler),
        };
        registered.unwrap();
    }

    /// Ends it in good order.
    pub(crate) async fn close(self) {
        if let Some(worker) = &self.worker {
            worker.close().await.unwrap();
        }
        self.flow.close().await.unwrap();
    }

    /// Ends the engine and starts it anew; without a word to anyone if it is `killed`. Where it has workers of its
    /// own they end with it, and their handlers are to be registered again.
    pub(crate) async fn restart_engine(&mut self, killed: bool) {
        if !killed {
            self.flow.close().await.unwrap();
        }
        // The old one is gone before the new one starts.
        self.flow = GoFlow::builder().build();
        self.flow = match self.worker {
            Some(_) => self.servers.engine().await,
            None => self.servers.local(self.workers).await,
        };
    }

    /// Ends the pool apart from the engine and starts another; without outcomes for what it runs if it is `killed`.
    /// Handlers are to be registered again.
    pub(crate) async fn restart_workers(&mut self, killed: bool) {
        let worker = self.worker.take().unwrap();
        if killed {
            kill(worker).await;
        } else {
            worker.close().await.unwrap();
        }
        self.worker = Some(pool(&self.servers, self.workers).await);
    }

    /// Waits until a task is in this state, and gives its record.
    pub(crate) async fn in_state(&self, id: TaskId, state: State) -> TaskRecord {
        let seen = eventually(PATIENCE, async || {
            let record = self.flow.get(id).await.unwrap();
            let now = format!("it is {}", record.state);
            (record.state == state).then_some(record).ok_or(now)
        });
        seen.await.unwrap()
    }
}

/// Waits until the broker holds this many messages of a queue that nobody has taken.
pub(crate) async fn holds(flow: &GoFlow, queue: &str, messages: usize) {
    let seen = eventually(PATIENCE, async || {
        let queues = flow.queues().await.unwrap();
        let mut queues = queues.iter();
        let queue = queues.find(|one| one.counts.queue.as_str() == queue);
        let waiting = queue.unwrap().depth.unwrap().waiting;
        let all = waiting == messages as u64;
        all.then_some(()).ok_or(format!("{waiting} wait"))
    });
    seen.await.unwrap();
}

impl Deref for Deployment {
    type Target = GoFlow;
    fn deref(&self) -> &GoFlow {
        &self.flow
    }
}

async fn pool(servers: &Servers, workers: usize) -> Worker {
    let builder = servers.workers().await.num_workers(workers).queues(QUEUES);
    let worker = builder.build().unwrap();
    worker.start().await.unwrap();
    worker
}

/// Ends a pool as its death would: it hands nothing over and gives nothing back.
pub(crate) async fn kill(worker: Worker) {
    // It waits for a thread to end.
    tokio::task::spawn_blocking(|| drop(worker)).await.unwrap();
}
