//! Handlers that fail, panic or take too long.

use std::time::Duration;

use goflow::{Backoff, Ctx, GoFlow, HandlerError, Raw, State, Task};
use serde_json::json;

use crate::{PATIENCE, doubler, started};

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
