//! How fast messages move: printed for whoever changes it (`--no-capture`), and far from slow.

use std::time::Duration;

use futures_util::future::join_all;
use goflow_conformance::broker::{PATIENCE, QUEUE, message, prepared, submit_all};
use tokio::time::Instant;

use super::start;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn throughput() {
    const TASKS: usize = 20_000;
    /// A round trip a message would be slower than this.
    const FLOOR: f64 = 3_000.0;
    let server = start().await;
    let connection = prepared(&server).await;
    connection
        .tasks
        .prepare(QUEUE, Some(Duration::from_secs(30)))
        .await
        .unwrap();
    let mut messages = (0..TASKS).map(|_| message("measured"));
    let began = Instant::now();
    loop {
        let batch: Vec<_> = messages.by_ref().take(1_000).collect();
        if batch.is_empty() {
            break;
        }
        submit_all(&connection, batch).await;
    }
    let rate = |began: Instant| TASKS as f64 / began.elapsed().as_secs_f64();
    println!("submit: {:.0}/s", rate(began));
    assert!(rate(began) > FLOOR);
    let began = Instant::now();
    let mut left = TASKS;
    while left > 0 {
        let deliveries = connection
            .tasks
            .dequeue(QUEUE, 1_000, PATIENCE)
            .await
            .unwrap();
        left -= deliveries.len();
        let acks = deliveries.iter().map(|delivery| delivery.lease.ack());
        join_all(acks)
            .await
            .into_iter()
            .for_each(|ack| ack.unwrap());
    }
    println!("dequeue and ack: {:.0}/s", rate(began));
    assert!(rate(began) > FLOOR);
}
