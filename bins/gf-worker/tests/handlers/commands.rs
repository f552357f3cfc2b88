//! The program told to stop by an operator.

use std::time::Duration;

use gf_process::adapters;
use goflow_core::signal::Command;
use goflow_core::{GoFlow, State, Task};
use goflow_test_servers::{Nats, eventually};
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_worker_that_is_told_to_stop_ends_in_good_order() {
    let nats = Nats::start().unwrap();
    let connection = adapters::broker(&nats.url().parse().unwrap()).await;
    let goflow = GoFlow::builder().broker(connection.unwrap()).build();
    goflow.start().await.unwrap();
    let mut worker = tokio::process::Command::new(env!("CARGO_BIN_EXE_gf-worker"))
        .args(["--broker", nats.url(), "--lane-order", "weighted"])
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let task = Task::json("sleep", &json!({"ms": 1_500})).unwrap();
    let id = goflow.push(task).await.unwrap();
    let seen = eventually(PATIENCE, async || {
        goflow.workers().into_iter().find(|seen| {
            seen.status
                .held
                .iter()
                .any(|held| held.started_at.is_some())
        })
    });
    let seen = seen.await.unwrap();
    goflow.command(seen.status.id, Command::Stop).await.unwrap();
    let status = tokio::time::timeout(PATIENCE, worker.wait()).await;
    assert_eq!(status.unwrap().unwrap().code(), Some(0));
    let result = goflow.wait(id, PATIENCE).await.unwrap();
    assert_eq!(result.state, State::Succeeded, "it was let end");
    eventually(PATIENCE, async || goflow.workers().is_empty())
        .await
        .unwrap();
    goflow.close().await.unwrap();
}
