//! JetStream loses all it has stored: everything accepted finishes without help, and what runs is not run beside
//! itself. And the other side of it: in a healthy system nothing is dispatched twice.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use async_nats::jetstream::{Context as JetStream, consumer};
use goflow_test_servers::eventually;
use serde_json::json;

use crate::client::Client;
use crate::cluster::{Cluster, PATIENCE, ledger};

const STREAM: &str = "GF_Q_default";

/// Accepted and not running when the store is wiped.
const WAITING: u64 = 10_000;

/// As many of these as were pushed a moment before, so that their dispatch is not confirmed yet.
const FRESH: u64 = 1_000;

/// Running when the store is wiped.
const RUNNING: u64 = 4;

/// After the broker's return.
const FIRST_DISPATCH: Duration = Duration::from_secs(10);

/// Tasks that wait in a healthy system, longer than any deadline of a dispatch.
const BACKLOG: u64 = 3_000;

/// Messages that are in the queue, and those that ever were, by the stream's own count.
async fn messages(jetstream: &JetStream) -> Result<(u64, u64)> {
    let state = jetstream
        .get_stream_no_info(STREAM)
        .await?
        .get_info()
        .await?
        .state;
    Ok((state.messages, state.last_sequence))
}

/// The lease of tasks with the priority that is the default.
async fn lease(jetstream: &JetStream) -> Result<Duration> {
    let stream = jetstream.get_stream_no_info(STREAM).await?;
    let lane: consumer::PullConsumer = stream
        .get_consumer("lane-1")
        .await
        .map_err(anyhow::Error::from_boxed)?;
    Ok(lane.cached_info().config.ack_wait)
}

#[tokio::test]
async fn after_a_wipe_all_that_waits_is_dispatched_again_and_what_runs_is_left_alone() -> Result<()>
{
    let mut cluster = Cluster::start().await?;
    let (runs, go) = cluster.holding()?;
    // Two gateways, which find the same rows lost at the same time.
    let gateways = [cluster.gateway(&[])?, cluster.gateway(&[])?];
    let client = Client::new(gateways[0].url());
    let _busy = cluster.worker(&["--num-workers", &RUNNING.to_string()])?;
    client
        .push_batch(RUNNING as usize, |_| json!({"type": "hold"}))
        .await?;
    eventually(PATIENCE, async || ledger(&runs).len() as u64 == RUNNING).await?;
    let echo = |n: usize| json!({"type": "echo", "payload": n});
    client.push_batch((WAITING - FRESH) as usize, echo).await?;
    let confirmed = "select count(*) from gf_task where due_at is null";
    let before = (RUNNING + WAITING - FRESH) as i64;
    cluster.counted(confirmed, before, PATIENCE).await?;
    client.push_batch(FRESH as usize, echo).await?;
    let jetstream = cluster.jetstream().await?;
    eventually(PATIENCE, async || {
        let (in_queue, _) = messages(&jetstream).await?;
        ensure!(in_queue == WAITING + RUNNING, "{in_queue} in the queue");
        Ok(())
    })
    .await?;

    cluster.nats.wipe_and_restart()?;
    let back = Instant::now();
    // A connection that has seen the loss would wait for answers that never come.
    let jetstream = cluster.jetstream().await?;
    eventually(FIRST_DISPATCH * 2, async || {
        let (_, ever) = messages(&jetstream).await?;
        ensure!(ever > 0, "nothing in the queue");
        Ok(())
    })
    .await?;
    let first = back.elapsed();
    ensure!(
        first < FIRST_DISPATCH,
        "the first came {first:?} after the broker's return"
    );
    eventually(PATIENCE, async || {
        let (in_queue, _) = messages(&jetstream).await?;
        ensure!(in_queue == WAITING, "{in_queue} in the queue");
        Ok(())
    })
    .await?;
    // What the one worker that is left asked for holds for the queue that was made anew.
    eventually(PATIENCE, async || {
        let lease = lease(&jetstream).await?;
        ensure!(lease == Duration::from_secs(2), "the lease is {lease:?}");
        Ok(())
    })
    .await?;

    let _other = cluster.worker(&["--num-workers", "8"])?;
    let echoed = "select count(*) from goflow_tasks
        where type = 'echo' and state = 'succeeded' and result = payload";
    cluster.counted(echoed, WAITING as i64, PATIENCE).await?;
    let ran = ledger(&runs);
    ensure!(
        ran.len() as u64 == RUNNING,
        "run beside themselves: {ran:?}"
    );
    std::fs::write(&go, "")?;
    let done = "select count(*) from goflow_tasks
        where type = 'hold' and state = 'succeeded' and attempt = 1";
    cluster.counted(done, RUNNING as i64, PATIENCE).await?;
    let ended = ledger(&runs);
    let starts = |line: &&String| line.starts_with("start ");
    ensure!(
        ended.iter().filter(starts).eq(&ran) && ended.len() == 2 * ran.len(),
        "{ended:?} after {ran:?}"
    );
    let (_, ever) = messages(&jetstream).await?;
    ensure!(
        ever == WAITING,
        "{ever} dispatches after the wipe, {WAITING} were lost"
    );
    Ok(())
}

#[tokio::test]
async fn a_healthy_system_dispatches_nothing_twice() -> Result<()> {
    let cluster = Cluster::start().await?;
    let marks = cluster.marking()?;
    let runs = cluster.dir.path().join("runs");
    // Twelve leases.
    cluster.handler(
        "long",
        &format!("echo run >> {}\nsleep 12\necho 1", runs.display()),
    )?;
    let gateways = [cluster.gateway(&[])?, cluster.gateway(&[])?];
    let client = Client::new(gateways[0].url());
    let _worker = cluster.worker(&["--num-workers", "3", "--lease", "1s"])?;
    let long = client.push(json!({"type": "long"})).await?;
    eventually(PATIENCE, async || ledger(&runs).len() == 1).await?;
    client
        .push_batch(BACKLOG as usize, |n| json!({"type": "mark", "payload": n}))
        .await?;
    let jetstream = cluster.jetstream().await?;
    ensure!(lease(&jetstream).await? == Duration::from_secs(1));

    let done = "select count(*) from goflow_tasks where state = 'succeeded'";
    cluster
        .counted(done, BACKLOG as i64 + 1, PATIENCE * 2)
        .await?;
    let task = client.task(&long).await?;
    ensure!(task["attempt"] == 1 && task["crashes"] == 0, "{task}");
    ensure!(
        ledger(&runs).len() == 1,
        "the long one ran {:?}",
        ledger(&runs)
    );
    let marked = ledger(&marks);
    let distinct: HashSet<_> = marked.iter().collect();
    ensure!(
        marked.len() as u64 == BACKLOG && distinct.len() as u64 == BACKLOG,
        "{} runs of {} tasks",
        marked.len(),
        distinct.len()
    );
    let again = cluster.count("select count(*) from gf_history where dispatch <> 1")?;
    ensure!(again == 0, "{again} were dispatched again");
    let (_, ever) = messages(&jetstream).await.context("the queue")?;
    ensure!(
        ever == BACKLOG + 1,
        "{ever} messages for {} tasks",
        BACKLOG + 1
    );
    Ok(())
}
