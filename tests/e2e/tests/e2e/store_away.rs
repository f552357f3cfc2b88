//! Postgres is away under load: pushes fail fast, what runs finishes, and nothing is executed again.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use goflow_test_servers::eventually;
use serde_json::json;

use crate::client::Client;
use crate::cluster::{Cluster, PATIENCE, ledger};
use crate::load::Load;

/// How long Postgres is away: thirty leases, and twelve times the deadline of an unconfirmed dispatch. Longer times
/// matter to nothing in the engine before JetStream's duplicate window of two minutes.
const AWAY: Duration = Duration::from_secs(60);

/// Tasks whose handlers run when Postgres goes and end while it is away.
const RUNNING: usize = 3;

#[tokio::test]
async fn without_the_store_nothing_is_lost_and_nothing_runs_again() -> Result<()> {
    let mut cluster = Cluster::start().await?;
    let marks = cluster.marking()?;
    let (runs, go) = cluster.holding()?;
    let gateways = [cluster.gateway(&[])?, cluster.gateway(&[])?];
    let client = Client::new(gateways[0].url());
    let _worker = cluster.worker(&["--num-workers", "5"])?;
    let held = client
        .push_batch(RUNNING, |_| json!({"type": "hold"}))
        .await?;
    eventually(PATIENCE, async || ledger(&runs).len() == RUNNING).await?;
    let load = Load::start(&[gateways[0].url(), gateways[1].url()], "mark");
    load.accepts(200).await?;

    cluster.postgres.kill_immediate()?;
    let gone = Instant::now();
    client
        .says_ready(503, "store", false, Duration::from_secs(5))
        .await?;
    ensure!(client.get("/livez").await?.0 == 200);
    std::fs::write(&go, "")?;
    let mut refused = 0;
    while gone.elapsed() < AWAY {
        let answer = client.try_push(&json!({"type": "echo"})).await?;
        ensure!(answer.status == 503 && answer.retry_after, "{answer:?}");
        ensure!(answer.body["code"] == "store_unavailable", "{answer:?}");
        ensure!(
            answer.took < Duration::from_secs(5) + Duration::from_millis(500),
            "{answer:?}"
        );
        refused += 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    ensure!(refused >= 4, "{refused} pushes in {AWAY:?}");
    let ended = ledger(&runs).len() - RUNNING;
    ensure!(
        ended == RUNNING,
        "{ended} of {RUNNING} running tasks finished"
    );

    cluster.postgres.start_again()?;
    for id in &held {
        let task = client.finished(id).await?;
        ensure!(
            task["state"] == "succeeded" && task["crashes"] == 0,
            "{task}"
        );
    }
    client
        .says_ready(200, "store", true, Duration::from_secs(15))
        .await?;
    load.accepts(200).await?;
    let accepted = load.end(&cluster).await?;
    ensure!(ledger(&runs).len() == 2 * RUNNING, "{:?}", ledger(&runs));
    let mut marked = ledger(&marks);
    let executed = marked.len();
    marked.sort();
    marked.dedup();
    ensure!(
        executed == accepted && marked.len() == accepted,
        "{executed} executions of {} tasks, {accepted} were accepted",
        marked.len()
    );
    Ok(())
}
