//! Checkpoints that outlive the worker that saved them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use goflow::{Ctx, HandlerError, Task};
use goflow_test_servers::eventually;

use crate::PATIENCE;
use crate::deployment::{Combination, LEASE, Servers, kill};

on! { nats_memory: NatsMemory, the_last_checkpoint_of_a_run_cut_short_is_handed_on }
on! { nats_postgres: NatsPostgres, the_last_checkpoint_of_a_run_cut_short_is_handed_on }

async fn the_last_checkpoint_of_a_run_cut_short_is_handed_on(on: Combination) {
    let servers = Servers::start(on).await;
    let flow = servers.engine().await;
    let runs = Arc::new(AtomicU32::new(0));
    let worker = async || {
        let runs = runs.clone();
        let handler = move |ctx: Ctx, (): ()| {
            runs.fetch_add(1, Ordering::SeqCst);
            async move {
                if let Some(last) = ctx.last_checkpoint() {
                    let last = String::from_utf8_lossy(last).into_owned();
                    return Ok::<_, HandlerError>((ctx.attempt(), last));
                }
                ctx.checkpoint("one")?;
                ctx.checkpoint("two")?;
                std::future::pending().await
            }
        };
        let builder = servers.workers().await.handler("steps", handler);
        let worker = builder.build().unwrap();
        worker.start().await.unwrap();
        worker
    };
    let first = worker().await;
    let broker = servers.broker().await;
    eventually(PATIENCE, async || {
        broker.tasks.lease("default.1").await.unwrap() == LEASE
    })
    .await
    .unwrap();

    let id = flow.push(Task::json("steps", &()).unwrap()).await.unwrap();
    eventually(PATIENCE, async || {
        broker.control.checkpoint(id).await.unwrap().as_deref() == Some(&b"two"[..])
    })
    .await
    .unwrap();
    kill(first).await;
    let second = worker().await;
    let result = flow.wait(id, PATIENCE).await.unwrap();
    let handed_on = result.json::<(u32, String)>().unwrap();
    assert_eq!(handed_on, (1, "two".to_owned()), "no attempt is used");
    assert_eq!(runs.load(Ordering::SeqCst), 2);
    let record = flow.get(id).await.unwrap();
    assert_eq!((record.attempt, record.attempts), (1, Vec::new()));
    assert_eq!(record.worker, Some(second.id()));
    second.close().await.unwrap();
    flow.close().await.unwrap();
}
