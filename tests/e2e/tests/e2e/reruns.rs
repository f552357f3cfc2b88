//! Finished tasks are looked at, opened again and run anew.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::client::Client;
use crate::cluster::{Cluster, gf_at};

#[tokio::test]
async fn finished_tasks_are_opened_again_or_run_anew() -> Result<()> {
    let cluster = Cluster::start().await?;
    let mended = cluster.dir.path().join("mended");
    cluster.handler(
        "fail",
        &format!(
            "[ -e {} ] || {{ echo \"broken $(cat)\" >&2; exit 1; }}\necho 1",
            mended.display()
        ),
    )?;
    let gateway = cluster.gateway(&[])?;
    let client = Client::new(gateway.url());
    let _worker = cluster.worker(&[])?;
    let failing = |n: usize| json!({"type": "fail", "payload": n % 2, "max_attempts": 1});
    let ids = client.push_batch(30, failing).await?;
    for id in &ids {
        ensure!(client.finished(id).await?["state"] == "failed");
    }
    let (_, dead) = client.get("/v1/dead").await?;
    let groups = dead["groups"].as_array().context("groups")?;
    let expected = |group: &Value| {
        let error = group["error"].as_str().unwrap_or_default();
        group["type"] == "fail"
            && group["state"] == "failed"
            && group["count"] == 15
            && error.starts_with("broken")
    };
    ensure!(groups.len() == 2 && groups.iter().all(expected), "{dead}");
    let shown = gf_at(&gateway, &["dead"]).await?;
    ensure!(
        shown.contains("broken 0") && shown.contains("broken 1"),
        "{shown}"
    );

    std::fs::write(&mended, "")?;
    let again = client.order(&ids[0], "retry").await?;
    ensure!(
        again["attempt"] == 2 && again["max_attempts"] == 2,
        "{again}"
    );
    let task = client.finished(&ids[0]).await?;
    ensure!(
        task["state"] == "succeeded" && task["attempts"][0]["attempt"] == 1,
        "{task}"
    );
    let body = json!({"filter": {"type": "fail", "state": "failed"}, "limit": 20});
    let (status, bulk) = client.post("/v1/tasks/retry", &body).await?;
    ensure!(
        status == 200 && bulk["changed"] == 20 && bulk["more"] == true,
        "{status} {bulk}"
    );
    gf_at(
        &gateway,
        &["retry", "--type", "fail", "--state", "failed", "--yes"],
    )
    .await?;
    for id in &ids {
        let task = client.finished(id).await?;
        ensure!(task["state"] == "succeeded", "{task}");
    }

    let path = format!("/v1/tasks/{}/run-again", ids[0]);
    let (status, body) = client.post(&path, &json!({})).await?;
    ensure!(status == 202, "{status} {body}");
    let new = body["id"].as_str().context("an id")?;
    let task = client.finished(new).await?;
    ensure!(
        new != ids[0] && task["state"] == "succeeded" && task["retry_of"] == ids[0].as_str(),
        "{task}"
    );
    let printed = gf_at(&gateway, &["run-again", new]).await?;
    let task = client.finished(printed.trim()).await?;
    ensure!(task["retry_of"] == new, "{task}");
    Ok(())
}
