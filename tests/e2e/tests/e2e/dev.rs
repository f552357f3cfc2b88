//! `gf dev` and the command line, as a newcomer meets them.

use std::time::Duration;

use anyhow::{Result, ensure};
use goflow_test_servers::{Postgres, Process, eventually};
use serde_json::{Value, json};

use crate::client::Client;
use crate::cluster::{PATIENCE, gf, ledger, write_handler};

fn examples() -> String {
    format!("{}/../../examples/handlers", env!("CARGO_MANIFEST_DIR"))
}

#[tokio::test]
async fn the_command_line_pushes_waits_and_tells() -> Result<()> {
    let mut dev = Process::gf([
        "dev",
        "--listen",
        "127.0.0.1:0",
        "--handlers-path",
        &examples(),
    ])?;
    let url = dev.wait_listening()?;
    let server = ["--server", url.as_str()];
    let with = |args: &[&'static str]| [&server[..], args].concat();

    let (code, out, err) = gf(&with(&["push", "doubler", r#"{"N":10}"#, "--wait"])).await?;
    ensure!((code, out.trim()) == (0, "20"), "{code} {out} {err}");
    let (code, _, err) = gf(&with(&[
        "push",
        "errorer",
        r#"{"N":1}"#,
        "--wait",
        "--max-attempts",
        "1",
    ]))
    .await?;
    ensure!(
        code == 1 && err.contains(r#"error for payload: {"N":1}"#),
        "{code} {err}"
    );
    let (code, out, _) = gf(&with(&["push", "sleep", r#"{"ms":60000}"#])).await?;
    ensure!(code == 0);
    let id = out.trim();
    let (code, _, err) = gf(&["--server", &url, "wait", id, "--timeout", "200ms"]).await?;
    ensure!(code == 3, "{code} {err}");
    let (code, out, err) = gf(&["--server", &url, "--output", "json", "get", id]).await?;
    ensure!(code == 0, "{code} {err}");
    ensure!(serde_json::from_str::<Value>(&out)?["id"] == id, "{out}");
    let (code, _, err) = gf(&["--server", &url, "cancel", id]).await?;
    ensure!(code == 0, "{code} {err}");
    let (code, out, _) = gf(&with(&["list", "--state", "cancelled"])).await?;
    ensure!(code == 0 && out.contains(id), "{code} {out}");
    for command in ["queues", "workers", "doctor"] {
        let (code, out, err) = gf(&["--server", &url, command]).await?;
        ensure!(
            code == 0 && !out.is_empty(),
            "{command}: {code} {out} {err}"
        );
    }
    let (code, _, err) = gf(&["--server", "http://127.0.0.1:9", "get", id]).await?;
    ensure!(code == 4 && err.lines().count() == 1, "{code} {err}");
    let (code, _, _) = gf(&with(&["push", "doubler", "{not json"])).await?;
    ensure!(code == 2, "{code}");

    dev.interrupt()?;
    ensure!(
        dev.wait_exit(Duration::from_secs(15)).await?.success(),
        "{}",
        dev.stderr()
    );
    Ok(())
}

#[tokio::test]
async fn dev_with_postgres_keeps_its_tasks_over_a_kill() -> Result<()> {
    let postgres = Postgres::start()?;
    let store = postgres.create_database()?;
    let dir = tempfile::tempdir()?;
    let runs = dir.path().join("runs");
    write_handler(
        dir.path(),
        "mark",
        &format!("echo $(cat) >> {}", runs.display()),
    )?;
    write_handler(dir.path(), "hang", "sleep 600")?;
    let handlers = dir.path().to_str().unwrap_or_default();
    let args = [
        "dev",
        "--listen",
        "127.0.0.1:0",
        "--handlers-path",
        handlers,
        "--num-workers",
        "1",
        "--store",
        &store,
    ];
    let mut dev = Process::gf(args)?;
    let client = Client::new(&dev.wait_listening()?);
    let hanging = client.push(json!({"type": "hang"})).await?;
    client.in_state(&hanging, "running").await?;
    let ids = client
        .push_batch(20, |n| json!({"type": "mark", "payload": n}))
        .await?;
    ensure!(ledger(&runs).is_empty(), "the only worker hangs");
    dev.kill()?;

    std::fs::remove_file(dir.path().join("hang"))?;
    write_handler(dir.path(), "hang", "echo 1")?;
    dev.start_again()?;
    let client = Client::new(&dev.wait_listening()?);
    for id in ids.iter().chain([&hanging]) {
        let task = client.finished(id).await?;
        ensure!(task["state"] == "succeeded", "{task}");
    }
    eventually(PATIENCE, async || ledger(&runs).len() == 20).await
}
