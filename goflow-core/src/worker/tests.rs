//! Workers over brokers that are at hand, and over one whose leases cannot be renewed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Notify;
use uuid::Uuid;

use super::Worker;
use crate::broker::{
    Broker, Connection, Control, Delivery, Depth, Error, Identity, Lease, MIN_LEASE, Signals,
    Tombstone, Tombstones, memory,
};
use crate::content::Content;
use crate::id::{Route, StoreId, TaskId};
use crate::name::QueueName;
use crate::outcome::Verdict;
use crate::priority::Priority;
use crate::signal::Signal;
use crate::task::{Task, TaskMessage};

fn message(spec: Task, route: &Route) -> Arc<TaskMessage> {
    Arc::new(TaskMessage {
        spec: spec.spec,
        attempt: 1,
        dispatch: 1,
        route: route.clone(),
        recorded: true,
    })
}

/// What is at hand need not be taken ahead: no more is taken before all that was taken has begun.
#[tokio::test(start_paused = true)]
async fn what_is_at_hand_is_left_while_there_is_something_to_do() {
    let connection = memory::connect(memory::Options::default());
    let release = Arc::new(Notify::new());
    let released = release.clone();
    let worker = Worker::builder()
        .broker(connection.clone())
        .handler("quick", async |number: u32| Ok::<_, String>(number))
        .handler("slow", move |number: u32| {
            let released = released.clone();
            async move {
                released.notified().await;
                Ok::<_, String>(number)
            }
        })
        .num_workers(1)
        .build()
        .unwrap();
    let route = Route::of_store(StoreId(Uuid::now_v7()), false);
    connection.control.identify().await.unwrap();
    let lane = Priority::default().lane(&QueueName::default());
    for lane in Priority::ALL.map(|priority| priority.lane(&QueueName::default())) {
        connection.tasks.prepare(&lane, None).await.unwrap();
    }
    worker.start().await.unwrap();
    let submit = async |task_type: &str, count: u32| {
        let tasks = (0..count).map(|number| Task::json(task_type, &number).unwrap());
        let tasks = tasks.map(|task| message(task, &route)).collect();
        let submitted = connection.tasks.submit(tasks).await;
        assert!(submitted.iter().all(Result::is_ok));
        // Long enough for everything that can happen.
        tokio::time::sleep(Duration::from_millis(100)).await;
        connection.tasks.depth(&lane).await.unwrap()
    };
    let known = submit("quick", 1).await;
    assert!(known.is_empty(), "how long they take is known");
    let running = submit("slow", 1).await;
    assert_eq!((running.leased, running.waiting), (1, 0));
    let ahead = submit("quick", 5).await;
    assert!(ahead.leased > 1, "{ahead:?}");
    let left = submit("quick", 5).await;
    let waiting = ahead.waiting + 5;
    assert_eq!((left.leased, left.waiting), (ahead.leased, waiting));
    release.notify_one();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(connection.tasks.depth(&lane).await.unwrap().is_empty());
    worker.close().await.unwrap();
}

/// Tasks whose leases nobody can renew.
#[derive(Debug)]
struct Unrenewable(Arc<dyn Broker<TaskMessage>>);

#[async_trait]
impl Broker<TaskMessage> for Unrenewable {
    fn max_message_bytes(&self) -> usize {
        self.0.max_message_bytes()
    }

    async fn prepare(&self, channel: &str, lease: Option<Duration>) -> Result<(), Error> {
        self.0.prepare(channel, lease).await
    }

    async fn lease(&self, channel: &str) -> Result<Duration, Error> {
        self.0.lease(channel).await
    }

    async fn submit(&self, messages: Vec<Arc<TaskMessage>>) -> Vec<Result<(), Error>> {
        self.0.submit(messages).await
    }

    async fn dequeue(
        &self,
        channel: &str,
        max: usize,
        wait: Duration,
    ) -> Result<Vec<Delivery<TaskMessage>>, Error> {
        let mut taken = self.0.dequeue(channel, max, wait).await?;
        for delivery in &mut taken {
            delivery.lease = Arc::new(Unrenewed(delivery.lease.clone()));
        }
        Ok(taken)
    }

    async fn set_paused(&self, channel: &str, paused: bool) -> Result<(), Error> {
        self.0.set_paused(channel, paused).await
    }

    async fn depth(&self, channel: &str) -> Result<Depth, Error> {
        self.0.depth(channel).await
    }
}

#[derive(Debug)]
struct Unrenewed(Arc<dyn Lease>);

#[async_trait]
impl Lease for Unrenewed {
    async fn ack(&self) -> Result<(), Error> {
        self.0.ack().await
    }

    async fn nack(&self, delay: Duration) -> Result<(), Error> {
        self.0.nack(delay).await
    }

    async fn extend(&self) -> Result<bool, Error> {
        Err(Error::unavailable("extend", "never"))
    }
}

/// The first who asks for a checkpoint waits for longer than a lease.
#[derive(Debug)]
struct SlowOnce {
    inner: Arc<dyn Control>,
    asked: AtomicUsize,
}

#[async_trait]
impl Control for SlowOnce {
    async fn identify(&self) -> Result<Identity, Error> {
        self.inner.identify().await
    }

    async fn bind(&self, store: StoreId) -> Result<(), Error> {
        self.inner.bind(store).await
    }

    async fn ping(&self) -> Result<(), Error> {
        self.inner.ping().await
    }

    async fn signal(&self, signal: Signal) -> Result<(), Error> {
        self.inner.signal(signal).await
    }

    async fn listen(&self) -> Result<Signals, Error> {
        self.inner.listen().await
    }

    async fn commands(&self) -> Result<Signals, Error> {
        self.inner.commands().await
    }

    async fn save_checkpoint(&self, task: TaskId, checkpoint: Bytes) -> Result<(), Error> {
        self.inner.save_checkpoint(task, checkpoint).await
    }

    async fn checkpoint(&self, task: TaskId) -> Result<Option<Bytes>, Error> {
        if self.asked.fetch_add(1, Ordering::Relaxed) == 0 {
            tokio::time::sleep(MIN_LEASE * 2).await;
        }
        self.inner.checkpoint(task).await
    }

    async fn entomb(&self, tombstones: &[Tombstone]) -> Result<(), Error> {
        self.inner.entomb(tombstones).await
    }

    async fn tombstones(&self) -> Result<Tombstones, Error> {
        self.inner.tombstones().await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

#[tokio::test]
async fn a_delivery_whose_lease_was_lost_is_not_run() {
    let inner = memory::connect(memory::Options::default());
    let control = Arc::new(SlowOnce {
        inner: inner.control.clone(),
        asked: AtomicUsize::new(0),
    });
    let connection = Connection {
        tasks: Arc::new(Unrenewable(inner.tasks.clone())),
        control: control.clone(),
        ..inner
    };
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = runs.clone();
    let worker = Worker::builder()
        .broker(connection.clone())
        .handler("count", move |_: u32| {
            let before = counted.fetch_add(1, Ordering::Relaxed);
            async move { Ok::<_, String>(before) }
        })
        .num_workers(2)
        .build()
        .unwrap();
    let route = Route::of_store(StoreId(Uuid::now_v7()), false);
    let message = TaskMessage {
        spec: Task::json("count", &1).unwrap().spec,
        attempt: 1,
        // Not the first: an earlier one may have left a checkpoint.
        dispatch: 2,
        route: route.clone(),
        recorded: true,
    };
    connection.control.identify().await.unwrap();
    for lane in Priority::ALL.map(|priority| priority.lane(&message.spec.queue)) {
        connection
            .tasks
            .prepare(&lane, Some(MIN_LEASE))
            .await
            .unwrap();
    }
    connection
        .results
        .prepare(route.as_str(), None)
        .await
        .unwrap();
    worker.start().await.unwrap();
    let submitted = connection.tasks.submit(vec![message.into()]).await;
    assert!(matches!(submitted[..], [Ok(())]));

    let mut results = Vec::new();
    while !matches!(results.last(), Some(Verdict::Succeeded(_))) {
        let wait = MIN_LEASE * 5;
        let taken = connection.results.dequeue(route.as_str(), 1, wait).await;
        let taken = taken.unwrap().pop().expect("an outcome");
        taken.lease.ack().await.unwrap();
        results.extend(taken.message.outcomes.iter().map(|one| one.verdict.clone()));
    }
    assert_eq!(
        results,
        [
            Verdict::Started,
            Verdict::Succeeded(Content::json(&0).unwrap())
        ]
    );
    // The first delivery has its answer by then.
    tokio::time::sleep(MIN_LEASE * 2).await;
    assert_eq!(control.asked.load(Ordering::Relaxed), 2);
    assert_eq!(runs.load(Ordering::Relaxed), 1);
    worker.close().await.unwrap();
}
