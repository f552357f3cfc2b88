//! The README's commands, as written but for addresses, ports and where the binaries are.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use goflow_test_servers::{Process, binary};
use tokio::process::Command;

use crate::cluster::Cluster;

fn binary_dir() -> Result<PathBuf> {
    Ok(binary("gf")?
        .parent()
        .context("a binary is in a directory")?
        .to_owned())
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The blocks of shell commands.
fn blocks() -> Result<Vec<String>> {
    let readme = std::fs::read_to_string(root().join("README.md"))?;
    let after = readme.split("```sh\n").skip(1);
    after
        .map(|rest| Ok(rest.split("```").next().context("a block ends")?.to_owned()))
        .collect()
}

/// Runs commands in the repository's root with the binaries in the path; what they print.
async fn shell(commands: &str, env: &[(&str, &str)]) -> Result<String> {
    let bin = binary_dir()?;
    let path = format!("{}:{}", bin.display(), std::env::var("PATH")?);
    let mut command = Command::new("bash");
    command
        .args(["-c", &format!("set -eum\n{commands}")])
        .current_dir(root())
        .env("PATH", path);
    command.envs(env.iter().copied()).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(200), command.output())
        .await
        .context(commands.to_owned())??;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{commands}\n{stdout}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(stdout)
}

fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port())
}

#[tokio::test]
async fn the_first_minute() -> Result<()> {
    let blocks = blocks()?;
    let local = |block: &str, url: &str| {
        block
            .replace("cargo run --release --bin gf --", "gf")
            .replace("target/release/gf", "gf")
            .replace("localhost:8080", url.trim_start_matches("http://"))
    };
    let [once, dev, use_it] = &blocks[..3] else {
        anyhow::bail!("three blocks: {blocks:?}")
    };
    ensure!(
        shell(&local(once, ""), &[("GF_LISTEN", "127.0.0.1:0")])
            .await?
            .trim()
            == "20"
    );

    let handlers = root().join("examples/handlers");
    ensure!(
        dev.trim() == "cargo run --release --bin gf -- dev --handlers-path examples/handlers",
        "{dev}"
    );
    let mut process = Process::gf([
        "dev",
        "--listen",
        "127.0.0.1:0",
        "--handlers-path",
        &handlers.to_string_lossy(),
    ])?;
    let url = process.wait_listening()?;
    let said = shell(&local(use_it, &url), &[("GF_SERVER", &url)]).await?;
    ensure!(said.lines().next() == Some("20"), "{said}");
    ensure!(
        said.contains("doubler") && said.contains(r#"{"id":""#),
        "{said}"
    );
    Ok(())
}

#[tokio::test]
async fn the_cluster_by_hand() -> Result<()> {
    let cluster = Cluster::start().await?;
    let blocks = blocks()?;
    let block = blocks
        .iter()
        .find(|block| block.contains("gf migrate"))
        .context("the distributed block")?;
    let (first, second) = (free_port()?, free_port()?);
    let store = cluster.postgres.create_database()?;
    let build = "cargo build --release && export PATH=$PWD/target/release:$PATH\n";
    ensure!(block.starts_with(build), "{block}");
    let commands = block
        .replace(build, "")
        .replace("nats://127.0.0.1:4222", cluster.nats.url())
        .replace("postgres://goflow@127.0.0.1:5432/goflow", &store)
        .replace("8080", &first.to_string())
        .replace("8081", &second.to_string());
    let said = shell(
        &format!("trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{commands}"),
        &[("GF_SERVER", &format!("http://127.0.0.1:{first}"))],
    )
    .await?;
    ensure!(
        said.contains("succeeded | ") && said.contains(r#"{"ms": 3000}"#),
        "{said}"
    );
    Ok(())
}

#[tokio::test]
async fn the_main_job_by_script() -> Result<()> {
    let blocks = blocks()?;
    ensure!(
        blocks
            .iter()
            .any(|block| block.trim() == "scripts/main-job 100000"),
        "{blocks:?}"
    );
    let bin = binary_dir()?;
    let said = shell(
        "scripts/main-job 5000",
        &[("GF_BIN_DIR", &bin.to_string_lossy())],
    )
    .await?;
    ensure!(said.contains("5000 rows, 5000 right results"), "{said}");
    Ok(())
}

#[tokio::test]
async fn the_tests_are_run_as_the_readme_says() -> Result<()> {
    ensure!(blocks()?.iter().any(|block| block.trim() == "scripts/test"));
    let ci = std::fs::read_to_string(root().join(".ci/run"))?;
    ensure!(ci.contains("scripts/test"), "{ci}");
    // Everything else in the blocks is run by the tests above.
    ensure!(blocks()?.len() == 6, "{:?}", blocks()?);
    ensure!(root().join("scripts/test").exists());
    Ok(())
}
