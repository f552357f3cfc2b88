//! `gf bench` against a deployment.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::cluster::{Cluster, PATIENCE, gf, gf_at};

#[tokio::test]
async fn a_deployment_is_measured_through_its_gateway() -> Result<()> {
    let cluster = Cluster::start().await?;
    let gateway = cluster.gateway(&[])?;
    let _worker = cluster.worker(&[])?;
    let bench = [
        "bench", "--tasks", "1200", "--for", "2s", "--output", "json",
    ];
    let figures: Value = serde_json::from_str(&gf_at(&gateway, &bench).await?)?;
    for figure in [
        "/one_by_one/pushed_per_second",
        "/one_by_one/finished_per_second",
        "/batches/pushed_per_second",
        "/batches/finished_per_second",
        "/latency/p50_ms",
    ] {
        let value = figures.pointer(figure).and_then(Value::as_f64);
        ensure!(value.context("a figure")? > 0.0, "{figure}: {figures}");
    }
    ensure!(figures["latency"]["tasks"] == 200, "{figures}");
    let done = "select count(*) from goflow_tasks where state = 'succeeded' and result = payload";
    cluster.counted(done, 2 * 1_200 + 200, PATIENCE).await?;
    Ok(())
}

#[tokio::test]
async fn a_type_that_is_not_served_or_answers_otherwise_is_not_measured() -> Result<()> {
    let cluster = Cluster::start().await?;
    let gateway = cluster.gateway(&[])?;
    let _worker = cluster.worker(&[])?;
    let server = ["--server", gateway.url(), "bench", "--tasks", "10"];
    let (code, out, err) =
        gf(&[&server[..], &["--type", "nobody", "--timeout", "2s"]].concat()).await?;
    ensure!(code == 3 && out.is_empty(), "{code} {out} {err}");
    ensure!(err.contains("does a worker serve \"nobody\""), "{err}");
    let (code, out, err) = gf(&[&server[..], &["--type", "sleep"]].concat()).await?;
    ensure!(code == 1 && out.is_empty(), "{code} {out} {err}");
    Ok(())
}
