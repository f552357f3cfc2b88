//! Deadlines.

use anyhow::{Result, ensure};
use goflow_test_servers::eventually;
use serde_json::json;

use crate::client::Client;
use crate::cluster::{Cluster, PATIENCE, ledger};

#[tokio::test]
async fn a_deadline_ends_a_task_wherever_it_is() -> Result<()> {
    let cluster = Cluster::start().await?;
    let runs = cluster.stubborn()?;
    cluster.handler("fail", "exit 1")?;
    let gateway = cluster.gateway(&[])?;
    let client = Client::new(gateway.url());
    let _worker = cluster.worker(&[])?;
    let running = client
        .push(json!({"type": "stubborn", "deadline": "3s"}))
        .await?;
    client.in_state(&running, "running").await?;
    let mut ids = vec![running];
    for task in [
        json!({"type": "nobody", "deadline": "1s"}),
        json!({"type": "echo", "delay": "1m", "deadline": "1s"}),
        json!({"type": "fail", "backoff": {"fixed": "1m"}, "deadline": "1s"}),
    ] {
        ids.push(client.push(task).await?);
    }
    for id in &ids {
        let task = client.finished(id).await?;
        ensure!(
            task["state"] == "expired" && task["error"] == "deadline passed",
            "{task}"
        );
    }
    eventually(PATIENCE, async || {
        let lines = ledger(&runs);
        ensure!(
            lines.len() == 2 && lines[1].starts_with("told"),
            "{lines:?}"
        );
        Ok(())
    })
    .await?;
    // In time is in time.
    let task = json!({"type": "echo", "payload": 7, "deadline": "1m"});
    let id = client.push(task).await?;
    ensure!(client.finished(&id).await?["result"] == 7);
    for id in &ids {
        let task = client.task(id).await?;
        ensure!(task["state"] == "expired", "{task}");
    }
    // Opened again, the deadline that has passed does not count.
    let (delayed, reopened) = (&ids[2], client.order(&ids[2], "retry").await?);
    ensure!(reopened["attempt"] == 2, "{reopened}");
    let task = client.finished(delayed).await?;
    ensure!(task["state"] == "succeeded", "{task}");
    Ok(())
}

/// An engine that found the broker away dispatches nothing until it is back, and ends what is late all the same.
#[tokio::test]
async fn deadlines_pass_while_the_broker_is_away() -> Result<()> {
    let mut cluster = Cluster::start().await?;
    let runs = cluster.marking()?;
    let gateway = cluster.gateway(&[])?;
    let client = Client::new(gateway.url());
    let queued = json!({"type": "mark", "payload": "queued", "deadline": "9s"});
    let queued = client.push(queued).await?;
    cluster.nats.kill()?;
    // The engine has tried to dispatch the first of these when the deadline of the second passes.
    let delayed = json!({"type": "mark", "payload": "delayed", "delay": "1s"});
    let delayed = client.push(delayed).await?;
    let late = json!({"type": "mark", "payload": "late", "deadline": "9s"});
    let late = client.push(late).await?;
    for id in [&late, &queued] {
        let task = client.finished(id).await?;
        ensure!(task["state"] == "expired", "{task}");
    }
    cluster.nats.start_again()?;
    // Once the broker knows of them, no worker starts what has expired.
    cluster.holds("GF_CANCEL", 2).await?;
    let _worker = cluster.worker(&[])?;
    ensure!(client.finished(&delayed).await?["state"] == "succeeded");
    ensure!(ledger(&runs) == ["\"delayed\""], "{:?}", ledger(&runs));
    Ok(())
}
