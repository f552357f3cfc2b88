//! Engines on NATS with records in memory: what passes through the broker, and that two of them do not mix.

#![expect(clippy::unwrap_used, reason = "in a test it says enough")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use goflow_core::{Backoff, Ctx, GoFlow, HandlerError, State, Task, Worker};
use goflow_test_servers::{Nats, eventually};

const PATIENCE: Duration = Duration::from_secs(30);

async fn connect(nats: &Nats) -> goflow_core::broker::Connection {
    goflow_nats::connect(goflow_nats::Options::new(nats.url()))
        .await
        .unwrap()
}

async fn engine(nats: &Nats) -> GoFlow {
    let flow = GoFlow::builder().broker(connect(nats).await).build();
    flow.start().await.unwrap();
    flow
}

#[tokio::test]
async fn two_engines_get_the_outcomes_of_their_own_tasks() {
    let nats = Nats::start().unwrap();
    let (left, right) = (engine(&nats).await, engine(&nats).await);
    let worker = Worker::builder()
        .broker(connect(&nats).await)
        .handler("double", async |n: u64| Ok::<_, HandlerError>(2 * n))
        .build()
        .unwrap();
    worker.start().await.unwrap();
    for n in 0..50 {
        for flow in [&left, &right] {
            let id = flow.push(Task::json("double", &n).unwrap()).await.unwrap();
            let result = flow.wait(id, PATIENCE).await.unwrap();
            assert_eq!(result.json::<u64>().unwrap(), 2 * n);
        }
    }
    // One that ends takes nothing of the other with it.
    left.close().await.unwrap();
    let id = right.push(Task::json("double", &7).unwrap()).await.unwrap();
    assert_eq!(
        right.wait(id, PATIENCE).await.unwrap().state,
        State::Succeeded
    );
    worker.close().await.unwrap();
    right.close().await.unwrap();
}

#[tokio::test]
async fn progress_checkpoints_and_snoozes_pass_through_nats() {
    let nats = Nats::start().unwrap();
    let flow = engine(&nats).await;
    let runs = Arc::new(AtomicU32::new(0));
    let count = runs.clone();
    let handler = move |ctx: Ctx, (): ()| {
        let run = count.fetch_add(1, Ordering::SeqCst) + 1;
        async move {
            match run {
                1 => Err(HandlerError::snooze(Duration::from_millis(50))),
                2 => {
                    ctx.progress(&"half").unwrap();
                    ctx.checkpoint("half").unwrap();
                    ctx.cancelled().await;
                    Err(HandlerError::retry("told to stop"))
                }
                _ => Ok(ctx
                    .last_checkpoint()
                    .map(|bytes| String::from_utf8_lossy(bytes).into_owned())),
            }
        }
    };
    let worker = Worker::builder()
        .broker(connect(&nats).await)
        .handler("steps", handler)
        .build()
        .unwrap();
    worker.start().await.unwrap();
    let task = Task::json("steps", &())
        .unwrap()
        .timeout(Duration::from_secs(2))
        .backoff(Backoff::Fixed(Duration::from_millis(50)));
    let id = flow.push(task).await.unwrap();
    eventually(PATIENCE, async || {
        flow.get(id).await.unwrap().progress.as_deref() == Some("\"half\"")
    })
    .await
    .unwrap();
    let result = flow.wait(id, PATIENCE).await.unwrap();
    assert_eq!(
        result.json::<Option<String>>().unwrap().as_deref(),
        Some("half")
    );
    let record = flow.get(id).await.unwrap();
    assert_eq!(
        (record.attempt, record.attempts.len()),
        (2, 1),
        "a snooze uses no attempt"
    );
    assert_eq!(record.attempts[0].error, "timed out after 2s");
    worker.close().await.unwrap();
    flow.close().await.unwrap();
}
