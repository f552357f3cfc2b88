//! What handlers say, and what comes of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use goflow::{Ctx, HandlerError, State};
use goflow_test_servers::eventually;
use serde_json::json;
use tokio::sync::watch;

use super::task;
use crate::PATIENCE;
use crate::deployment::{Combination, Deployment};

pub(super) async fn a_handler_says_what_comes_next(on: Combination) {
    let flow = Deployment::start(on, 1).await;
    let runs = Arc::new(AtomicU32::new(0));
    flow.register_handler("snooze", move |ctx: Ctx, (): ()| {
        let run = runs.fetch_add(1, Ordering::SeqCst) + 1;
        async move {
            assert_eq!(ctx.attempt(), 1);
            if run < 3 {
                Err(HandlerError::snooze(Duration::from_millis(50)))
            } else {
                Ok("awake")
            }
        }
    });
    let before = Instant::now();
    let id = flow.push(task("snooze").max_attempts(1)).await.unwrap();
    let result = flow.wait(id, PATIENCE).await.unwrap();
    assert_eq!(result.json::<String>().unwrap(), "awake");
    assert!(before.elapsed() >= Duration::from_millis(100));
    assert_eq!(flow.get(id).await.unwrap().attempts, []);

    flow.register_handler("later", async |ctx: Ctx, (): ()| {
        if ctx.attempt() == 1 {
            let wait = Duration::from_millis(300);
            return Err(HandlerError::retry_after(wait, "not yet"));
        }
        Ok(())
    });
    let before = Instant::now();
    let id = flow.push(task("later")).await.unwrap();
    let result = flow.wait(id, PATIENCE).await.unwrap();
    assert_eq!(result.state, State::Succeeded);
    assert!(before.elapsed() >= Duration::from_millis(300));
    flow.close().await;
}

pub(super) async fn progress_is_seen_and_a_checkpoint_handed_on(on: Combination) {
    let flow = Deployment::start(on, 1).await;
    let (seen, gate) = watch::channel(false);
    flow.register_handler("steps", move |ctx: Ctx, (): ()| {
        let mut gate = gate.clone();
        async move {
            if let Some(checkpoint) = ctx.last_checkpoint() {
                return Ok(String::from_utf8_lossy(checkpoint).into_owned());
            }
            ctx.progress(&json!({"done": 3, "of": 10})).unwrap();
            ctx.checkpoint("three").unwrap();
            gate.wait_for(|seen| *seen).await.unwrap();
            // Not saved yet when the attempt ends.
            ctx.checkpoint("four").unwrap();
            Err("lost power")
        }
    });
    let id = flow.push(task("steps")).await.unwrap();
    let progress = eventually(PATIENCE, async || flow.get(id).await.unwrap().progress);
    assert_eq!(progress.await.unwrap(), r#"{"done":3,"of":10}"#);
    seen.send_replace(true);
    let result = flow.wait(id, PATIENCE).await.unwrap();
    assert_eq!(result.json::<String>().unwrap(), "four");
    flow.close().await;
}

pub(super) async fn a_silent_handler_is_taken_for_hung(on: Combination) {
    let flow = Deployment::start(on, 2).await;
    flow.register_handler("hang", async |ctx: Ctx, (): ()| {
        ctx.cancelled().await;
        Ok::<_, HandlerError>(())
    });
    flow.register_handler("busy", async |ctx: Ctx, (): ()| {
        for _ in 0..20 {
            ctx.heartbeat();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok::<_, HandlerError>(())
    });
    let watched = |task_type| {
        let task = task(task_type).max_attempts(1);
        task.heartbeat_timeout(Duration::from_millis(200))
    };
    let hang = flow.push(watched("hang")).await.unwrap();
    let busy = flow.push(watched("busy")).await.unwrap();
    let error = flow.wait(hang, PATIENCE).await.unwrap().error.unwrap();
    assert_eq!(error, "hung: no heartbeat for 200ms");
    let result = flow.wait(busy, PATIENCE).await.unwrap();
    assert_eq!(result.state, State::Succeeded);
    flow.close().await;
}
