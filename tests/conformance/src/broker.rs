//! The contract of the broker port, clause by clause.
//!
//! An adapter runs it with [`broker_suite!`](crate::broker_suite), which makes one test of each clause, each with a
//! fixture of its own.

use std::collections::{BTreeMap, HashSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use goflow_core::broker::{Broker, Connection, Delivery, Error, MIN_LEASE, Wire};
use goflow_core::limits::MAX_CONTENT_BYTES;
use goflow_core::outcome::{Outcome, OutcomeBatch, Verdict};
use goflow_core::{Content, Route, StoreId, Task, TaskId, TaskMessage, TaskSpec, WorkerId};
use time::OffsetDateTime;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

mod checkpoints;
mod control;
mod drops;
mod lanes;
mod leases;
mod messages;
mod pause;

pub use checkpoints::{checkpoint_of_none, large_checkpoint, last_checkpoint};
pub use control::{closing, commands, identity, signals, tombstones};
pub use drops::{abandoned_dequeue, closing_gives_back, dropped_dequeues, quick_dequeue};
pub use lanes::{lanes_are_apart, lanes_raced, no_lane};
pub use leases::{
    acknowledged_is_gone, expired_lease, extension, late_answers, lease_of_a_channel, nack_at_once,
    nack_delay,
};
pub use messages::{
    batches, close_drains, competing_consumers, depth, full_channel, intact, outcomes, repeated_id,
    waiting_dequeue,
};
pub use pause::{pause_again, pause_keeps, resume_wakes};

/// What the suite needs of an adapter.
pub trait Fixture: Send + Sync {
    /// A connection to the broker of this fixture.
    fn connect(&self) -> impl Future<Output = Connection> + Send;

    /// A connection to a broker whose queues hold no more than `capacity` messages.
    fn connect_bounded(&self, capacity: usize) -> impl Future<Output = Connection> + Send;

    /// Whether the broker outlives its connections, so that two of them see the same messages.
    fn outlives_connections(&self) -> bool;
}

/// Makes a test of each clause. Takes the path of an async function that gives a [`Fixture`].
#[macro_export]
macro_rules! broker_suite {
    ($start:path) => {
        $crate::broker_suite! { @clauses $start:
            intact, competing_consumers, waiting_dequeue, repeated_id, batches, full_channel, depth, outcomes,
            abandoned_dequeue, dropped_dequeues, closing_gives_back, quick_dequeue, lanes_are_apart, lanes_raced, no_lane,
            pause_keeps, pause_again, resume_wakes, last_checkpoint, checkpoint_of_none, large_checkpoint, commands,
            close_drains, acknowledged_is_gone, expired_lease, nack_delay, nack_at_once, extension,
            late_answers, lease_of_a_channel, signals, tombstones, identity, closing,
        }
    };
    (@clauses $start:path: $($clause:ident),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $clause() {
                let fixture = $start().await;
                $crate::broker::$clause(&fixture).await;
            }
        )+
    };
}

/// Long enough for anything that has to happen, short enough to wait for.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// As long as it takes to believe that nothing will come.
const QUIET: Duration = Duration::from_millis(300);

/// The queue of the suite.
pub const QUEUE: &str = "suite";

/// The lane of [`QUEUE`] that tasks go to which do not say otherwise.
pub const LANE: &str = "suite.1";

/// A task for [`LANE`] with this payload, dispatched for the first time.
///
/// # Panics
/// Never: the names are good.
pub fn message(payload: impl Into<Bytes>) -> TaskMessage {
    let task = Task::new("suite", Content::binary(""))
        .expect("a good type")
        .queue(QUEUE)
        .expect("a good name");
    let spec = TaskSpec {
        id: task.id(),
        namespace: Default::default(),
        queue: QUEUE.parse().expect("a good name"),
        task_type: "suite".parse().expect("a good name"),
        payload: Content::binary(payload),
        headers: BTreeMap::new(),
        tags: BTreeMap::new(),
        max_attempts: 3,
        backoff: Default::default(),
        timeout: None,
        start: Default::default(),
        priority: Default::default(),
        deadline: None,
        unique: None,
        retention: None,
        heartbeat_timeout: None,
        retry_of: None,
    };
    TaskMessage {
        spec: spec.into(),
        attempt: 1,
        dispatch: 1,
        route: route(true),
        recorded: true,
    }
}

fn route(lasting: bool) -> Route {
    Route::of_store(StoreId(Uuid::new_v4()), lasting)
}

/// A connection with [`LANE`] prepared, its leases as short as can be.
pub async fn prepared(fixture: &impl Fixture) -> Connection {
    let connection = fixture.connect().await;
    connection.control.identify().await.expect("identify");
    connection
        .tasks
        .prepare(LANE, Some(MIN_LEASE))
        .await
        .expect("prepare the queue");
    connection
}

/// Submits one message.
pub async fn submit(connection: &Connection, message: TaskMessage) {
    submit_all(connection, vec![message]).await;
}

/// Submits messages and has them all confirmed.
pub async fn submit_all(connection: &Connection, messages: Vec<TaskMessage>) {
    let count = messages.len();
    let messages = messages.into_iter().map(Arc::new).collect();
    let results = connection.tasks.submit(messages).await;
    assert_eq!(results.len(), count, "as many results as messages");
    for result in results {
        result.expect("a submit");
    }
}

/// The next delivery, however many empty answers it takes.
pub async fn next(connection: &Connection) -> Delivery<TaskMessage> {
    let next = async {
        loop {
            let deliveries = connection
                .tasks
                .dequeue(LANE, 1, Duration::from_secs(2))
                .await
                .expect("dequeue");
            assert!(deliveries.len() <= 1, "no more than was asked for");
            if let Some(delivery) = deliveries.into_iter().next() {
                return delivery;
            }
        }
    };
    timeout(PATIENCE, next).await.expect("a delivery in time")
}

/// Nothing is delivered for a while.
pub async fn nothing(connection: &Connection) {
    let deliveries = connection
        .tasks
        .dequeue(LANE, 10, QUIET)
        .await
        .expect("dequeue");
    assert!(
        deliveries.is_empty(),
        "nothing was expected, {} came",
        deliveries.len()
    );
}
