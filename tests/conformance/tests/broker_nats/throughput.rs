//! A measurement, for whoever changes how messages move.

use std::time::Duration;

use futures_util::future::join_all;
use goflow_conformance::broker::{PATIENCE, QUEUE, message, prepared, submit_all};
use tokio::time::Instant;

use super::start;

/// A measurement: `cargo nextest run --run-ignored only -E 'test(throughput)' --no-capture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn throughput() {
    const TASKS: usize = 100_000;
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
}
