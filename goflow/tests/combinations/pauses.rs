//! Queues that are paused and resumed.

use std::time::Duration;

use goflow::{Error, HandlerError, Priority, QueueName, State, Task};

use crate::PATIENCE;
use crate::deployment::{Combination, Deployment, Servers};

on_every_combination! {
    a_paused_queue_delivers_nothing
    a_queue_that_is_resumed_while_a_worker_appears_goes_on
}

async fn nothing(_: ()) -> Result<(), HandlerError> {
    Ok(())
}

fn task() -> Task {
    Task::json("nothing", &()).unwrap()
}

async fn a_paused_queue_delivers_nothing(on: Combination) {
    let flow = Deployment::start(on, 1).await;
    flow.register_handler("nothing", nothing);
    let queue = QueueName::default();
    flow.pause_queue(&queue).await.unwrap();
    let id = flow.push(task()).await.unwrap();
    let queues = flow.queues().await.unwrap();
    let mut paused = queues.iter().filter(|queue| queue.counts.paused);
    assert!(paused.any(|one| one.counts.queue == queue));
    let waited = flow.wait(id, Duration::from_millis(300)).await;
    assert!(matches!(waited, Err(Error::WaitTimeout(_))), "{waited:?}");
    flow.resume_queue(&queue).await.unwrap();
    let result = flow.wait(id, PATIENCE).await.unwrap();
    assert_eq!(result.state, State::Succeeded);
    flow.close().await;
}

/// A worker that appears has lanes made as it wants them, paused if the queue is: not after they were resumed.
async fn a_queue_that_is_resumed_while_a_worker_appears_goes_on(on: Combination) {
    let servers = Servers::start(on).await;
    let flow = servers.engine().await;
    let queue = QueueName::default();
    flow.pause_queue(&queue).await.unwrap();
    let mut ids = Vec::new();
    for lane in Priority::ALL {
        let tasks = (0..200).map(|_| task().priority(lane)).collect();
        ids.extend(flow.push_many(tasks).await.unwrap());
    }
    // At once, so that the engine has its hands full when it hears of the worker.
    let worker = servers.workers().await.handler("nothing", nothing);
    let worker = worker.num_workers(16).build().unwrap();
    worker.start().await.unwrap();
    flow.resume_queue(&queue).await.unwrap();
    for id in ids {
        flow.wait(id, PATIENCE).await.unwrap();
    }
    worker.close().await.unwrap();
    flow.close().await.unwrap();
}
