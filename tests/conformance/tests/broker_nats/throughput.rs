//! How fast messages move: printed for whoever changes it (`--no-capture`), and far from slow.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join_all, select_all};
use goflow_conformance::broker::{LANE, PATIENCE, message, prepared, submit_all};
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
        .prepare(LANE, Some(Duration::from_secs(30)))
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
            .dequeue(LANE, 1_000, PATIENCE)
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

/// What a worker that takes from four lanes costs: one that has nothing to do, and one that takes task by task while it
/// drops three dequeues for each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lanes() {
    const IDLE: Duration = Duration::from_secs(3);
    const TASKS: usize = 1_000;
    let server = start().await;
    let connection = prepared(&server).await;
    let began = Instant::now();
    let lanes = ["lanes.3", "lanes.2", "lanes.1", "lanes.0"];
    for lane in lanes {
        connection
            .tasks
            .prepare(lane, Some(Duration::from_secs(30)))
            .await
            .unwrap();
    }
    let took = began.elapsed();
    println!("prepare four lanes: {took:?}");
    assert!(took < Duration::from_millis(500));

    let wait = |lane| connection.tasks.dequeue(lane, 5, Duration::from_secs(1));
    let (spent, began) = (
        cpu(std::process::id()) + cpu(server.0.pid()),
        Instant::now(),
    );
    while began.elapsed() < IDLE {
        join_all(lanes.map(wait)).await;
    }
    let spent = cpu(std::process::id()) + cpu(server.0.pid()) - spent;
    println!(
        "idle for {:?}: {spent:?} of CPU, both sides",
        began.elapsed()
    );
    assert!(spent < IDLE / 5, "{spent:?}");

    let take = async |n: usize| {
        let began = Instant::now();
        for _ in 0..n {
            let mut task = message("measured");
            Arc::make_mut(&mut task.spec).queue = "lanes".parse().unwrap();
            submit_all(&connection, vec![task]).await;
            let waits = lanes.map(|lane| Box::pin(wait(lane)));
            let (taken, _, losers) = select_all(waits).await;
            drop(losers);
            for delivery in taken.unwrap() {
                delivery.lease.ack().await.unwrap();
            }
        }
        began.elapsed() / n as u32
    };
    let early = take(TASKS / 10).await;
    take(TASKS).await;
    let late = take(TASKS / 10).await;
    println!("submit, take and ack with three dropped: {early:?} each, {late:?} after {TASKS}");
    assert!(
        late < early * 4 + Duration::from_millis(2),
        "{early:?}, then {late:?}"
    );
}

/// The processor time that a process has used.
fn cpu(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
    // User and system time, in hundredths of a second.
    let ticks: u64 = fields
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<u64>().ok())
        .sum();
    Duration::from_millis(ticks * 10)
}
