//! What a push can ask for.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use goflow::{Ctx, Deadline, Error, HandlerError, Priority, State, Task, Unique};
use tokio::sync::watch;

use super::task;
use crate::PATIENCE;
use crate::deployment::{Combination, Deployment, holds};

pub(super) async fn urgent_tasks_go_first(on: Combination) {
    let flow = Deployment::start(on, 1).await;
    let log = Arc::new(Mutex::new(Vec::new()));
    let seen = log.clone();
    flow.register_handler("log", move |priority: u8| {
        seen.lock().unwrap().push(priority);
        std::future::ready(Ok::<_, HandlerError>(()))
    });
    let (open, gate) = watch::channel(false);
    flow.register_handler("block", move |(): ()| {
        let mut gate = gate.clone();
        async move { Ok::<_, HandlerError>(gate.wait_for(|open| *open).await.is_ok()) }
    });
    let block = flow.push(task("block")).await.unwrap();
    flow.in_state(block, State::Running).await;
    let mut ids = Vec::new();
    for priority in [0, 1, 3, 2, 3] {
        let task = Task::json("log", &priority).unwrap();
        let lane = Priority::try_from(priority).unwrap();
        ids.push(flow.push(task.priority(lane)).await.unwrap());
    }
    holds(&flow, "default", ids.len()).await;
    // A lane that was found empty is not looked at again for 50 ms.
    tokio::time::sleep(Duration::from_millis(100)).await;
    open.send_replace(true);
    for id in ids {
        flow.wait(id, PATIENCE).await.unwrap();
    }
    assert_eq!(*log.lock().unwrap(), [3, 3, 2, 1, 0]);
    flow.close().await;
}

pub(super) async fn a_deadline_ends_a_task_wherever_it_is(on: Combination) {
    let flow = Deployment::start(on, 1).await;
    flow.register_handler("wait", async |ctx: Ctx, (): ()| {
        ctx.cancelled().await;
        Ok::<_, HandlerError>(())
    });
    let late = |task: Task| task.deadline(Deadline::After(Duration::from_secs(1)));
    let running = flow.push(late(task("wait"))).await.unwrap();
    flow.in_state(running, State::Running).await;
    let waiting = flow.push(late(task("nobody"))).await.unwrap();
    let scheduled = late(task("wait").delay(PATIENCE));
    let scheduled = flow.push(scheduled).await.unwrap();
    for id in [running, waiting, scheduled] {
        let result = flow.wait(id, PATIENCE).await.unwrap();
        let end = (result.state, result.error.as_deref());
        assert_eq!(end, (State::Expired, Some("deadline passed")));
    }
    flow.register_handler("nobody", async |(): ()| Ok::<_, HandlerError>(()));
    flow.retry(waiting).await.unwrap();
    let result = flow.wait(waiting, PATIENCE).await.unwrap();
    assert_eq!(result.state, State::Succeeded);
    flow.close().await;
}

pub(super) async fn a_unique_key_keeps_a_second_task_out(on: Combination) {
    let flow = Deployment::start(on, 1).await;
    let unique = || task("nobody").unique(Unique::while_live("report"));
    let first = flow.push(unique()).await.unwrap();
    assert_eq!(flow.push(unique()).await.unwrap(), first);
    let rejecting = task("nobody").unique(Unique::while_live("report").or_reject());
    let refused = flow.push(rejecting).await;
    assert!(matches!(refused, Err(Error::Duplicate(id)) if id == first));
    flow.cancel(first).await.unwrap();
    let second = flow.push(unique()).await.unwrap();
    assert_ne!(second, first);
    flow.cancel(second).await.unwrap();

    let daily = || task("nobody").unique(Unique::within("daily", PATIENCE));
    let first = flow.push(daily()).await.unwrap();
    flow.cancel(first).await.unwrap();
    let second = flow.push(daily()).await.unwrap();
    assert_eq!(second, first, "the period is not over");
    flow.close().await;
}
