//! Workers are told to be quiet and to stop.

use anyhow::{Context, Result, ensure};
use goflow_test_servers::eventually;
use serde_json::json;

use crate::client::Client;
use crate::cluster::{Cluster, PATIENCE, gf, gf_at};

#[tokio::test]
async fn a_worker_is_told_to_be_quiet_and_to_stop() -> Result<()> {
    let cluster = Cluster::start().await?;
    let gateway = cluster.gateway(&[])?;
    let client = Client::new(gateway.url());
    let mut workers = [cluster.worker(&[])?, cluster.worker(&[])?];
    let seen = eventually(PATIENCE, async || {
        let seen = client.workers().await?;
        ensure!(seen.len() == 2, "{seen:?}");
        Ok(seen)
    })
    .await?;
    let id_of = |pid: u32| {
        let found = seen.iter().find(|worker| worker["pid"] == pid);
        found
            .and_then(|worker| worker["id"].as_str())
            .context("an id")
    };
    let [first, second] = [id_of(workers[0].pid())?, id_of(workers[1].pid())?];
    let is_quiet = async |wanted: bool| {
        eventually(PATIENCE, async || {
            let seen = client.workers().await?;
            let found = seen.iter().find(|worker| worker["id"] == first);
            ensure!(
                found.is_some_and(|worker| worker["quiet"] == wanted),
                "{seen:?}"
            );
            Ok(())
        })
        .await
    };
    gf_at(&gateway, &["worker", "quiet", first]).await?;
    is_quiet(true).await?;
    for id in client
        .push_batch(50, |n| json!({"type": "echo", "payload": n}))
        .await?
    {
        let task = client.finished(&id).await?;
        ensure!(task["worker"] == second, "{task}");
    }
    gf_at(&gateway, &["worker", "stop", second]).await?;
    let status = workers[1].wait_exit(PATIENCE).await?;
    ensure!(status.success(), "{status}: {}", workers[1].stderr());
    let id = client.push(json!({"type": "echo"})).await?;
    gf_at(&gateway, &["worker", "resume", first]).await?;
    is_quiet(false).await?;
    let task = client.finished(&id).await?;
    ensure!(task["worker"] == first, "{task}");
    // It says goodbye, which is a signal: it may come late.
    eventually(PATIENCE, async || {
        let seen = client.workers().await?;
        ensure!(seen.iter().all(|worker| worker["id"] != second), "{seen:?}");
        Ok(())
    })
    .await?;
    let nobody = ["--server", gateway.url(), "worker", "stop", second];
    let (code, _, err) = gf(&nobody).await?;
    ensure!(code == 1 && !err.is_empty(), "{code} {err}");
    Ok(())
}
