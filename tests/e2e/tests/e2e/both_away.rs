//! NATS and Postgres die at once, under load and under a task that takes long.

use anyhow::{Result, ensure};
use goflow_test_servers::eventually;
use serde_json::json;

use crate::client::Client;
use crate::cluster::{Cluster, PATIENCE, ledger};
use crate::load::Load;

#[tokio::test]
async fn both_servers_crash_at_once_and_every_accepted_task_has_one_record() -> Result<()> {
    let mut cluster = Cluster::start().await?;
    let (runs, go) = cluster.holding()?;
    let gateways = [cluster.gateway(&[])?, cluster.gateway(&[])?];
    // The servers are away for a part of the lease only, so that what runs has no reason to run elsewhere.
    let lease = ["--lease", "30s"];
    let _workers = [cluster.worker(&lease)?, cluster.worker(&lease)?];
    let client = Client::new(gateways[0].url());
    let long = client.push(json!({"type": "hold"})).await?;
    let started = [format!("start {long}")];
    eventually(PATIENCE, async || ledger(&runs) == started).await?;
    let load = Load::start(&[gateways[0].url(), gateways[1].url()], "echo");
    for nats_first in [true, false] {
        load.accepts(200).await?;
        cluster.nats.kill()?;
        // As a crash is to Postgres: SIGKILL would leave its backends behind.
        cluster.postgres.kill_immediate()?;
        if nats_first {
            cluster.nats.start_again()?;
            cluster.postgres.start_again()?;
        } else {
            cluster.postgres.start_again()?;
            load.accepts(50).await?;
            cluster.nats.start_again()?;
        }
    }
    load.accepts(200).await?;
    std::fs::write(&go, "")?;
    let task = client.finished(&long).await?;
    ensure!(
        task["state"] == "succeeded" && task["attempt"] == 1 && task["crashes"] == 0,
        "{task}"
    );
    load.end(&cluster).await?;
    let executed = ledger(&runs);
    ensure!(
        executed == [format!("start {long}"), format!("end {long}")],
        "{executed:?}"
    );
    Ok(())
}
