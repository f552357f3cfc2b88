//! Starting and closing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use goflow::{Error, GoFlow, HandlerError, State, Task};
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;

use crate::{PATIENCE, doubler};

#[tokio::test]
async fn starting_and_closing_follow_the_rules() {
    let flow = GoFlow::local().build().unwrap();
    let task = || Task::json("doubler", &json!({"N": 1})).unwrap();
    assert!(matches!(flow.push(task()).await, Err(Error::NotStarted)));
    assert!(matches!(flow.close().await, Err(Error::NotStarted)));
    flow.start().await.unwrap();
    assert!(matches!(flow.start().await, Err(Error::AlreadyStarted)));
    flow.close().await.unwrap();
    flow.close().await.unwrap();
    assert!(matches!(flow.push(task()).await, Err(Error::NotStarted)));
    assert!(matches!(flow.start().await, Err(Error::NotStarted)));
    assert_eq!(Error::AlreadyStarted.to_string(), "already started");
    assert_eq!(Error::NotStarted.to_string(), "not started");
}

#[tokio::test]
async fn handlers_belong_to_workers_in_distributed_mode() {
    let flow = GoFlow::builder().build();
    let refused = flow.register_handler("doubler", doubler).unwrap_err();
    assert!(
        refused.to_string().contains("Worker::builder()"),
        "{refused}"
    );
}

/// What a push promised while it closed has run, and whoever hears of finished tasks hears the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn pushes_meet_the_close() {
    for _ in 0..30 {
        let ran = Arc::new(AtomicUsize::new(0));
        let count = ran.clone();
        let count = move |(): ()| {
            count.fetch_add(1, Ordering::SeqCst);
            async { Ok::<_, HandlerError>(()) }
        };
        let flow = GoFlow::local().handler("count", count).build().unwrap();
        flow.start().await.unwrap();
        let mut finished = flow.finished().unwrap();
        let pushers = (0..3).map(|_| {
            let flow = flow.clone();
            tokio::spawn(async move {
                let mut accepted = 0;
                loop {
                    match flow.push(Task::json("count", &()).unwrap()).await {
                        Ok(_) => accepted += 1,
                        Err(Error::NotStarted) => return accepted,
                        Err(error) => panic!("{error}"),
                    }
                }
            })
        });
        let pushers: Vec<_> = pushers.collect();
        tokio::time::sleep(Duration::from_millis(2)).await;
        flow.close().await.unwrap();
        let mut accepted = 0;
        for pusher in pushers {
            accepted += pusher.await.unwrap();
        }
        let ran = ran.load(Ordering::SeqCst);
        assert!(accepted > 0 && ran >= accepted, "{ran} of {accepted} ran");
        let end = async { while !matches!(finished.recv().await, Err(RecvError::Closed)) {} };
        tokio::time::timeout(PATIENCE, end).await.unwrap();
    }
}

#[tokio::test]
async fn close_drains() {
    let flow = GoFlow::local().num_workers(2).build().unwrap();
    let ran = Arc::new(AtomicUsize::new(0));
    let count = ran.clone();
    flow.register_handler("count", move |(): ()| {
        let count = count.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            count.fetch_add(1, Ordering::SeqCst);
            Ok::<_, HandlerError>(())
        }
    })
    .unwrap();
    flow.start().await.unwrap();
    let tasks = (0..100)
        .map(|_| Task::json("count", &()).unwrap())
        .collect();
    assert_eq!(flow.push_many(tasks).await.unwrap().len(), 100);
    flow.close().await.unwrap();
    assert_eq!(ran.load(Ordering::SeqCst), 100);
}

#[tokio::test]
async fn closing_too_early_says_what_is_lost() {
    let flow = GoFlow::local()
        .grace(Duration::from_millis(200))
        .build()
        .unwrap();
    flow.start().await.unwrap();
    flow.push(Task::json("nobody", &()).unwrap()).await.unwrap();
    assert!(matches!(flow.close().await, Err(Error::Unfinished(1))));
}

#[tokio::test]
async fn closing_ends_waits() {
    let flow = GoFlow::local()
        .grace(Duration::from_millis(200))
        .build()
        .unwrap();
    flow.start().await.unwrap();
    let id = flow.push(Task::json("nobody", &()).unwrap()).await.unwrap();
    let waiting = flow.clone();
    let wait = tokio::spawn(async move { waiting.wait(id, Duration::MAX).await });
    // Until it waits.
    while !wait.is_finished() && flow.get(id).await.unwrap().state != State::Queued {
        tokio::task::yield_now().await;
    }
    let closed = tokio::time::timeout(PATIENCE, flow.close()).await.unwrap();
    assert!(matches!(closed, Err(Error::Unfinished(1))), "{closed:?}");
    let waited = tokio::time::timeout(PATIENCE, wait).await.unwrap().unwrap();
    assert!(waited.is_err(), "{waited:?}");
}
