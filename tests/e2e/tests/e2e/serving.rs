//! Who serves what: unserved types, mixed fleets, cancelled tasks, garbage in a queue.

use anyhow::{Result, ensure};
use goflow_test_servers::eventually;
use serde_json::json;

use crate::client::Client;
use crate::cluster::{Cluster, PATIENCE, ledger, write_handler};

#[tokio::test]
async fn a_type_nobody_serves_stays_visible_and_runs_when_its_worker_appears() -> Result<()> {
    let cluster = Cluster::start().await?;
    let gateway = cluster.gateway(&[])?;
    let client = Client::new(gateway.url());
    let _stock = cluster.worker(&[])?;
    let id = client.push(json!({"type": "later", "payload": 5})).await?;
    eventually(PATIENCE, async || {
        let task = client.task(&id).await?;
        ensure!(
            task["unserved"] == true && task["state"] == "queued",
            "{task}"
        );
        let (_, queues) = client.get("/v1/queues").await?;
        ensure!(queues.to_string().contains("later"), "{queues}");
        Ok(())
    })
    .await?;
    cluster.handler("later", "cat")?;
    let _late = cluster.worker(&[])?;
    let task = client.finished(&id).await?;
    ensure!(
        task["state"] == "succeeded" && task["result"] == 5 && task["attempt"] == 1,
        "{task}"
    );
    Ok(())
}

#[tokio::test]
async fn two_workers_with_different_types_on_one_queue_finish_everything() -> Result<()> {
    let cluster = Cluster::start().await?;
    let gateway = cluster.gateway(&[])?;
    let client = Client::new(gateway.url());
    let mut workers = Vec::new();
    for name in ["left", "right"] {
        let dir = cluster.dir.path().join(format!("only-{name}"));
        std::fs::create_dir(&dir)?;
        write_handler(&dir, name, "cat")?;
        let path = dir.to_str().unwrap_or_default();
        workers.push(goflow_test_servers::Process::worker([
            "--broker",
            cluster.nats.url(),
            "--handlers-path",
            path,
        ])?);
    }
    client
        .push_batch(
            200,
            |n| json!({"type": if n % 2 == 0 { "left" } else { "right" }, "payload": n}),
        )
        .await?;
    cluster
        .counted(
            "select count(*) from goflow_tasks
             where state = 'succeeded' and attempt = 1 and result = payload and attempts = '[]'",
            200,
            PATIENCE,
        )
        .await
}

#[tokio::test]
async fn a_cancelled_queued_task_never_runs() -> Result<()> {
    let cluster = Cluster::start().await?;
    let runs = cluster.dir.path().join("runs");
    // One write, since several of them append at once.
    cluster.handler("mark", &format!("echo $(cat) >> {}", runs.display()))?;
    let gateway = cluster.gateway(&[])?;
    let client = Client::new(gateway.url());
    let ids = client
        .push_batch(10, |n| json!({"type": "mark", "payload": n}))
        .await?;
    for id in &ids[..5] {
        let (status, task) = client
            .post(&format!("/v1/tasks/{id}/cancel"), &json!({}))
            .await?;
        ensure!(
            status == 200 && task["state"] == "cancelled",
            "{status} {task}"
        );
        let (status, _) = client
            .post(&format!("/v1/tasks/{id}/cancel"), &json!({}))
            .await?;
        ensure!(status == 409, "a second cancel: {status}");
    }
    let _worker = cluster.worker(&[])?;
    for id in &ids[5..] {
        ensure!(client.finished(id).await?["state"] == "succeeded");
    }
    cluster
        .counted(
            "select count(*) from goflow_tasks where state = 'cancelled'",
            5,
            PATIENCE,
        )
        .await?;
    let mut ran = ledger(&runs);
    ran.sort();
    ensure!(ran == ["5", "6", "7", "8", "9"], "ran: {ran:?}");

    // A cancelled task can be opened again, and then it runs.
    let (status, _) = client
        .post(&format!("/v1/tasks/{}/retry", ids[0]), &json!({}))
        .await?;
    ensure!(status == 200, "retry: {status}");
    let task = client.finished(&ids[0]).await?;
    ensure!(
        task["state"] == "succeeded" && task["attempt"] == 2,
        "{task}"
    );
    Ok(())
}

#[tokio::test]
async fn garbage_in_a_queue_is_set_aside_and_its_neighbours_go_on() -> Result<()> {
    let cluster = Cluster::start().await?;
    let gateway = cluster.gateway(&[])?;
    let client = Client::new(gateway.url());
    client
        .push_batch(50, |n| json!({"type": "echo", "payload": n}))
        .await?;
    let nats = async_nats::connect(cluster.nats.url()).await?;
    let jetstream = async_nats::jetstream::new(nats);
    for garbage in [
        &b""[..],
        b"not msgpack",
        b"\x81\xa1v\xce\xff\xff\xff\xff",
        &[0xdf, 0xff, 0xff, 0xff, 0xff],
    ] {
        jetstream
            .publish("gf.q.default.1.echo", garbage.into())
            .await?
            .await?;
    }
    client
        .push_batch(50, |n| json!({"type": "echo", "payload": 50 + n}))
        .await?;
    let _worker = cluster.worker(&[])?;
    cluster
        .counted(
            "select count(*) from goflow_tasks where state = 'succeeded'",
            100,
            PATIENCE,
        )
        .await?;
    eventually(PATIENCE, async || {
        let stream = jetstream.get_stream("GF_QUARANTINE").await?;
        let aside = stream.get_info().await?.state.messages;
        ensure!(aside == 4, "{aside} messages set aside");
        Ok(())
    })
    .await?;
    let stream = jetstream.get_stream("GF_QUARANTINE").await?;
    let first = stream.get_raw_message(1).await?;
    let reason = first
        .headers
        .get("Gf-Reason")
        .map(|value| value.to_string())
        .unwrap_or_default();
    ensure!(!reason.is_empty(), "no reason: {:?}", first.headers);
    Ok(())
}
