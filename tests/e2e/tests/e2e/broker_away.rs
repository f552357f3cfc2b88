//! NATS is away: what is accepted waits for it in the store, up to a limit.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;

use crate::client::Client;
use crate::cluster::{Cluster, PATIENCE, ledger};

/// Undispatched tasks that the gateway of the test accepts.
const MOST: usize = 300;

/// What `/readyz` may take to say how things are.
const SOON: Duration = Duration::from_secs(5);

#[tokio::test]
async fn without_the_broker_pushes_go_on_up_to_the_limit_and_all_is_caught_up() -> Result<()> {
    let mut cluster = Cluster::start().await?;
    let marks = cluster.marking()?;
    let gateway = cluster.gateway(&["--max-undispatched", &MOST.to_string()])?;
    let client = Client::new(gateway.url());
    let _worker = cluster.worker(&[])?;
    let id = client
        .push(json!({"type": "mark", "payload": "first"}))
        .await?;
    client.finished(&id).await?;

    cluster.nats.stop()?;
    // Ready: the promise needs the store only.
    client.says_ready(200, "broker", false, SOON).await?;
    client.says_ready(200, "store", true, SOON).await?;
    let mut accepted = Vec::new();
    let refused = loop {
        ensure!(accepted.len() <= 2 * MOST, "no end to what is accepted");
        let answer = client
            .try_push(&json!({"type": "mark", "payload": accepted.len()}))
            .await?;
        ensure!(
            answer.took < Duration::from_secs(2),
            "waited for the broker: {answer:?}"
        );
        match answer.status {
            202 => accepted.push(answer.body["id"].as_str().unwrap_or_default().to_owned()),
            _ => break answer,
        }
    };
    ensure!(refused.status == 429 && refused.retry_after, "{refused:?}");
    ensure!(refused.body["code"] == "queue_full", "{refused:?}");
    ensure!(accepted.len() == MOST, "{} accepted", accepted.len());
    let waiting = "select count(*) from goflow_tasks where state = 'queued'";
    ensure!(cluster.count(waiting)? == MOST as i64);

    cluster.nats.start_again()?;
    for id in &accepted {
        let task = client.finished(id).await?;
        ensure!(
            task["state"] == "succeeded" && task["attempt"] == 1,
            "{task}"
        );
    }
    client.says_ready(200, "broker", true, SOON).await?;
    let mut marked = ledger(&marks);
    ensure!(marked.len() == MOST + 1, "{} runs", marked.len());
    marked.sort();
    marked.dedup();
    ensure!(marked.len() == MOST + 1, "{} tasks ran", marked.len());
    let id = client
        .push(json!({"type": "mark", "payload": "last"}))
        .await?;
    ensure!(client.finished(&id).await?["state"] == "succeeded");
    Ok(())
}

#[tokio::test]
async fn in_outcome_mode_nothing_is_accepted_without_the_broker() -> Result<()> {
    let mut cluster = Cluster::start().await?;
    let gateway = cluster.gateway(&["--record", "outcome"])?;
    let client = Client::new(gateway.url());
    let _worker = cluster.worker(&[])?;
    // A worker that finds no broker when it starts ends.
    let id = client.push(json!({"type": "echo"})).await?;
    client.finished(&id).await?;

    cluster.nats.stop()?;
    client.says_ready(503, "broker", false, SOON).await?;
    let answer = client.try_push(&json!({"type": "echo"})).await?;
    ensure!(answer.status == 503 && answer.retry_after, "{answer:?}");
    ensure!(answer.body["code"] == "broker_unavailable", "{answer:?}");
    ensure!(answer.took < Duration::from_secs(7), "{answer:?}");

    cluster.nats.start_again()?;
    client.says_ready(200, "broker", true, PATIENCE).await?;
    let id = client.push(json!({"type": "echo", "payload": 7})).await?;
    let task = client.finished(&id).await?;
    ensure!(task["result"] == 7, "{task}");
    Ok(())
}
