//! Workers that are told to end: nothing is lost, nothing counts as failed.

use std::time::Duration;

use anyhow::{Result, ensure};
use goflow_test_servers::eventually;
use serde_json::json;

use crate::client::Client;
use crate::cluster::{Cluster, PATIENCE, ledger};

#[tokio::test]
async fn three_rolls_under_a_long_task_cost_it_nothing() -> Result<()> {
    let cluster = Cluster::start().await?;
    let runs = cluster.dir.path().join("runs");
    // Every run but the fourth takes far longer than the grace.
    cluster.handler(
        "long",
        &format!(
            "echo run >> {0}\n[ $(wc -l < {0}) -gt 3 ] || sleep 600\necho 1",
            runs.display()
        ),
    )?;
    let gateway = cluster.gateway(&[])?;
    let client = Client::new(gateway.url());
    let mut worker = cluster.worker(&["--grace", "500ms"])?;
    let id = client
        .push(json!({"type": "long", "max_attempts": 1}))
        .await?;
    for roll in 1..=3 {
        eventually(PATIENCE, async || ledger(&runs).len() == roll).await?;
        worker.terminate()?;
        let status = worker.wait_exit(Duration::from_secs(15)).await?;
        ensure!(
            status.success(),
            "a drained worker ended with {status}: {}",
            worker.stderr()
        );
        worker.start_again()?;
    }
    let task = client.finished(&id).await?;
    ensure!(
        task["state"] == "succeeded" && task["attempt"] == 1,
        "{task}"
    );
    ensure!(
        task["crashes"] == 0 && task["attempts"] == json!([]),
        "{task}"
    );
    ensure!(
        ledger(&runs).len() == 4,
        "it ran {} times",
        ledger(&runs).len()
    );
    Ok(())
}

#[tokio::test]
async fn what_ends_within_the_grace_is_recorded_and_what_waits_is_given_back() -> Result<()> {
    let cluster = Cluster::start().await?;
    let gateway = cluster.gateway(&[])?;
    let client = Client::new(gateway.url());
    let mut worker = cluster.worker(&["--num-workers", "2"])?;
    client
        .push_batch(
            20,
            |_| json!({"type": "sleep", "payload": {"ms": 1000}, "max_attempts": 1}),
        )
        .await?;
    eventually(PATIENCE, async || {
        let (_, running) = client.get("/v1/tasks?state=running").await?;
        ensure!(
            running["tasks"]
                .as_array()
                .is_some_and(|tasks| tasks.len() == 2),
            "{running}"
        );
        Ok(())
    })
    .await?;
    worker.terminate()?;
    ensure!(worker.wait_exit(Duration::from_secs(15)).await?.success());
    let done = cluster.count("select count(*) from goflow_tasks where state = 'succeeded'")?;
    ensure!(
        (2..=6).contains(&done),
        "{done} were done by the drained worker"
    );
    let _other = cluster.worker(&["--num-workers", "20"])?;
    cluster
        .counted(
            "select count(*) from goflow_tasks where state = 'succeeded' and attempt = 1",
            20,
            PATIENCE,
        )
        .await
}
