//! What executable handlers say while they run.

use anyhow::{Result, ensure};
use goflow_test_servers::eventually;
use serde_json::json;

use crate::client::Client;
use crate::cluster::{Cluster, PATIENCE, gf_at, ledger};

#[tokio::test]
async fn progress_is_seen_and_only_who_says_nothing_is_hung() -> Result<()> {
    let cluster = Cluster::start().await?;
    let (go, hung) = (
        cluster.dir.path().join("go"),
        cluster.dir.path().join("hung"),
    );
    cluster.handler(
        "busy",
        &format!(
            "n=0\nwhile [ ! -e {} ]; do\n  n=$((n + 1))\n  echo '{{\"progress\":\"on it\"}}' > \"$GF_CONTROL\"\n  \
             sleep 0.2\ndone\necho $n",
            go.display()
        ),
    )?;
    cluster.handler("hang", &format!("echo $$ >> {}\nsleep 600", hung.display()))?;
    let gateway = cluster.gateway(&[])?;
    let client = Client::new(gateway.url());
    let _worker = cluster.worker(&[])?;
    let task = |name: &str| json!({"type": name, "heartbeat_timeout": "1s", "max_attempts": 1});
    let busy = client.push(task("busy")).await?;
    let hanging = client.push(task("hang")).await?;

    let task = client.finished(&hanging).await?;
    let error = task["error"].as_str().unwrap_or_default();
    ensure!(
        task["state"] == "failed" && error.contains("no heartbeat for 1s"),
        "{task}"
    );
    let pids = ledger(&hung);
    ensure!(pids.len() == 1, "{pids:?}");
    eventually(PATIENCE, async || {
        !std::path::Path::new("/proc").join(&pids[0]).exists()
    })
    .await?;
    eventually(PATIENCE, async || {
        let shown = gf_at(&gateway, &["get", &busy]).await?;
        ensure!(
            shown.contains("progress    \"on it\"") && shown.contains("running"),
            "{shown}"
        );
        Ok(())
    })
    .await?;
    std::fs::write(&go, "")?;
    let task = client.finished(&busy).await?;
    ensure!(
        task["state"] == "succeeded" && task["result"].as_u64() > Some(4),
        "{task}"
    );
    Ok(())
}

#[tokio::test]
async fn a_program_goes_on_from_its_checkpoint_after_its_worker_was_killed() -> Result<()> {
    let cluster = Cluster::start().await?;
    let runs = cluster.dir.path().join("runs");
    cluster.handler(
        "walk",
        &format!(
            "from=0\n[ -z \"${{GF_CHECKPOINT-}}\" ] || from=$(cat \"$GF_CHECKPOINT\")\necho $from >> {}\n\
             [ $from = 0 ] || {{ echo $from; exit 0; }}\n\
             echo '{{\"checkpoint\":7}}' > \"$GF_CONTROL\"\nsleep 600",
            runs.display()
        ),
    )?;
    let gateway = cluster.gateway(&[])?;
    let client = Client::new(gateway.url());
    let mut doomed = cluster.worker(&[])?;
    let id = client.push(json!({"type": "walk"})).await?;
    cluster.holds("GF_CHECKPOINT", 1).await?;
    doomed.kill()?;
    let _other = cluster.worker(&[])?;
    let task = client.finished(&id).await?;
    ensure!(
        task["state"] == "succeeded" && task["result"] == 7 && task["attempt"] == 1,
        "{task}"
    );
    ensure!(ledger(&runs) == ["0", "7"], "{:?}", ledger(&runs));
    Ok(())
}
