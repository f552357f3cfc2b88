//! Queues are paused, resumed and purged, over restarts.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::client::Client;
use crate::cluster::{Cluster, gf_at, ledger};

#[tokio::test]
async fn a_paused_queue_stays_paused_over_restarts_and_a_wipe() -> Result<()> {
    let mut cluster = Cluster::start().await?;
    let marks = cluster.marking()?;
    let mut gateway = cluster.gateway(&[])?;
    let client = Client::new(gateway.url());
    let mut worker = cluster.worker(&["--queues", "default,other"])?;
    gf_at(&gateway, &["queue", "pause", "default"]).await?;
    let mark = |n: usize| json!({"type": "mark", "payload": n});
    let mut ids = client.push_batch(10, mark).await?;
    let runs_elsewhere = async |client: &Client| {
        let other = json!({"type": "echo", "queue": "other"});
        let id = client.push(other).await?;
        client.finished(&id).await?;
        let queue = client.queue("default").await?;
        ensure!(queue["paused"] == true, "{queue}");
        ensure!(ledger(&marks).is_empty(), "{:?}", ledger(&marks));
        Ok(())
    };
    runs_elsewhere(&client).await?;

    gateway.kill()?;
    cluster.nats.restart()?;
    worker.kill()?;
    gateway.start_again()?;
    worker.start_again()?;
    let client = Client::new(gateway.url());
    ids.extend(client.push_batch(10, |n| mark(10 + n)).await?);
    runs_elsewhere(&client).await?;

    cluster.nats.wipe_and_restart()?;
    runs_elsewhere(&client).await?;
    // What was lost is dispatched again, into a queue that is paused.
    cluster.holds("GF_Q_default", 20).await?;
    runs_elsewhere(&client).await?;

    gf_at(&gateway, &["queue", "resume", "default"]).await?;
    for id in &ids {
        let task = client.finished(id).await?;
        ensure!(task["state"] == "succeeded", "{task}");
    }
    ensure!(ledger(&marks).len() == 20, "{:?}", ledger(&marks));
    ensure!(client.queue("default").await?["paused"] == false);
    Ok(())
}

#[tokio::test]
async fn a_queue_is_emptied_at_once_and_only_when_meant() -> Result<()> {
    let cluster = Cluster::start().await?;
    let gateway = cluster.gateway(&[])?;
    let client = Client::new(gateway.url());
    let task = |queue: &'static str| {
        move |n: usize| match n % 2 {
            0 => json!({"type": "echo", "queue": queue, "payload": n}),
            _ => json!({"type": "echo", "queue": queue, "payload": n, "delay": "1m"}),
        }
    };
    let full = client.push_batch(1_500, task("full")).await?;
    client.push_batch(500, task("other")).await?;
    let unmeant = json!({"confirm": "fool"});
    let (status, body) = client.post("/v1/queues/full/purge", &unmeant).await?;
    ensure!(status == 400, "{status} {body}");
    let live = "select count(*) from gf_task where queue = 'full'";
    ensure!(cluster.count(live)? == 1_500);
    let (status, body) = client
        .post("/v1/queues/full/purge", &json!({"confirm": "full"}))
        .await?;
    ensure!(
        status == 200 && body["changed"] == 1_500 && body["more"] == false,
        "{status} {body}"
    );
    ensure!(cluster.count(live)? == 0);
    ensure!(client.task(&full[0]).await?["state"] == "cancelled");

    let filter = json!({"filter": {"queue": "other", "state": "scheduled"}, "limit": 100});
    let (status, body) = client.post("/v1/tasks/cancel", &filter).await?;
    ensure!(
        status == 200 && body["changed"] == 100 && body["more"] == true,
        "{status} {body}"
    );
    let (status, body) = client
        .post("/v1/tasks/cancel", &json!({"filter": {}}))
        .await?;
    ensure!(
        status == 400,
        "a filter that filters nothing: {status} {body}"
    );
    gf_at(&gateway, &["queue", "purge", "other", "--yes"]).await?;
    ensure!(cluster.count("select count(*) from gf_task")? == 0);
    // What was cancelled is not run, though its messages are there.
    let _worker = cluster.worker(&["--queues", "full,other"])?;
    let id = client
        .push(json!({"type": "echo", "queue": "full"}))
        .await?;
    client.finished(&id).await?;
    let done = "select count(*) from goflow_tasks where state <> 'cancelled'";
    ensure!(cluster.count(done)? == 1);
    Ok(())
}
