//! Record mode `outcome`: no row until there is something to tell.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use goflow_test_servers::eventually;
use serde_json::json;

use crate::client::Client;
use crate::cluster::{Cluster, PATIENCE};

#[tokio::test]
async fn tasks_without_a_row_are_recorded_by_their_outcome() -> Result<()> {
    let cluster = Cluster::start().await?;
    cluster.original_handlers()?;
    let gateway = cluster.gateway(&["--record", "outcome"])?;
    let client = Client::new(gateway.url());
    let id = client
        .push(json!({"type": "doubler", "payload": {"N": 4}}))
        .await?;
    ensure!(
        cluster.count("select count(*) from goflow_tasks")? == 0,
        "a row was written at accept"
    );
    let (status, body) = client.get(&format!("/v1/tasks/{id}")).await?;
    ensure!(
        status == 404 && body["code"] == "not_recorded_yet",
        "{status} {body}"
    );
    let (status, body) = client
        .post(&format!("/v1/tasks/{id}/cancel"), &json!({}))
        .await?;
    ensure!(
        status == 409 && body["code"] == "needs_full_record",
        "{status} {body}"
    );

    let failing = client
        .push(json!({"type": "errorer", "payload": {"N": 1}, "backoff": {"fixed": "100ms"}}))
        .await?;
    let delayed = client
        .push(json!({"type": "echo", "payload": 1, "delay": "1s"}))
        .await?;
    ensure!(
        client.task(&delayed).await?["state"] == "scheduled",
        "a delayed task has a row"
    );

    let mut doomed = cluster.worker(&[])?;
    ensure!(client.finished_surely(&id).await?["result"] == 8);
    let task = client.finished_surely(&failing).await?;
    ensure!(task["state"] == "failed" && task["attempt"] == 3, "{task}");
    ensure!(
        task["attempts"]
            .as_array()
            .is_some_and(|attempts| attempts.len() == 3),
        "{task}"
    );
    ensure!(client.finished_surely(&delayed).await?["state"] == "succeeded");

    for n in 0..500 {
        client.push(json!({"type": "echo", "payload": n})).await?;
        if n == 250 {
            doomed.kill()?;
            doomed.start_again()?;
        }
    }
    let done = "select count(*) from goflow_tasks where type = 'echo' and state = 'succeeded'";
    cluster.counted(done, 501, PATIENCE).await
}

/// Outcomes come again when the gateway that took them is killed, before or after it has recorded them.
#[tokio::test]
async fn killed_gateways_record_each_task_once() -> Result<()> {
    let cluster = Cluster::start().await?;
    let gateway = cluster.gateway(&["--record", "outcome"])?;
    let mut doomed = cluster.gateway(&["--record", "outcome"])?;
    let _worker = cluster.worker(&[])?;
    let client = Client::new(gateway.url());
    let mut pushed = BTreeSet::new();
    for n in 0..2_000 {
        pushed.insert(client.push(json!({"type": "echo", "payload": n})).await?);
        if n % 400 == 200 {
            doomed.kill()?;
            doomed.start_again()?;
        }
    }
    let ended = "select count(distinct id) from goflow_tasks where state = 'succeeded'";
    cluster.counted(ended, 2_000, PATIENCE).await?;
    // What comes again has come, too, once all outcomes are acknowledged.
    cluster.holds("GF_RES", 0).await?;
    ensure!(cluster.count("select count(*) from goflow_tasks")? == 2_000);
    ensure!(pushed.len() == 2_000, "an id was given twice");
    Ok(())
}

impl Client {
    /// The task once it is recorded as finished.
    async fn finished_surely(&self, id: &str) -> Result<serde_json::Value> {
        eventually(PATIENCE, async || self.finished_now(id).await).await
    }

    async fn finished_now(&self, id: &str) -> Result<serde_json::Value> {
        let task = self.task(id).await?;
        ensure!(task["finished_at"].is_string(), "{task}");
        Ok(task)
    }
}
