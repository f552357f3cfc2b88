//! Local mode: everything in this process.

#![expect(clippy::unwrap_used, reason = "in a test it says enough")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use goflow::{Backoff, Content, Ctx, Error, GoFlow, HandlerError, Raw, State, Task};
use serde::{Deserialize, Serialize};
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Deserialize)]
struct Input {
    #[serde(rename = "N")]
    n: i64,
}

#[derive(Debug, Serialize, Deserialize, PartialEq)]
struct Output {
    doubled: i64,
}

async fn doubler(input: Input) -> Result<Output, HandlerError> {
    Ok(Output {
        doubled: input.n * 2,
    })
}

async fn started() -> GoFlow {
    let flow = GoFlow::local().handler("doubler", doubler).build().unwrap();
    flow.start().await.unwrap();
    flow
}

#[tokio::test]
async fn a_task_is_run_and_its_result_kept() {
    let flow = started().await;
    let id = flow
        .push(Task::json("doubler", &json!({"N": 10})).unwrap())
        .await
        .unwrap();
    let result = flow.wait(id, PATIENCE).await.unwrap();
    assert_eq!(result.json::<Output>().unwrap(), Output { doubled: 20 });
    assert_eq!(flow.get_result(id).await.unwrap().unwrap(), result);
    let record = flow.get(id).await.unwrap();
    assert_eq!((record.state, record.attempt), (State::Succeeded, 1));
    assert!(record.finished_at.is_some() && record.started_at.is_some() && record.worker.is_some());
    flow.close().await.unwrap();
}

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
async fn raw_bytes_pass_untouched() {
    let flow = started().await;
    flow.register_handler("repeater", async |Raw(payload): Raw| {
        Ok::<_, HandlerError>(Raw(payload))
    })
    .unwrap();
    for bytes in [&b""[..], &b"\xff\x00\xfe"[..], &[7; 900 * 1024][..]] {
        let content = Content::new(bytes.to_vec(), "application/x-odd");
        let id = flow
            .push(Task::new("repeater", content.clone()).unwrap())
            .await
            .unwrap();
        assert_eq!(flow.wait(id, PATIENCE).await.unwrap().result, Some(content));
    }
    flow.close().await.unwrap();
}

#[tokio::test]
async fn too_large_is_refused() {
    let flow = started().await;
    let task = Task::new("doubler", Content::binary(vec![0; 900 * 1024 + 1])).unwrap();
    assert!(matches!(
        flow.push(task).await,
        Err(Error::TooLarge {
            what: "payload",
            ..
        })
    ));
    flow.register_handler("large", async |(): ()| {
        Ok::<_, HandlerError>(Raw(Content::binary(vec![0; 1 << 20])))
    })
    .unwrap();
    let id = flow.push(Task::json("large", &()).unwrap()).await.unwrap();
    let result = flow.wait(id, PATIENCE).await.unwrap();
    assert_eq!(result.state, State::Failed);
    assert_eq!(
        result.error.unwrap(),
        "result of 1048576 bytes, 921600 is the most"
    );
    flow.close().await.unwrap();
}

#[tokio::test]
async fn a_failing_handler_is_tried_again_and_every_error_kept() {
    let flow = started().await;
    flow.register_handler("flaky", async |ctx: Ctx, (): ()| {
        if ctx.attempt() < 3 {
            Err(format!("failure {}", ctx.attempt()))
        } else {
            Ok("done")
        }
    })
    .unwrap();
    let task = Task::json("flaky", &())
        .unwrap()
        .backoff(Backoff::Fixed(Duration::from_millis(20)));
    let id = flow.push(task).await.unwrap();
    assert_eq!(
        flow.wait(id, PATIENCE)
            .await
            .unwrap()
            .json::<String>()
            .unwrap(),
        "done"
    );
    let record = flow.get(id).await.unwrap();
    let errors: Vec<_> = record
        .attempts
        .iter()
        .map(|a| (a.attempt, a.error.as_str()))
        .collect();
    assert_eq!(errors, [(1, "failure 1"), (2, "failure 2")]);
    assert_eq!(record.attempt, 3);
    flow.close().await.unwrap();
}

#[tokio::test]
async fn attempts_run_out_and_permanent_failures_end_at_once() {
    let flow = started().await;
    flow.register_handler("errorer", async |Raw(payload): Raw| {
        Err::<(), _>(format!(
            "error for payload: {}",
            String::from_utf8_lossy(&payload.bytes)
        ))
    })
    .unwrap();
    flow.register_handler("hopeless", async |(): ()| {
        Err::<(), _>(HandlerError::permanent("no use"))
    })
    .unwrap();
    let fast = Backoff::Fixed(Duration::from_millis(5));
    let id = flow
        .push(
            Task::json("errorer", &json!({"N": 1}))
                .unwrap()
                .backoff(fast),
        )
        .await
        .unwrap();
    let result = flow.wait(id, PATIENCE).await.unwrap();
    assert_eq!(
        (result.state, result.error.as_deref()),
        (State::Failed, Some(r#"error for payload: {"N":1}"#))
    );
    assert_eq!(flow.get(id).await.unwrap().attempts.len(), 3);
    let id = flow
        .push(Task::json("hopeless", &()).unwrap())
        .await
        .unwrap();
    assert_eq!(flow.wait(id, PATIENCE).await.unwrap().state, State::Failed);
    assert_eq!(flow.get(id).await.unwrap().attempt, 1);
    let id = flow
        .push(Task::json("doubler", &"not an object").unwrap())
        .await
        .unwrap();
    let error = flow.wait(id, PATIENCE).await.unwrap().error.unwrap();
    assert!(
        error.starts_with("payload does not fit the handler"),
        "{error}"
    );
    flow.close().await.unwrap();
}

#[tokio::test]
async fn a_panic_is_a_failed_attempt_and_the_pool_goes_on() {
    let flow = GoFlow::local()
        .num_workers(1)
        .handler("doubler", doubler)
        .build()
        .unwrap();
    flow.start().await.unwrap();
    flow.register_handler("panicker", async |(): ()| {
        if true {
            panic!("out of {}", "cheese");
        }
        Ok::<_, HandlerError>(())
    })
    .unwrap();
    let id = flow
        .push(Task::json("panicker", &()).unwrap().max_attempts(1))
        .await
        .unwrap();
    let result = flow.wait(id, PATIENCE).await.unwrap();
    assert_eq!(
        (result.state, result.error.as_deref()),
        (State::Failed, Some("panicked: out of cheese"))
    );
    let id = flow
        .push(Task::json("doubler", &json!({"N": 4})).unwrap())
        .await
        .unwrap();
    assert_eq!(
        flow.wait(id, PATIENCE).await.unwrap().state,
        State::Succeeded
    );
    flow.close().await.unwrap();
}

#[tokio::test]
async fn a_timeout_ends_the_attempt() {
    let flow = started().await;
    flow.register_handler("slow", async |ctx: Ctx, (): ()| {
        ctx.cancelled().await;
        Ok::<_, HandlerError>(())
    })
    .unwrap();
    let task = Task::json("slow", &())
        .unwrap()
        .timeout(Duration::from_millis(50))
        .max_attempts(1);
    let id = flow.push(task).await.unwrap();
    assert_eq!(
        flow.wait(id, PATIENCE).await.unwrap().error.unwrap(),
        "timed out after 50ms"
    );
    flow.close().await.unwrap();
}

#[tokio::test]
async fn an_unserved_type_waits_for_its_handler() {
    let flow = started().await;
    let id = flow
        .push(Task::json("later", &json!(1)).unwrap())
        .await
        .unwrap();
    let seen = async {
        while !flow.get(id).await.unwrap().unserved {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, seen).await.unwrap();
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
    let seen = async {
        while flow.get(running).await.unwrap().state != State::Running {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, seen).await.unwrap();
    assert_eq!(flow.cancel(running).await.unwrap().state, State::Cancelled);
    assert!(matches!(
        flow.cancel(running).await,
        Err(Error::Forbidden {
            state: State::Cancelled,
            ..
        })
    ));
    flow.close().await.unwrap();
    assert_eq!(
        told.load(Ordering::SeqCst),
        1,
        "only the one that ran was told to stop"
    );
    // Nothing overwrites a cancel.
}

#[tokio::test]
async fn a_failed_task_can_be_reopened() {
    let flow = started().await;
    let broken = Arc::new(std::sync::atomic::AtomicBool::new(true));
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
    let id = goflow::TaskId::new();
    assert!(matches!(flow.get(id).await, Err(Error::NotFound(_))));
    assert!(matches!(
        flow.wait(id, PATIENCE).await,
        Err(Error::NotFound(_))
    ));
    assert!(matches!(flow.cancel(id).await, Err(Error::NotFound(_))));
    flow.close().await.unwrap();
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
