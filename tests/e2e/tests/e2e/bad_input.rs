//! Processes that are started wrongly end with one clear line.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use goflow_test_servers::{Nats, Process};

/// Ends unsuccessfully, soon, with one line on stderr that says `wanted`.
async fn refuses(mut process: Process, wanted: &str) -> Result<()> {
    let started = Instant::now();
    let status = process.wait_exit(Duration::from_secs(20)).await?;
    let stderr = process.stderr();
    ensure!(!status.success(), "it ended well, with {stderr}");
    ensure!(stderr.contains(wanted), "{wanted:?} is not in {stderr:?}");
    // Beside the usual hint of a command line.
    let hint = "For more information, try '--help'.";
    let lines = stderr
        .lines()
        .filter(|line| !line.is_empty() && *line != hint);
    ensure!(lines.count() == 1, "more than one line: {stderr}");
    ensure!(
        started.elapsed() < Duration::from_secs(15),
        "it took {:?}",
        started.elapsed()
    );
    Ok(())
}

fn gateway(args: &[&str]) -> Result<Process> {
    // Not waited for: it is not to listen.
    Process::gateway_unready(args)
}

#[tokio::test]
async fn a_gateway_beyond_loopback_needs_to_be_told_so() -> Result<()> {
    refuses(gateway(&["--listen", "0.0.0.0:0"])?, "--insecure-no-auth").await?;
    let mut allowed = Process::gateway(["--listen", "0.0.0.0:0", "--insecure-no-auth"])?;
    allowed.terminate()?;
    ensure!(allowed.wait_exit(Duration::from_secs(15)).await?.success());
    Ok(())
}

#[tokio::test]
async fn servers_that_are_not_there_are_named() -> Result<()> {
    refuses(
        gateway(&["--broker", "nats://127.0.0.1:9"])?,
        "nats://127.0.0.1:9",
    )
    .await?;
    refuses(
        gateway(&["--store", "postgres://nobody:secret@127.0.0.1:9/none"])?,
        "127.0.0.1:9",
    )
    .await?;
    refuses(gateway(&["--broker", "redis://127.0.0.1"])?, "redis").await?;
    let worker = Process::worker(["--broker", "nats://127.0.0.1:9"])?;
    refuses(worker, "nats://127.0.0.1:9").await?;
    let worker = Process::worker(["--broker", "memory:"])?;
    refuses(worker, "memory").await
}

#[tokio::test]
async fn passwords_are_not_shown() -> Result<()> {
    let mut gateway = gateway(&["--store", "postgres://nobody:hunter2@127.0.0.1:9/none"])?;
    gateway.wait_exit(Duration::from_secs(20)).await?;
    let said = gateway.stderr() + &gateway.stdout();
    ensure!(!said.contains("hunter2"), "{said}");
    Ok(())
}

#[tokio::test]
async fn handlers_that_cannot_be_are_named() -> Result<()> {
    let nats = Nats::start()?;
    let missing = Process::worker([
        "--broker",
        nats.url(),
        "--handlers-path",
        "/nonexistent/handlers",
    ])?;
    refuses(missing, "/nonexistent/handlers").await?;
    let lease = Process::worker(["--broker", nats.url(), "--lease", "10ms"])?;
    refuses(lease, "1s").await?;
    let none = Process::worker(["--broker", nats.url(), "--num-workers", "0"])?;
    refuses(none, "num-workers").await?;
    let queue = Process::worker(["--broker", nats.url(), "--queues", "a.b"])?;
    refuses(queue, "a.b").await
}

#[tokio::test]
async fn a_database_without_the_schema_says_what_to_do() -> Result<()> {
    let postgres = goflow_test_servers::Postgres::start()?;
    let store = postgres.create_database()?;
    refuses(gateway(&["--store", &store])?, "gf migrate").await
}
