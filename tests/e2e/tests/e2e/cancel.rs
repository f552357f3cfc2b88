//! Cancels, in every state and over restarts.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use goflow_test_servers::eventually;
use serde_json::json;

use crate::client::Client;
use crate::cluster::{Cluster, PATIENCE, gf_at, ledger};

/// How soon a running handler hears of a cancel.
const TOLD_WITHIN: f64 = 1.0;

fn now() -> Result<f64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64())
}

#[tokio::test]
async fn a_cancel_is_for_good_in_every_state() -> Result<()> {
    let mut cluster = Cluster::start().await?;
    let runs = cluster.stubborn()?;
    let marks = cluster.marking()?;
    cluster.handler("fail", "exit 1")?;
    let mut gateway = cluster.gateway(&[])?;
    let client = Client::new(gateway.url());
    let mut worker = cluster.worker(&[])?;

    let queued = client.push(json!({"type": "nobody"})).await?;
    let scheduled = client
        .push(json!({"type": "mark", "payload": 1, "delay": "2s"}))
        .await?;
    let retrying = client
        .push(json!({"type": "fail", "backoff": {"fixed": "2s"}}))
        .await?;
    let running = client.push(json!({"type": "stubborn"})).await?;
    client.in_state(&scheduled, "scheduled").await?;
    for id in [&queued, &scheduled] {
        let task = client.order(id, "cancel").await?;
        ensure!(task["state"] == "cancelled", "{task}");
    }
    client.in_state(&retrying, "retrying").await?;
    gf_at(&gateway, &["cancel", &retrying]).await?;
    client.in_state(&running, "running").await?;
    let asked = now()?;
    let task = client.order(&running, "cancel").await?;
    ensure!(task["state"] == "cancelled", "{task}");
    let told = eventually(PATIENCE, async || {
        let prefix = format!("told {running} ");
        let lines = ledger(&runs);
        lines
            .iter()
            .find_map(|line| line.strip_prefix(&prefix)?.parse::<f64>().ok())
    })
    .await?;
    ensure!(told - asked < TOLD_WITHIN, "told after {} s", told - asked);

    // Everything forgets, but for the stores.
    gateway.kill()?;
    worker.kill()?;
    cluster.nats.restart()?;
    gateway.start_again()?;
    worker.start_again()?;
    let client = Client::new(gateway.url());
    let next = client
        .push(json!({"type": "mark", "payload": 2, "delay": "3s"}))
        .await?;
    client.finished(&next).await?;
    for id in [&queued, &scheduled, &retrying, &running] {
        let task = client.task(id).await?;
        ensure!(
            task["state"] == "cancelled" && task["result"].is_null(),
            "{task}"
        );
        let (status, body) = client
            .post(&format!("/v1/tasks/{id}/cancel"), &json!({}))
            .await?;
        ensure!(status == 409, "a second cancel: {status} {body}");
    }
    ensure!(ledger(&marks) == ["2"], "{:?}", ledger(&marks));
    ensure!(ledger(&runs).len() == 2, "{:?}", ledger(&runs));
    Ok(())
}

#[tokio::test]
async fn a_success_on_its_way_does_not_undo_a_cancel() -> Result<()> {
    let cluster = Cluster::start().await?;
    let (runs, go) = cluster.holding()?;
    let gateway = cluster.gateway(&[])?;
    let client = Client::new(gateway.url());
    let mut worker = cluster.worker(&[])?;
    let id = client.push(json!({"type": "hold"})).await?;
    eventually(PATIENCE, async || ledger(&runs).len() == 1).await?;
    // The handler, which is not stopped, ends; the worker does not know it yet.
    worker.pause()?;
    std::fs::write(&go, "")?;
    eventually(PATIENCE, async || ledger(&runs).len() == 2).await?;
    client.order(&id, "cancel").await?;
    worker.resume()?;
    // By the end of this one the worker has said whatever it has to say.
    let next = client.push(json!({"type": "echo"})).await?;
    client.finished(&next).await?;
    let task = client.task(&id).await?;
    ensure!(
        task["state"] == "cancelled" && task["result"].is_null(),
        "{task}"
    );
    let nothing = "select count(*) from gf_task";
    cluster.counted(nothing, 0, PATIENCE).await?;
    ensure!(client.task(&id).await?["state"] == "cancelled");
    Ok(())
}
