//! The broker suite on the broker in memory.

use goflow_conformance::broker::Fixture;
use goflow_core::broker::Connection;
use goflow_core::broker::memory::{Options, connect};

struct Memory;

impl Fixture for Memory {
    async fn connect(&self) -> Connection {
        connect(Options::default())
    }

    async fn connect_bounded(&self, capacity: usize) -> Connection {
        connect(Options {
            queue_capacity: capacity,
            ..Options::default()
        })
    }

    fn outlives_connections(&self) -> bool {
        false
    }
}

async fn start() -> Memory {
    Memory
}

goflow_conformance::broker_suite!(start);

mod only_memory {
    use std::sync::Arc;
    use std::time::Duration;

    use goflow_conformance::broker::{LANE, message};
    use goflow_core::broker::Error;
    use goflow_core::broker::memory::{Options, connect};
    use goflow_core::outcome::OutcomeBatch;
    use goflow_core::{Route, StoreId};
    use tokio::time::Instant;
    use uuid::Uuid;

    fn batch(route: &Route) -> Arc<OutcomeBatch> {
        Arc::new(OutcomeBatch {
            id: Uuid::new_v4(),
            route: route.clone(),
            outcomes: Vec::new(),
        })
    }

    /// A lease runs on tokio's clock, so that tests of engines need not wait for it.
    #[tokio::test(start_paused = true)]
    async fn leases_follow_the_paused_clock() {
        let connection = connect(Options::default());
        connection.tasks.submit(vec![message("again").into()]).await;
        let began = Instant::now();
        for count in 1..=100 {
            let deliveries = connection
                .tasks
                .dequeue(LANE, 1, Duration::from_secs(60))
                .await
                .unwrap();
            assert_eq!(deliveries[0].count, count);
        }
        assert_eq!(began.elapsed().as_secs(), 99 * 30);
    }

    /// Who waits learns of a lease that began after they started to wait, even when who learned of it first is gone.
    #[tokio::test(start_paused = true)]
    async fn an_abandoned_waiter_hands_the_wake_up_on() {
        let connection = connect(Options::default());
        let wait = |seconds| {
            let tasks = connection.tasks.clone();
            tokio::spawn(async move {
                tasks
                    .dequeue(LANE, 1, Duration::from_secs(seconds))
                    .await
                    .unwrap()
                    .len()
            })
        };
        let (first, second, third) = (wait(1_000), wait(1_000), wait(1_000));
        tokio::time::sleep(Duration::from_secs(1)).await;
        connection
            .tasks
            .submit(vec![message("left alone").into()])
            .await;
        // One has it; of the other two one knows when it comes back, and is ended.
        assert_eq!(first.await.unwrap(), 1);
        second.abort();
        let began = Instant::now();
        assert_eq!(third.await.unwrap(), 1);
        assert!(
            began.elapsed() <= Duration::from_secs(31),
            "{:?}",
            began.elapsed()
        );
    }

    /// Outcomes wait for room for a while instead of being refused.
    #[tokio::test(start_paused = true)]
    async fn outcomes_wait_for_room() {
        let connection = connect(Options {
            results_capacity: 1,
            ..Options::default()
        });
        let route = Route::of_store(StoreId(Uuid::new_v4()), false);
        let results = connection.results.submit(vec![batch(&route)]).await;
        assert!(results[0].is_ok());
        let began = Instant::now();
        let results = connection.results.submit(vec![batch(&route)]).await;
        assert!(matches!(results[0], Err(Error::Full { .. })));
        assert_eq!(began.elapsed(), Duration::from_secs(5));

        let submitting = {
            let (results, batch) = (connection.results.clone(), batch(&route));
            tokio::spawn(async move { results.submit(vec![batch]).await })
        };
        tokio::time::sleep(Duration::from_secs(1)).await;
        let deliveries = connection
            .results
            .dequeue(route.as_str(), 1, Duration::ZERO)
            .await
            .unwrap();
        deliveries[0].lease.ack().await.unwrap();
        assert!(submitting.await.unwrap()[0].is_ok());
    }

    /// Printed for whoever changes it (`--no-capture`), and far from slow.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn throughput() {
        const TASKS: usize = 100_000;
        let connection = connect(Options::default());
        let messages: Vec<_> = (0..TASKS).map(|_| message("measured").into()).collect();
        let consumer = {
            let tasks = connection.tasks.clone();
            tokio::spawn(async move {
                let mut left = TASKS;
                while left > 0 {
                    for delivery in tasks
                        .dequeue(LANE, 100, Duration::from_secs(5))
                        .await
                        .unwrap()
                    {
                        delivery.lease.ack().await.unwrap();
                        left -= 1;
                    }
                }
            })
        };
        let began = Instant::now();
        let mut messages = messages.into_iter();
        loop {
            let batch: Vec<_> = messages.by_ref().take(100).collect();
            if batch.is_empty() {
                break;
            }
            connection.tasks.submit(batch).await;
        }
        consumer.await.unwrap();
        let rate = TASKS as f64 / began.elapsed().as_secs_f64();
        println!("{rate:.0} messages/s");
        assert!(rate > 20_000.0);
    }
}
