//! Handlers that take long, some of which keep their thread: nobody waits behind them while a slot and a thread are free.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use goflow::{GoFlow, Task, TaskId};

use crate::PATIENCE;

type Starts = Arc<Mutex<Vec<Instant>>>;

/// A queue of four slots, with a handler that keeps its thread for so many milliseconds as it is told.
async fn started() -> (GoFlow, Starts) {
    let starts = Starts::default();
    let noted = starts.clone();
    let block = move |millis: u64| {
        let noted = noted.clone();
        async move {
            if millis > 0 {
                noted.lock().unwrap().push(Instant::now());
                std::thread::sleep(Duration::from_millis(millis));
            }
            Ok::<_, goflow::HandlerError>(())
        }
    };
    let flow = GoFlow::local().num_workers(4).handler("block", block);
    let flow = flow.build().unwrap();
    flow.start().await.unwrap();
    (flow, starts)
}

async fn push(flow: &GoFlow, count: usize, millis: u64) -> Vec<TaskId> {
    let task = || Task::json("block", &millis).unwrap();
    let tasks = (0..count).map(|_| task()).collect();
    flow.push_many(tasks).await.unwrap()
}

/// How long after the first the last one started.
async fn spread(flow: &GoFlow, ids: Vec<TaskId>, starts: &Starts) -> Duration {
    let count = ids.len();
    for id in ids {
        flow.wait(id, PATIENCE).await.unwrap();
    }
    let starts = starts.lock().unwrap();
    assert_eq!(starts.len(), count);
    let (first, last) = (starts.iter().min().unwrap(), starts.iter().max().unwrap());
    last.duration_since(*first)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 5)]
async fn all_slots_start_at_once() {
    let (flow, starts) = started().await;
    let ids = push(&flow, 4, 3_000).await;
    let spread = spread(&flow, ids, &starts).await;
    assert!(spread < Duration::from_secs(2), "{spread:?}");
    flow.close().await.unwrap();
}

/// Where tasks end at once, one slot takes all there are: it is not waited for when one of them does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 5)]
async fn a_long_one_among_short_ones_keeps_no_other_one() {
    let (flow, starts) = started().await;
    for id in push(&flow, 1_000, 0).await {
        flow.wait(id, PATIENCE).await.unwrap();
    }
    let ids = push(&flow, 3, 4_000).await;
    let spread = spread(&flow, ids, &starts).await;
    assert!(spread < Duration::from_secs(3), "{spread:?}");
    flow.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn one_that_waits_among_short_ones_keeps_no_other_one() {
    let nap = |millis: u64| async move {
        if millis > 0 {
            tokio::time::sleep(Duration::from_millis(millis)).await;
        }
        Ok::<_, goflow::HandlerError>(())
    };
    let flow = GoFlow::local().num_workers(2).handler("block", nap);
    let flow = flow.build().unwrap();
    flow.start().await.unwrap();
    for id in push(&flow, 100, 0).await {
        flow.wait(id, PATIENCE).await.unwrap();
    }
    let begun = tokio::time::Instant::now();
    let both = [5_000, 0].map(|millis| Task::json("block", &millis).unwrap());
    let ids = flow.push_many(both.into()).await.unwrap();
    flow.wait(ids[1], PATIENCE).await.unwrap();
    let took = begun.elapsed();
    assert!(took < Duration::from_millis(100), "{took:?}");
    flow.close().await.unwrap();
}
