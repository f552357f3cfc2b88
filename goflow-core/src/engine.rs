//! The engine: everything between a push and the record of its outcome.
//!
//! One loop a duty, each in its file: `accept` commits pushes in groups, `dispatch` publishes them, `results`
//! applies outcomes, `schedule` finds what is due and `sweep` what is lost, `listen` hears signals, `prepare` sets up and
//! maintains.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::warn;
use uuid::Uuid;

use crate::ambient;
use crate::broker::acks::{self, Acknowledger};
use crate::broker::{Connection, Depth};
use crate::error::Error;
use crate::id::Route;
use crate::record::QueueCounts;
use crate::stop::Stop;
use crate::store::{self, TaskStore};

mod accept;
mod dispatch;
mod finished;
mod listen;
mod operate;
mod prepare;
mod push;
mod query;
mod registry;
mod results;
mod schedule;
mod sweep;
mod tombs;
mod waiters;

pub(crate) use operate::Action;
pub use operate::{Bulk, MAX_BULK};
pub use registry::WorkerSeen;

/// How long a stop waits for pushes under way to be committed.
const PUSH_PATIENCE: Duration = Duration::from_secs(6);

/// How long a stop waits for what is to be published and confirmed.
const DISPATCH_PATIENCE: Duration = Duration::from_secs(2);

/// How often a drain looks whether tasks are left.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// As good as never, yet safe to add to any time.
const AGES: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// How long a stop waits for outcomes that are on their way through an in-process broker.
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

/// A running engine, for those who push and ask.
#[derive(Debug)]
pub(crate) struct Engine {
    core: Arc<Core>,
    accept: mpsc::Sender<accept::Request>,
    /// For tasks with a unique key, which may have to wait for somebody's transaction: nobody else waits with them.
    accept_unique: mpsc::Sender<accept::Request>,
    publish: mpsc::Sender<accept::Publish>,
}

/// The loops of a running engine, for the one who ends them.
#[derive(Debug)]
pub(crate) struct Loops {
    /// End when nobody can push any more.
    pushing: JoinSet<()>,
    /// Stopped last.
    around: JoinSet<()>,
}

/// What the loops share.
#[derive(Debug)]
struct Core {
    /// Tells its own signals from those of others.
    id: Uuid,
    connection: Connection,
    store: Arc<dyn TaskStore>,
    route: Route,
    record: Record,
    in_process: bool,
    dispatcher: dispatch::Dispatcher,
    tombs: tombs::Tombs,
    schedule: schedule::Schedule,
    waiters: waiters::Waiters,
    registry: registry::Registry,
    prepared: prepare::Prepared,
    finished: finished::Finished,
    /// Told when tasks finish: there may be room for another push.
    room: Notify,
    /// Fires when no more pushes are taken, and waits end.
    stopping: Stop,
    /// Fires when another process took over the store of an in-process broker.
    lost_claim: Stop,
}

impl Engine {
    /// Prepares store and broker and starts all loops.
    pub(crate) async fn start(
        connection: Connection,
        store: Arc<dyn TaskStore>,
        record: Record,
    ) -> Result<(Self, Loops), Error> {
        let (dispatcher, dispatches) = dispatch::Dispatcher::new();
        let (tombs, entombed) = tombs::Tombs::new();
        let core = Arc::new(Core {
            id: ambient::new_id(),
            in_process: connection.control.identify().await?.in_process,
            route: store.route(),
            connection,
            store,
            record,
            dispatcher,
            tombs,
            schedule: schedule::Schedule::default(),
            waiters: waiters::Waiters::default(),
            registry: registry::Registry::default(),
            prepared: prepare::Prepared::default(),
            finished: finished::Finished::new(),
            room: Notify::new(),
            stopping: Stop::default(),
            lost_claim: Stop::default(),
        });
        core.prepare().await?;

        let mut pushing = JoinSet::new();
        let (accept, requests) = mpsc::channel(accept::BACKLOG);
        pushing.spawn(accept::run(core.clone(), requests));
        let (accept_unique, requests) = mpsc::channel(accept::BACKLOG);
        pushing.spawn(accept::run(core.clone(), requests));
        let (publish, publishes) = mpsc::channel(accept::BACKLOG);
        pushing.spawn(accept::publish(core.clone(), publishes));

        let mut around = JoinSet::new();
        let (fetched, to_apply) = mpsc::channel(2);
        around.spawn(results::fetch(core.clone(), fetched));
        let results = core.connection.results.clone();
        let (acknowledger, to_acknowledge) = Acknowledger::new(results.clone(), 2);
        around.spawn(results::apply(core.clone(), to_apply, acknowledger));
        around.spawn(async move {
            acks::gather(results.as_ref(), to_acknowledge, results::ENOUGH_ACKS).await;
        });
        around.spawn(dispatch::run(core.clone(), dispatches));
        around.spawn(tombs::run(core.clone(), entombed));
        around.spawn(schedule::run(core.clone()));
        around.spawn(listen::run(core.clone()));
        let maintained = core.clone();
        around.spawn(async move { maintained.maintain().await });

        Ok((
            Self {
                core,
                accept,
                accept_unique,
                publish,
            },
            Loops { pushing, around },
        ))
    }

    /// Whether it takes no more pushes.
    pub(crate) fn is_stopping(&self) -> bool {
        self.core.stopping.is_cancelled()
    }

    /// Takes no more pushes and finishes those under way.
    pub(crate) async fn stop_pushing(&self, loops: &mut Loops) -> Stopping {
        let core = self.core.clone();
        core.stopping.cancel();
        let pushed = async { while loops.pushing.join_next().await.is_some() {} };
        if tokio::time::timeout(PUSH_PATIENCE, pushed).await.is_err() {
            warn!("stopped before all pushes were answered");
            loops.pushing.abort_all();
        }
        // What is left is swept up by another engine, or by this one when it starts again.
        if tokio::time::timeout(DISPATCH_PATIENCE, dispatch::flush(&core))
            .await
            .is_err()
        {
            warn!("stopped before everything was dispatched");
        }
        Stopping(core)
    }
}

/// An engine that takes no more pushes.
#[derive(Debug)]
pub(crate) struct Stopping(Arc<Core>);

impl Stopping {
    /// Waits until no task is queued or retrying, for `grace` at most; how many still are.
    pub(crate) async fn drain(&self, grace: Duration) -> u64 {
        self.0.drain(grace).await
    }

    /// Ends all loops.
    pub(crate) async fn stop(self, mut loops: Loops) {
        if self.0.in_process {
            self.0.flush(FLUSH_PATIENCE).await;
        }
        loops.around.shutdown().await;
        self.0.finished.end();
    }
}

impl Core {
    fn check_claim(&self) -> Result<(), Error> {
        if self.lost_claim.is_cancelled() {
            Err(store::Error::Claimed.into())
        } else {
            Ok(())
        }
    }

    /// Waits until no task is queued or retrying, for `grace` at most; how many still are.
    async fn drain(&self, grace: Duration) -> u64 {
        let deadline = Instant::now() + grace.min(AGES);
        loop {
            let room = self.room.notified();
            let unfinished = match self.store.queue_counts().await {
                Ok(counts) => counts.iter().map(|c| c.queued + c.retrying).sum(),
                Err(_) => 0,
            };
            if unfinished == 0 || Instant::now() >= deadline {
                return unfinished;
            }
            // A task that goes on to wait for its time makes no sound.
            let look_again = deadline.min(Instant::now() + LOOK_AGAIN);
            tokio::select! { () = room => {}, () = tokio::time::sleep_until(look_again) => {} }
        }
    }

    /// Waits until all outcomes in an in-process broker are applied, for `patience` at most.
    async fn flush(&self, patience: Duration) {
        let empty = async {
            while self
                .connection
                .results
                .depth(self.route.as_str())
                .await
                .is_ok_and(|depth| !depth.is_empty())
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(patience, empty).await.is_err() {
            warn!("outcomes were left in the broker");
        }
    }
}
