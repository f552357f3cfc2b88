//! Workers that are killed, and what becomes of what they were at.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use goflow_test_servers::eventually;
use serde_json::json;

use crate::client::Client;
use crate::cluster::{Cluster, PATIENCE, ledger};

const LEASE: Duration = Duration::from_secs(2);

#[tokio::test]
async fn a_killed_workers_task_runs_elsewhere_within_the_lease_and_2_s() -> Result<()> {
    let cluster = Cluster::start().await?;
    let runs = cluster.dir.path().join("runs");
    // The first run hangs; the second one returns.
    cluster.handler(
        "once",
        &format!(
            "echo run >> {0}\n[ $(wc -l < {0}) -gt 1 ] || sleep 600\necho 7",
            runs.display()
        ),
    )?;
    let gateway = cluster.gateway(&[])?;
    let client = Client::new(gateway.url());
    let mut doomed = cluster.worker(&[])?;
    let id = client.push(json!({"type": "once"})).await?;
    eventually(PATIENCE, async || ledger(&runs).len() == 1).await?;
    let _other = cluster.worker(&[])?;
    eventually(PATIENCE, async || {
        Ok::<_, anyhow::Error>(client.workers().await?.len() == 2)
    })
    .await?;

    let killed = Instant::now();
    doomed.kill()?;
    eventually(PATIENCE, async || ledger(&runs).len() == 2).await?;
    let took = killed.elapsed();
    ensure!(
        took < LEASE + Duration::from_secs(2),
        "it ran again only after {took:?}"
    );

    let task = client.finished(&id).await?;
    ensure!(
        task["state"] == "succeeded" && task["result"] == 7,
        "{task}"
    );
    ensure!(task["attempt"] == 1, "a crash used up an attempt: {task}");
    Ok(())
}

#[tokio::test]
async fn a_killed_workers_handlers_end_with_it() -> Result<()> {
    let cluster = Cluster::start().await?;
    let pids = cluster.dir.path().join("pids");
    // A handler and a grandchild in the background, both of which would outlive the worker by themselves.
    cluster.handler(
        "family",
        &format!(
            "sleep 600 & echo $! >> {0}\necho $$ >> {0}\nsleep 600",
            pids.display()
        ),
    )?;
    let gateway = cluster.gateway(&[])?;
    let mut worker = cluster.worker(&[])?;
    Client::new(gateway.url())
        .push(json!({"type": "family"}))
        .await?;
    eventually(PATIENCE, async || ledger(&pids).len() == 2).await?;
    worker.kill()?;
    eventually(Duration::from_secs(10), async || {
        let alive = |pid: &String| {
            std::path::Path::new("/proc")
                .join(pid)
                .join("cmdline")
                .exists()
        };
        let left: Vec<_> = ledger(&pids).into_iter().filter(alive).collect();
        ensure!(left.is_empty(), "still alive: {left:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_task_whose_workers_keep_dying_ends_as_crashed() -> Result<()> {
    let cluster = Cluster::start().await?;
    // It kills its own worker, which is its parent.
    cluster.handler("poison", "kill -9 $PPID\nsleep 600")?;
    let gateway = cluster.gateway(&[])?;
    let client = Client::new(gateway.url());
    let id = client.push(json!({"type": "poison"})).await?;
    let mut worker = cluster.worker(&["--lease", "1s"])?;
    let crashed = eventually(PATIENCE * 2, async || {
        if worker.wait_exit(Duration::ZERO).await.is_ok() {
            worker.start_again()?;
        }
        let task = client.task(&id).await?;
        ensure!(task["finished_at"].is_string(), "{task}");
        Ok(task)
    })
    .await?;
    ensure!(
        crashed["state"] == "crashed" && crashed["attempt"] == 1 && crashed["crashes"] == 5,
        "{crashed}"
    );
    Ok(())
}
