//! The guided tour of the facade crate, each example as it is built, on real servers.

use std::ffi::OsStr;

use anyhow::{Result, ensure};
use goflow_test_servers::Process;

use crate::cluster::{Cluster, PATIENCE};

/// Runs an example to its end and finds these lines, in this order, in what it prints.
async fn prints(name: &'static str, env: &[(&str, &str)], wanted: &[&str]) -> Result<()> {
    let env: Vec<_> = env
        .iter()
        .map(|(key, value)| (*key, OsStr::new(*value)))
        .collect();
    let mut example = Process::example(name, &env)?;
    let status = example.wait_exit(PATIENCE).await?;
    let printed = example.stdout();
    ensure!(
        status.success(),
        "{name}: {status}\n{printed}\n{}",
        example.stderr()
    );
    let mut lines = printed.lines();
    for line in wanted {
        ensure!(
            lines.any(|printed| printed == *line),
            "{name} did not print {line:?} there:\n{printed}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn local_mode_needs_no_server() -> Result<()> {
    let wanted = [
        "order 7 costs 19.99",
        "order 8 failed: nothing to pay",
        "100 orders billed",
    ];
    prints("local", &[], &wanted).await?;
    let wanted = [
        "attempt 1: no connection",
        "attempt 2: asked to come back later",
        "attempt 3: succeeded",
        "ready, in attempt 1",
        "counted from 6",
        "expired: deadline passed",
        "cancelled",
        "queued again, attempt 2",
        "cancelled",
    ];
    prints("lifecycle", &[], &wanted).await
}

#[tokio::test]
async fn distributed_mode_runs_on_real_servers() -> Result<()> {
    let cluster = Cluster::start().await?;
    let env = [
        ("GF_BROKER", cluster.nats.url()),
        ("GF_STORE", cluster.store.as_str()),
    ];
    let wanted = ["queued", "succeeded: 320 pixels", "100 images resized"];
    prints("distributed", &env, &wanted).await
}

#[tokio::test]
async fn a_push_belongs_to_the_callers_transaction() -> Result<()> {
    let cluster = Cluster::start().await?;
    let env = [("GF_STORE", cluster.store.as_str())];
    let wanted = ["succeeded: welcome, ann", "rolled back: it never was"];
    prints("transactional_push", &env, &wanted).await
}
