//! What a push can ask for: priorities, unique keys.

use std::collections::HashSet;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::client::Client;
use crate::cluster::{Cluster, PATIENCE, gf_at, ledger};

#[tokio::test]
async fn urgent_tasks_overtake_a_backlog() -> Result<()> {
    let cluster = Cluster::start().await?;
    let marks = cluster.marking()?;
    let gateway = cluster.gateway(&[])?;
    let client = Client::new(gateway.url());
    let task = |n: usize| json!({"type": "mark", "payload": n % 4, "priority": n % 4});
    client.push_batch(40, task).await?;
    let urgent = ["push", "mark", "3", "--priority", "3"];
    gf_at(&gateway, &urgent).await?;
    let queued = "select count(*) from gf_task where due_at is null";
    cluster.counted(queued, 41, PATIENCE).await?;
    let _worker = cluster.worker(&["--num-workers", "1"])?;
    let done = "select count(*) from goflow_tasks where state = 'succeeded'";
    cluster.counted(done, 41, PATIENCE).await?;
    let ran = ledger(&marks);
    let mut sorted = ran.clone();
    sorted.sort();
    sorted.reverse();
    ensure!(ran == sorted, "{ran:?}");
    let (status, body) = client
        .post("/v1/tasks", &json!({"type": "mark", "priority": 4}))
        .await?;
    ensure!(status == 400, "{status} {body}");
    Ok(())
}

#[tokio::test]
async fn a_unique_key_keeps_a_second_task_out() -> Result<()> {
    let cluster = Cluster::start().await?;
    let gateways = [cluster.gateway(&[])?, cluster.gateway(&[])?];
    let clients = gateways
        .each_ref()
        .map(|gateway| Client::new(gateway.url()));
    let unique = json!({"type": "nobody", "unique": {"key": "report"}});
    // Many at once, through two gateways: one of them is accepted.
    let pushes = (0..40).map(|n| {
        let (client, unique) = (clients[n % 2].clone(), unique.clone());
        tokio::spawn(async move { client.push(unique).await })
    });
    let mut ids = HashSet::new();
    for push in pushes.collect::<Vec<_>>() {
        ids.insert(push.await??);
    }
    ensure!(ids.len() == 1, "{ids:?}");
    let first = ids.iter().next().context("an id")?;
    let client = &clients[0];
    let rejecting = json!({"type": "nobody", "unique": {"key": "report", "on_conflict": "reject"}});
    let answer = client.try_push(&rejecting).await?;
    ensure!(
        answer.status == 409 && answer.body["code"] == "duplicate",
        "{answer:?}"
    );
    ensure!(answer.body.to_string().contains(first), "{answer:?}");
    client.order(first, "cancel").await?;
    let second = client.push(rejecting).await?;
    // Its key is another's by now.
    let (status, body) = client
        .post(&format!("/v1/tasks/{first}/retry"), &json!({}))
        .await?;
    ensure!(status == 409, "{status} {body}");
    client.order(&second, "cancel").await?;

    let within = json!({"type": "nobody", "unique": {"key": "daily", "period": "1m"}});
    let first = client.push(within.clone()).await?;
    client.order(&first, "cancel").await?;
    ensure!(
        client.push(within).await? == first,
        "the period is not over"
    );
    Ok(())
}

#[tokio::test]
async fn a_file_of_payloads_is_pushed_once_however_often_it_is_pushed() -> Result<()> {
    let cluster = Cluster::start().await?;
    let marks = cluster.marking()?;
    let gateway = cluster.gateway(&[])?;
    let _worker = cluster.worker(&[])?;
    let file = cluster.dir.path().join("payloads");
    let lines: Vec<String> = (0..2_500).map(|n| n.to_string()).collect();
    std::fs::write(&file, lines.join("\n"))?;
    let file = file.to_str().context("a path")?;
    let push = ["push", "mark", "--batch", file, "--unique", "job"];
    let push = [&push[..], &["--unique-period", "1h"]].concat();
    let ids = gf_at(&gateway, &push).await?;
    ensure!(ids.lines().count() == 2_500, "{ids}");
    ensure!(gf_at(&gateway, &push).await? == ids);
    let done = "select count(*) from goflow_tasks where state = 'succeeded' and result = payload";
    cluster.counted(done, 2_500, PATIENCE).await?;
    let mut marked = ledger(&marks);
    marked.sort_by_key(|mark| mark.parse::<usize>().unwrap_or(usize::MAX));
    ensure!(marked == lines, "{} runs", marked.len());
    Ok(())
}
