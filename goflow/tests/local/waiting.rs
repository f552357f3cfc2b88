//! Tasks that wait: for a handler, for room, for their time.

use std::time::{Duration, Instant};

use goflow::{Error, GoFlow, HandlerError, State, Task};
use goflow_test_servers::eventually;
use serde_json::json;

use crate::{PATIENCE, started};

#[tokio::test]
async fn an_unserved_type_waits_for_its_handler() {
    let flow = started().await;
    let id = flow
        .push(Task::json("later", &json!(1)).unwrap())
        .await
        .unwrap();
    eventually(PATIENCE, async || flow.get(id).await.unwrap().unserved)
        .await
        .unwrap();
    assert_eq!(flow.get(id).await.unwrap().state, State::Queued);
    assert!(matches!(
        flow.wait(id, Duration::from_millis(50)).await,
        Err(Error::WaitTimeout(_))
    ));
    flow.register_handler("later", async |n: i64| Ok::<_, HandlerError>(n + 1))
        .unwrap();
    assert_eq!(
        flow.wait(id, PATIENCE)
            .await
            .unwrap()
            .json::<i64>()
            .unwrap(),
        2
    );
    flow.close().await.unwrap();
}

#[tokio::test]
async fn the_queue_of_an_unserved_task_is_visible() {
    let flow = started().await;
    let id = flow
        .push(
            Task::json("doubler", &json!({"N": 1}))
                .unwrap()
                .queue("elsewhere")
                .unwrap(),
        )
        .await
        .unwrap();
    let queues = flow.queues().await.unwrap();
    let elsewhere = queues
        .iter()
        .find(|q| q.counts.queue.as_str() == "elsewhere")
        .unwrap();
    assert_eq!((elsewhere.counts.queued, elsewhere.workers), (1, 0));
    flow.cancel(id).await.unwrap();
    flow.close().await.unwrap();
}

#[tokio::test]
async fn a_full_queue_pushes_back() {
    let flow = GoFlow::local()
        .num_workers(1)
        .task_queue_buffer_size(3)
        .push_timeout(Duration::from_millis(100))
        .build()
        .unwrap();
    flow.start().await.unwrap();
    let (go, gate) = tokio::sync::watch::channel(false);
    flow.register_handler("wait", move |(): ()| {
        let mut gate = gate.clone();
        async move { Ok::<_, HandlerError>(gate.wait_for(|open| *open).await.is_ok()) }
    })
    .unwrap();
    let task = || Task::json("wait", &()).unwrap();
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(flow.push(task()).await.unwrap());
    }
    let before = Instant::now();
    let refused = flow.push(task()).await.unwrap_err();
    assert!(
        matches!(refused, Error::QueueFull { limit: 3 }),
        "{refused}"
    );
    assert!(refused.is_retryable() && before.elapsed() >= Duration::from_millis(100));
    go.send_replace(true);
    for id in ids {
        flow.wait(id, PATIENCE).await.unwrap();
    }
    flow.push(task()).await.unwrap();
    flow.close().await.unwrap();
}

#[tokio::test]
async fn delayed_tasks_wait_for_their_time() {
    let flow = started().await;
    let task = Task::json("doubler", &json!({"N": 2}))
        .unwrap()
        .delay(Duration::from_millis(300));
    let before = Instant::now();
    let id = flow.push(task).await.unwrap();
    assert_eq!(flow.get(id).await.unwrap().state, State::Scheduled);
    flow.wait(id, PATIENCE).await.unwrap();
    assert!(before.elapsed() >= Duration::from_millis(300));
    flow.close().await.unwrap();
}
