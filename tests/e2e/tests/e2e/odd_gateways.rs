//! Gateways that are stopped in their tracks, or whose clocks are wrong: the others, and the store, do not care.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use goflow_test_servers::{Process, eventually};
use serde_json::{Value, json};

use crate::client::Client;
use crate::cluster::{Cluster, PATIENCE, ledger};
use crate::load::Load;

/// How long a gateway is stopped: longer than any lease, and than any transaction may be idle.
const STOPPED: Duration = Duration::from_secs(60);

/// What the stopped gateway took with it comes back within the lease of outcomes, 10 s.
const SOON: Duration = Duration::from_secs(15);

/// Waits for tasks and says which take longer than they should.
async fn all_finish(client: &Client, ids: &[String], patience: Duration) -> Result<()> {
    eventually(patience, async || {
        for id in ids {
            let task = client.task(id).await?;
            ensure!(task["state"] == "succeeded", "{task}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_stopped_gateway_holds_up_nobody() -> Result<()> {
    let cluster = Cluster::start().await?;
    cluster.handler("flaky", "[ $GF_ATTEMPT -gt 1 ]")?;
    let mut first = cluster.gateway(&[])?;
    let second = cluster.gateway(&[])?;
    let _worker = cluster.worker(&[])?;
    let (here, there) = (Client::new(first.url()), Client::new(second.url()));
    let flaky = |wait: &str| json!({"type": "flaky", "backoff": {"fixed": wait}});
    // Of these the one that is about to stop knows best.
    let mut left = here
        .push_batch(20, |n| json!({"type": "echo", "payload": n, "delay": "2s"}))
        .await?;
    left.extend(here.push_batch(20, |_| flaky("2s")).await?);
    let load = Load::paced(&[second.url()], "echo", Duration::from_millis(5));
    load.accepts(100).await?;
    let under_way: Vec<_> = (0..50)
        .map(|n| {
            let here = here.clone();
            tokio::spawn(async move { here.push(json!({"type": "echo", "payload": n})).await })
        })
        .collect();

    first.pause()?;
    let stopped = Instant::now();
    all_finish(&there, &left, SOON).await?;
    let mut rounds = 0;
    while stopped.elapsed() < STOPPED {
        let asked = [
            there.push(json!({"type": "echo"})).await?,
            there
                .push(json!({"type": "echo", "delay": "500ms"}))
                .await?,
            there.push(flaky("200ms")).await?,
        ];
        all_finish(&there, &asked, SOON).await?;
        rounds += 1;
    }
    ensure!(rounds >= 3, "{rounds} rounds in {STOPPED:?}");
    first.resume()?;
    here.says_ready(200, "store", true, SOON).await?;
    for push in under_way {
        // Accepted or refused, but if accepted then done.
        if let Ok(id) = push.await? {
            there.finished(&id).await?;
        }
    }
    let id = here.push(json!({"type": "echo"})).await?;
    all_finish(&here, &[id], SOON).await?;
    load.end(&cluster).await?;
    Ok(())
}

/// Gateways whose clocks are off by this many seconds.
fn gateway_off_by(cluster: &Cluster, seconds: i64, library: &OsStr) -> Result<Process> {
    let offset = seconds.to_string();
    let env = [
        ("LD_PRELOAD", library),
        ("CLOCK_OFFSET", OsStr::new(&offset)),
    ];
    let servers = ["--broker", cluster.nats.url(), "--store", &cluster.store];
    Process::gateway_with(servers, &env)
}

/// Builds the library that sets clocks wrong, with the compiler that linked this test.
fn wrong_clock(cluster: &Cluster) -> Result<PathBuf> {
    let library = cluster.dir.path().join("clock.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/clock.c");
    let mut compiler = std::process::Command::new("cc");
    let built = compiler
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&library)
        .arg(source)
        .status();
    ensure!(built.context("run cc")?.success(), "cc {source}");
    Ok(library)
}

fn now() -> Result<f64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64())
}

/// A time from now on, as a push takes it.
fn in_seconds(cluster: &Cluster, seconds: f64) -> Result<String> {
    let time = format!("to_timestamp({}) at time zone 'UTC'", now()? + seconds);
    let sql = format!(r#"select to_char({time}, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')"#);
    cluster.postgres.execute(&cluster.store, &sql)
}

#[tokio::test]
async fn the_clocks_of_gateways_decide_nothing() -> Result<()> {
    let cluster = Cluster::start().await?;
    let runs = cluster.dir.path().join("runs");
    cluster.handler(
        "tick",
        &format!("echo $(cat) $(date +%s.%N) >> {}", runs.display()),
    )?;
    cluster.handler("flaky", "[ $GF_ATTEMPT -gt 1 ]")?;
    let library = wrong_clock(&cluster)?;
    let ahead = gateway_off_by(&cluster, 3600, library.as_os_str())?;
    let behind = gateway_off_by(&cluster, -3600, library.as_os_str())?;
    let _worker = cluster.worker(&[])?;
    let clients = [Client::new(ahead.url()), Client::new(behind.url())];

    let mut starts = Vec::new();
    let mut ids = Vec::new();
    for (number, client) in clients.iter().enumerate() {
        for option in ["delay", "run_at"] {
            let name = format!("{option}-{number}");
            let mut task = json!({"type": "tick", "payload": name});
            // The clock first: asking the store for its time takes a while.
            starts.push((name, now()? + 3.0));
            task[option] = match option {
                "delay" => json!("3s"),
                _ => json!(in_seconds(&cluster, 3.0)?),
            };
            ids.push(client.push(task).await?);
        }
        for (option, value) in [
            ("max_attempts", json!(3)),
            ("deadline", json!("30s")),
            ("deadline", json!(in_seconds(&cluster, 30.0)?)),
        ] {
            let mut task = json!({"type": "flaky", "backoff": {"fixed": "500ms"}});
            task[option] = value;
            ids.push(client.push(task).await?);
        }
    }
    let mut expiring = Vec::new();
    for client in &clients {
        for deadline in [json!("3s"), json!(in_seconds(&cluster, 3.0)?)] {
            let task = json!({"type": "nobody", "deadline": deadline});
            expiring.push((client.push(task).await?, Instant::now()));
        }
    }

    // The clocks are off indeed: ids carry the time of the gateway.
    let created = |task: &Value| task["created_at"].as_str().unwrap_or_default().to_owned();
    let of = |client: usize| clients[client].task(&ids[client * 5]);
    let (late, early) = (created(&of(0).await?), created(&of(1).await?));
    let apart = format!("select extract(epoch from '{late}'::timestamptz - '{early}')::int");
    let apart = cluster.count(&apart)?;
    ensure!(
        (7_190..7_210).contains(&apart),
        "clocks are {apart} s apart"
    );

    for id in &ids {
        for client in &clients {
            let task = client.finished(id).await?;
            ensure!(task["state"] == "succeeded", "{task}");
        }
    }
    let ran = ledger(&runs);
    ensure!(ran.len() == starts.len(), "{ran:?}");
    for (name, due) in starts {
        let line = ran
            .iter()
            .find_map(|line| line.strip_prefix(&format!("\"{name}\" ")));
        let at: f64 = line.context("it ran")?.trim().parse()?;
        let late = at - due;
        // Times are kept to the millisecond.
        ensure!((-0.05..8.0).contains(&late), "{name} ran {late} s late");
    }
    for (id, pushed) in expiring {
        let task = clients[0].finished(&id).await?;
        ensure!(task["state"] == "expired", "{task}");
        ensure!(pushed.elapsed() > Duration::from_secs(2), "{task}");
    }
    for client in &clients {
        let (_, list) = client.get("/v1/tasks?limit=100").await?;
        let listed = list["tasks"].as_array().map_or(0, Vec::len);
        ensure!(listed == ids.len() + 4, "{listed} in the list");
    }
    eventually(PATIENCE, async || {
        let (_, workers) = clients[0].get("/v1/workers").await?;
        ensure!(
            workers["workers"]
                .as_array()
                .is_some_and(|all| all.len() == 1),
            "{workers}"
        );
        Ok(())
    })
    .await
}
