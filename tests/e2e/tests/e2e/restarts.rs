//! Servers and gateways that restart under load: no accepted task is lost, nor any result.

use std::time::Duration;

use anyhow::{Result, ensure};
use goflow_test_servers::eventually;
use serde_json::json;

use crate::client::Client;
use crate::cluster::Cluster;
use crate::load::Load;

#[tokio::test]
async fn nats_restarts_under_load() -> Result<()> {
    let mut cluster = Cluster::start().await?;
    let gateway = cluster.gateway(&[])?;
    let _worker = cluster.worker(&[])?;
    let load = Load::start(&[gateway.url()], "echo");
    load.accepts(200).await?;
    cluster.nats.kill()?;
    // Pushes need the store only.
    load.accepts(50).await?;
    cluster.nats.start_again()?;
    load.accepts(200).await?;
    cluster.nats.restart()?;
    load.accepts(200).await?;
    load.end(&cluster).await?;
    Ok(())
}

#[tokio::test]
async fn postgres_restarts_under_load() -> Result<()> {
    let mut cluster = Cluster::start().await?;
    let gateway = cluster.gateway(&[])?;
    let _worker = cluster.worker(&[])?;
    let client = Client::new(gateway.url());
    let load = Load::start(&[gateway.url()], "echo");
    load.accepts(200).await?;
    cluster.postgres.kill_immediate()?;
    eventually(Duration::from_secs(10), async || {
        let (ready, body) = client.get("/readyz").await?;
        ensure!(ready == 503, "readyz says {ready} {body}");
        let (live, _) = client.get("/livez").await?;
        ensure!(live == 200, "livez says {live}");
        Ok(())
    })
    .await?;
    let (status, body) = client.post("/v1/tasks", &json!({"type": "echo"})).await?;
    ensure!(status == 503, "a push without a store: {status} {body}");
    cluster.postgres.start_again()?;
    load.accepts(200).await?;
    load.end(&cluster).await?;
    Ok(())
}

#[tokio::test]
async fn gateways_and_workers_roll_under_load() -> Result<()> {
    let cluster = Cluster::start().await?;
    let mut first = cluster.gateway(&[])?;
    let mut second = cluster.gateway(&[])?;
    let mut left = cluster.worker(&[])?;
    let mut right = cluster.worker(&[])?;
    let load = Load::start(&[first.url(), second.url()], "echo");
    for _ in 0..2 {
        load.accepts(100).await?;
        first.terminate()?;
        ensure!(
            first.wait_exit(Duration::from_secs(40)).await?.success(),
            "{}",
            first.stderr()
        );
        first.start_again()?;
        load.accepts(100).await?;
        second.kill()?;
        second.start_again()?;
        left.terminate()?;
        ensure!(
            left.wait_exit(Duration::from_secs(40)).await?.success(),
            "{}",
            left.stderr()
        );
        left.start_again()?;
        load.accepts(100).await?;
        right.kill()?;
        right.start_again()?;
    }
    load.end(&cluster).await?;
    Ok(())
}
