//! What is done to tasks by their id.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use goflow::{Ctx, Error, GoFlow, HandlerError, State, Task, TaskId};
use goflow_test_servers::eventually;
use serde_json::json;

use crate::{PATIENCE, started};

#[tokio::test]
async fn queued_and_running_tasks_can_be_cancelled() {
    let flow = GoFlow::local().num_workers(1).build().unwrap();
    flow.start().await.unwrap();
    let told = Arc::new(AtomicUsize::new(0));
    let count = told.clone();
    flow.register_handler("wait", move |ctx: Ctx, (): ()| {
        let count = count.clone();
        async move {
            ctx.cancelled().await;
            count.fetch_add(1, Ordering::SeqCst);
            Ok::<_, HandlerError>(())
        }
    })
    .unwrap();
    let running = flow.push(Task::json("wait", &()).unwrap()).await.unwrap();
    let queued = flow.push(Task::json("wait", &()).unwrap()).await.unwrap();
    assert_eq!(flow.cancel(queued).await.unwrap().state, State::Cancelled);
    eventually(PATIENCE, async || {
        flow.get(running).await.unwrap().state == State::Running
    })
    .await
    .unwrap();
    assert_eq!(flow.cancel(running).await.unwrap().state, State::Cancelled);
    assert!(matches!(
        flow.cancel(running).await,
        Err(Error::Forbidden {
            state: State::Cancelled,
            ..
        })
    ));
    eventually(PATIENCE, async || told.load(Ordering::SeqCst) > 0)
        .await
        .unwrap();
    let last = flow.get(running).await.unwrap().state;
    assert_eq!(last, State::Cancelled, "nothing overwrites a cancel");
    flow.close().await.unwrap();
    assert_eq!(
        told.load(Ordering::SeqCst),
        1,
        "only the one that ran was told to stop"
    );
}

#[tokio::test]
async fn a_failed_task_can_be_reopened() {
    let flow = started().await;
    let broken = Arc::new(AtomicBool::new(true));
    let state = broken.clone();
    flow.register_handler("mend", move |(): ()| {
        let state = state.clone();
        async move {
            if state.load(Ordering::SeqCst) {
                Err("broken")
            } else {
                Ok("mended")
            }
        }
    })
    .unwrap();
    let id = flow
        .push(Task::json("mend", &()).unwrap().max_attempts(1))
        .await
        .unwrap();
    assert_eq!(flow.wait(id, PATIENCE).await.unwrap().state, State::Failed);
    broken.store(false, Ordering::SeqCst);
    flow.retry(id).await.unwrap();
    assert_eq!(
        flow.wait(id, PATIENCE)
            .await
            .unwrap()
            .json::<String>()
            .unwrap(),
        "mended"
    );
    let record = flow.get(id).await.unwrap();
    assert_eq!((record.attempt, record.attempts.len()), (2, 1));
    assert!(matches!(
        flow.retry(id).await,
        Err(Error::Forbidden {
            state: State::Succeeded,
            ..
        })
    ));
    flow.close().await.unwrap();
}

#[tokio::test]
async fn unknown_tasks_are_not_found() {
    let flow = started().await;
    let id = TaskId::new();
    assert!(matches!(flow.get(id).await, Err(Error::NotFound(_))));
    assert!(matches!(
        flow.wait(id, PATIENCE).await,
        Err(Error::NotFound(_))
    ));
    assert!(matches!(flow.cancel(id).await, Err(Error::NotFound(_))));
    flow.close().await.unwrap();
}

#[tokio::test]
async fn a_repeated_push_gives_the_first_id() {
    let flow = started().await;
    let task = |n: i64| {
        Task::json("doubler", &json!({"N": n}))
            .unwrap()
            .idempotency_key("order-7")
    };
    let first = flow.push(task(1)).await.unwrap();
    assert_eq!(flow.push(task(1)).await.unwrap(), first);
    assert!(matches!(flow.push(task(2)).await, Err(Error::KeyReused)));
    flow.close().await.unwrap();
}
