//! Cancel, deadline, pause, purge, retry and the rest, through HTTP and the command line, over restarts.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use goflow_test_servers::{Process, eventually};
use serde_json::{Value, json};

use crate::cluster::{Client, Cluster, PATIENCE, gf, ledger};

/// How soon a running handler hears of a cancel.
const TOLD_WITHIN: f64 = 1.0;

/// Adds the handler `stubborn`: it runs until it is told to stop, notes when that was, and claims success all the same.
fn stubborn(cluster: &Cluster) -> Result<PathBuf> {
    let runs = cluster.dir.path().join("stubborn");
    let script = format!(
        "trap 'echo told $GF_TASK_ID $(date +%s.%N) >> {0}; echo 1; exit 0' TERM\n\
         echo start $GF_TASK_ID >> {0}\nsleep 600 & wait",
        runs.display()
    );
    cluster.handler("stubborn", &script)?;
    Ok(runs)
}

fn now() -> Result<f64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64())
}

impl Client {
    /// Asks for something to be done to a task; the task.
    async fn order(&self, id: &str, what: &str) -> Result<Value> {
        let (status, body) = self
            .post(&format!("/v1/tasks/{id}/{what}"), &json!({}))
            .await?;
        ensure!(status == 200, "{what}: {status} {body}");
        Ok(body)
    }

    /// The ids of the live workers.
    async fn workers(&self) -> Result<Vec<Value>> {
        let (_, body) = self.get("/v1/workers").await?;
        Ok(body["workers"].as_array().context("workers")?.clone())
    }

    /// What is said of a queue.
    async fn queue(&self, name: &str) -> Result<Value> {
        let (_, body) = self.get("/v1/queues").await?;
        let queues = body["queues"].as_array().context("queues")?;
        let found = queues.iter().find(|queue| queue["name"] == name);
        Ok(found.with_context(|| format!("{name} in {body}"))?.clone())
    }
}

/// Runs the command line against a gateway; what it prints. It has to succeed.
async fn gf_at(gateway: &Process, args: &[&str]) -> Result<String> {
    let args = [&["--server", gateway.url()], args].concat();
    let (code, out, err) = gf(&args).await?;
    ensure!(code == 0, "gf {args:?}: {code}\n{out}{err}");
    Ok(out)
}

#[tokio::test]
async fn a_cancel_is_for_good_in_every_state() -> Result<()> {
    let mut cluster = Cluster::start().await?;
    let runs = stubborn(&cluster)?;
    let marks = cluster.marking()?;
    cluster.handler("fail", "exit 1")?;
    let mut gateway = cluster.gateway(&[])?;
    let client = Client::new(gateway.url());
    let mut worker = cluster.worker(&[])?;

    let queued = client.push(json!({"type": "nobody"})).await?;
    let scheduled = client
        .push(json!({"type": "mark", "payload": 1, "delay": "2s"}))
        .await?;
    let retrying = client
        .push(json!({"type": "fail", "backoff": {"fixed": "2s"}}))
        .await?;
    let running = client.push(json!({"type": "stubborn"})).await?;
    client.in_state(&scheduled, "scheduled").await?;
    for id in [&queued, &scheduled] {
        let task = client.order(id, "cancel").await?;
        ensure!(task["state"] == "cancelled", "{task}");
    }
    client.in_state(&retrying, "retrying").await?;
    gf_at(&gateway, &["cancel", &retrying]).await?;
    client.in_state(&running, "running").await?;
    let asked = now()?;
    let task = client.order(&running, "cancel").await?;
    ensure!(task["state"] == "cancelled", "{task}");
    let told = eventually(PATIENCE, async || {
        let prefix = format!("told {running} ");
        let lines = ledger(&runs);
        lines
            .iter()
            .find_map(|line| line.strip_prefix(&prefix)?.parse::<f64>().ok())
    })
    .await?;
    ensure!(told - asked < TOLD_WITHIN, "told after {} s", told - asked);

    // Everything forgets, but for the stores.
    gateway.kill()?;
    worker.kill()?;
    cluster.nats.restart()?;
    gateway.start_again()?;
    worker.start_again()?;
    let client = Client::new(gateway.url());
    let next = client
        .push(json!({"type": "mark", "payload": 2, "delay": "3s"}))
        .await?;
    client.finished(&next).await?;
    for id in [&queued, &scheduled, &retrying, &running] {
        let task = client.task(id).await?;
        ensure!(
            task["state"] == "cancelled" && task["result"].is_null(),
            "{task}"
        );
        let (status, body) = client
            .post(&format!("/v1/tasks/{id}/cancel"), &json!({}))
            .await?;
        ensure!(status == 409, "a second cancel: {status} {body}");
    }
    ensure!(ledger(&marks) == ["2"], "{:?}", ledger(&marks));
    ensure!(ledger(&runs).len() == 2, "{:?}", ledger(&runs));
    Ok(())
}

#[tokio::test]
async fn a_success_on_its_way_does_not_undo_a_cancel() -> Result<()> {
    let cluster = Cluster::start().await?;
    let (runs, go) = (
        cluster.dir.path().join("runs"),
        cluster.dir.path().join("go"),
    );
    cluster.handler(
        "slow",
        &format!(
            "echo start >> {0}\nwhile [ ! -e {1} ]; do sleep 0.05; done\necho end >> {0}\necho 1",
            runs.display(),
            go.display()
        ),
    )?;
    let gateway = cluster.gateway(&[])?;
    let client = Client::new(gateway.url());
    let mut worker = cluster.worker(&[])?;
    let id = client.push(json!({"type": "slow"})).await?;
    eventually(PATIENCE, async || ledger(&runs) == ["start"]).await?;
    // The handler, which is not stopped, ends; the worker does not know it yet.
    worker.pause()?;
    std::fs::write(&go, "")?;
    eventually(PATIENCE, async || ledger(&runs) == ["start", "end"]).await?;
    client.order(&id, "cancel").await?;
    worker.resume()?;
    // By the end of this one the worker has said whatever it has to say.
    let next = client.push(json!({"type": "echo"})).await?;
    client.finished(&next).await?;
    let task = client.task(&id).await?;
    ensure!(
        task["state"] == "cancelled" && task["result"].is_null(),
        "{task}"
    );
    let nothing = "select count(*) from gf_task";
    cluster.counted(nothing, 0, PATIENCE).await?;
    ensure!(client.task(&id).await?["state"] == "cancelled");
    Ok(())
}

#[tokio::test]
async fn a_deadline_ends_a_task_wherever_it_is() -> Result<()> {
    let cluster = Cluster::start().await?;
    let runs = stubborn(&cluster)?;
    cluster.handler("fail", "exit 1")?;
    let gateway = cluster.gateway(&[])?;
    let client = Client::new(gateway.url());
    let _worker = cluster.worker(&[])?;
    let running = client
        .push(json!({"type": "stubborn", "deadline": "3s"}))
        .await?;
    client.in_state(&running, "running").await?;
    let mut ids = vec![running];
    for task in [
        json!({"type": "nobody", "deadline": "1s"}),
        json!({"type": "echo", "delay": "1m", "deadline": "1s"}),
        json!({"type": "fail", "backoff": {"fixed": "1m"}, "deadline": "1s"}),
    ] {
        ids.push(client.push(task).await?);
    }
    for id in &ids {
        let task = client.finished(id).await?;
        ensure!(
            task["state"] == "expired" && task["error"] == "deadline passed",
            "{task}"
        );
    }
    eventually(PATIENCE, async || {
        let lines = ledger(&runs);
        ensure!(
            lines.len() == 2 && lines[1].starts_with("told"),
            "{lines:?}"
        );
        Ok(())
    })
    .await?;
    // In time is in time.
    let task = json!({"type": "echo", "payload": 7, "deadline": "1m"});
    let id = client.push(task).await?;
    ensure!(client.finished(&id).await?["result"] == 7);
    for id in &ids {
        let task = client.task(id).await?;
        ensure!(task["state"] == "expired", "{task}");
    }
    // Opened again, the deadline that has passed does not count.
    let (delayed, reopened) = (&ids[2], client.order(&ids[2], "retry").await?);
    ensure!(reopened["attempt"] == 2, "{reopened}");
    let task = client.finished(delayed).await?;
    ensure!(task["state"] == "succeeded", "{task}");
    Ok(())
}

#[tokio::test]
async fn a_paused_queue_stays_paused_over_restarts_and_a_wipe() -> Result<()> {
    let mut cluster = Cluster::start().await?;
    let marks = cluster.marking()?;
    let mut gateway = cluster.gateway(&[])?;
    let client = Client::new(gateway.url());
    let mut worker = cluster.worker(&["--queues", "default,other"])?;
    gf_at(&gateway, &["queue", "pause", "default"]).await?;
    let mark = |n: usize| json!({"type": "mark", "payload": n});
    let mut ids = client.push_batch(10, mark).await?;
    let runs_elsewhere = async |client: &Client| {
        let other = json!({"type": "echo", "queue": "other"});
        let id = client.push(other).await?;
        client.finished(&id).await?;
        let queue = client.queue("default").await?;
        ensure!(queue["paused"] == true, "{queue}");
        ensure!(ledger(&marks).is_empty(), "{:?}", ledger(&marks));
        Ok(())
    };
    runs_elsewhere(&client).await?;

    gateway.kill()?;
    cluster.nats.restart()?;
    worker.kill()?;
    gateway.start_again()?;
    worker.start_again()?;
    let client = Client::new(gateway.url());
    ids.extend(client.push_batch(10, |n| mark(10 + n)).await?);
    runs_elsewhere(&client).await?;

    cluster.nats.wipe_and_restart()?;
    runs_elsewhere(&client).await?;
    // What was lost is dispatched again, into a queue that is paused.
    let jetstream = cluster.jetstream().await?;
    eventually(PATIENCE, async || {
        let stream = jetstream.get_stream("GF_Q_default").await?;
        let waiting = stream.get_info().await?.state.messages;
        ensure!(waiting == 20, "{waiting} in the queue");
        Ok(())
    })
    .await?;
    runs_elsewhere(&client).await?;

    gf_at(&gateway, &["queue", "resume", "default"]).await?;
    for id in &ids {
        let task = client.finished(id).await?;
        ensure!(task["state"] == "succeeded", "{task}");
    }
    ensure!(ledger(&marks).len() == 20, "{:?}", ledger(&marks));
    ensure!(client.queue("default").await?["paused"] == false);
    Ok(())
}

#[tokio::test]
async fn urgent_tasks_overtake_a_backlog() -> Result<()> {
    let cluster = Cluster::start().await?;
    let marks = cluster.marking()?;
    let gateway = cluster.gateway(&[])?;
    let client = Client::new(gateway.url());
    let task = |n: usize| json!({"type": "mark", "payload": n % 4, "priority": n % 4});
    client.push_batch(40, task).await?;
    let urgent = ["push", "mark", "3", "--priority", "3"];
    gf_at(&gateway, &urgent).await?;
    let queued = "select count(*) from gf_task where due_at is null";
    cluster.counted(queued, 41, PATIENCE).await?;
    let _worker = cluster.worker(&["--num-workers", "1"])?;
    let done = "select count(*) from goflow_tasks where state = 'succeeded'";
    cluster.counted(done, 41, PATIENCE).await?;
    let ran = ledger(&marks);
    let mut sorted = ran.clone();
    sorted.sort();
    sorted.reverse();
    ensure!(ran == sorted, "{ran:?}");
    let (status, body) = client
        .post("/v1/tasks", &json!({"type": "mark", "priority": 4}))
        .await?;
    ensure!(status == 400, "{status} {body}");
    Ok(())
}

#[tokio::test]
async fn a_unique_key_keeps_a_second_task_out() -> Result<()> {
    let cluster = Cluster::start().await?;
    let gateways = [cluster.gateway(&[])?, cluster.gateway(&[])?];
    let clients = gateways
        .each_ref()
        .map(|gateway| Client::new(gateway.url()));
    let unique = json!({"type": "nobody", "unique": {"key": "report"}});
    // Many at once, through two gateways: one of them is accepted.
    let pushes = (0..40).map(|n| {
        let (client, unique) = (clients[n % 2].clone(), unique.clone());
        tokio::spawn(async move { client.push(unique).await })
    });
    let mut ids = HashSet::new();
    for push in pushes.collect::<Vec<_>>() {
        ids.insert(push.await??);
    }
    ensure!(ids.len() == 1, "{ids:?}");
    let first = ids.iter().next().context("an id")?;
    let client = &clients[0];
    let rejecting = json!({"type": "nobody", "unique": {"key": "report", "on_conflict": "reject"}});
    let answer = client.try_push(&rejecting).await?;
    ensure!(
        answer.status == 409 && answer.body["code"] == "duplicate",
        "{answer:?}"
    );
    ensure!(answer.body.to_string().contains(first), "{answer:?}");
    client.order(first, "cancel").await?;
    let second = client.push(rejecting).await?;
    // Its key is another's by now.
    let (status, body) = client
        .post(&format!("/v1/tasks/{first}/retry"), &json!({}))
        .await?;
    ensure!(status == 409, "{status} {body}");
    client.order(&second, "cancel").await?;

    let within = json!({"type": "nobody", "unique": {"key": "daily", "period": "1m"}});
    let first = client.push(within.clone()).await?;
    client.order(&first, "cancel").await?;
    ensure!(
        client.push(within).await? == first,
        "the period is not over"
    );
    Ok(())
}

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

#[tokio::test]
async fn a_queue_is_emptied_at_once_and_only_when_meant() -> Result<()> {
    let cluster = Cluster::start().await?;
    let gateway = cluster.gateway(&[])?;
    let client = Client::new(gateway.url());
    let task = |queue: &'static str| {
        move |n: usize| match n % 2 {
            0 => json!({"type": "echo", "queue": queue, "payload": n}),
            _ => json!({"type": "echo", "queue": queue, "payload": n, "delay": "1m"}),
        }
    };
    let full = client.push_batch(1_500, task("full")).await?;
    client.push_batch(500, task("other")).await?;
    let unmeant = json!({"confirm": "fool"});
    let (status, body) = client.post("/v1/queues/full/purge", &unmeant).await?;
    ensure!(status == 400, "{status} {body}");
    let live = "select count(*) from gf_task where queue = 'full'";
    ensure!(cluster.count(live)? == 1_500);
    let (status, body) = client
        .post("/v1/queues/full/purge", &json!({"confirm": "full"}))
        .await?;
    ensure!(
        status == 200 && body["changed"] == 1_500 && body["more"] == false,
        "{status} {body}"
    );
    ensure!(cluster.count(live)? == 0);
    ensure!(client.task(&full[0]).await?["state"] == "cancelled");

    let filter = json!({"filter": {"queue": "other", "state": "scheduled"}, "limit": 100});
    let (status, body) = client.post("/v1/tasks/cancel", &filter).await?;
    ensure!(
        status == 200 && body["changed"] == 100 && body["more"] == true,
        "{status} {body}"
    );
    let (status, body) = client
        .post("/v1/tasks/cancel", &json!({"filter": {}}))
        .await?;
    ensure!(
        status == 400,
        "a filter that filters nothing: {status} {body}"
    );
    gf_at(&gateway, &["queue", "purge", "other", "--yes"]).await?;
    ensure!(cluster.count("select count(*) from gf_task")? == 0);
    // What was cancelled is not run, though its messages are there.
    let _worker = cluster.worker(&["--queues", "full,other"])?;
    let id = client
        .push(json!({"type": "echo", "queue": "full"}))
        .await?;
    client.finished(&id).await?;
    let done = "select count(*) from goflow_tasks where state <> 'cancelled'";
    ensure!(cluster.count(done)? == 1);
    Ok(())
}

#[tokio::test]
async fn a_worker_is_told_to_be_quiet_and_to_stop() -> Result<()> {
    let cluster = Cluster::start().await?;
    let gateway = cluster.gateway(&[])?;
    let client = Client::new(gateway.url());
    let mut workers = [cluster.worker(&[])?, cluster.worker(&[])?];
    let seen = eventually(PATIENCE, async || {
        let seen = client.workers().await?;
        ensure!(seen.len() == 2, "{seen:?}");
        Ok(seen)
    })
    .await?;
    let id_of = |pid: u32| {
        let found = seen.iter().find(|worker| worker["pid"] == pid);
        found
            .and_then(|worker| worker["id"].as_str())
            .context("an id")
    };
    let [first, second] = [id_of(workers[0].pid())?, id_of(workers[1].pid())?];
    let is_quiet = async |wanted: bool| {
        eventually(PATIENCE, async || {
            let seen = client.workers().await?;
            let found = seen.iter().find(|worker| worker["id"] == first);
            ensure!(
                found.is_some_and(|worker| worker["quiet"] == wanted),
                "{seen:?}"
            );
            Ok(())
        })
        .await
    };
    gf_at(&gateway, &["worker", "quiet", first]).await?;
    is_quiet(true).await?;
    for id in client
        .push_batch(50, |n| json!({"type": "echo", "payload": n}))
        .await?
    {
        let task = client.finished(&id).await?;
        ensure!(task["worker"] == second, "{task}");
    }
    gf_at(&gateway, &["worker", "stop", second]).await?;
    let status = workers[1].wait_exit(PATIENCE).await?;
    ensure!(status.success(), "{status}: {}", workers[1].stderr());
    let id = client.push(json!({"type": "echo"})).await?;
    gf_at(&gateway, &["worker", "resume", first]).await?;
    is_quiet(false).await?;
    let task = client.finished(&id).await?;
    ensure!(task["worker"] == first, "{task}");
    let nobody = ["--server", gateway.url(), "worker", "stop", second];
    let (code, _, err) = gf(&nobody).await?;
    ensure!(code == 1 && !err.is_empty(), "{code} {err}");
    Ok(())
}
