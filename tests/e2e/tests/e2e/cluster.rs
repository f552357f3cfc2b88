//! A cluster of the test's own: NATS, Postgres, gateways and workers.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use goflow_test_servers::{Nats, Postgres, Process, eventually};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Long enough for anything that should happen to happen on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The servers, and what is needed to start goflow on them.
pub(crate) struct Cluster {
    pub(crate) nats: Nats,
    pub(crate) postgres: Postgres,
    pub(crate) store: String,
    pub(crate) dir: TempDir,
}

impl Cluster {
    /// Starts the servers and makes a migrated database.
    pub(crate) async fn start() -> Result<Self> {
        let nats = Nats::start()?;
        let postgres = Postgres::start()?;
        let store = postgres.create_database()?;
        let dir = tempfile::Builder::new().prefix("goflow-e2e-").tempdir()?;
        fs::create_dir(dir.path().join("handlers"))?;
        let cluster = Self {
            nats,
            postgres,
            store,
            dir,
        };
        let mut migrate = Process::gf(["migrate", "--store", &cluster.store])?;
        ensure!(
            migrate.wait_exit(PATIENCE).await?.success(),
            "gf migrate: {}",
            migrate.stderr()
        );
        Ok(cluster)
    }

    /// A gateway on the servers.
    pub(crate) fn gateway(&self, args: &[&str]) -> Result<Process> {
        let mut all = vec!["--broker", self.nats.url(), "--store", &self.store];
        all.extend(args);
        Process::gateway(all)
    }

    /// A worker on the broker, with the handlers of the cluster and a lease of 2 s.
    pub(crate) fn worker(&self, args: &[&str]) -> Result<Process> {
        let handlers = self.handlers();
        let mut all: Vec<OsString> = ["--broker", self.nats.url(), "--handlers-path"]
            .map(Into::into)
            .into();
        all.push(handlers.into());
        if !args.contains(&"--lease") {
            all.extend(["--lease", "2s"].map(Into::into));
        }
        all.extend(args.iter().map(Into::into));
        Process::worker(all)
    }

    /// The directory of executable handlers.
    pub(crate) fn handlers(&self) -> PathBuf {
        self.dir.path().join("handlers")
    }

    /// Adds an executable handler.
    pub(crate) fn handler(&self, name: &str, script: &str) -> Result<()> {
        write_handler(&self.handlers(), name, script)
    }

    /// Adds the handler `mark`, which writes its payload into the ledger it gives and returns it.
    pub(crate) fn marking(&self) -> Result<PathBuf> {
        let ledger = self.dir.path().join("ledger");
        // One write, since several of them append at once.
        let script = format!(
            "payload=$(cat)\necho \"$payload\" >> {}\necho \"$payload\"",
            ledger.display()
        );
        self.handler("mark", &script)?;
        Ok(ledger)
    }

    /// The streams of the broker, as any client of NATS sees them.
    pub(crate) async fn jetstream(&self) -> Result<async_nats::jetstream::Context> {
        let nats = async_nats::connect(self.nats.url()).await?;
        Ok(async_nats::jetstream::new(nats))
    }

    /// Adds the three handlers of the original project.
    pub(crate) fn original_handlers(&self) -> Result<()> {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/handlers");
        for handler in fs::read_dir(&examples).context("examples/handlers")? {
            let from = handler?.path();
            let name = from.file_name().context("a handler has a name")?;
            fs::copy(&from, self.handlers().join(name))?;
        }
        Ok(())
    }

    /// A number that Postgres gives.
    pub(crate) fn count(&self, sql: &str) -> Result<i64> {
        let answer = self.postgres.execute(&self.store, sql)?;
        answer
            .trim()
            .parse()
            .with_context(|| format!("{sql}: {answer:?}"))
    }

    /// Waits until a number that Postgres gives is `wanted`.
    pub(crate) async fn counted(&self, sql: &str, wanted: i64, patience: Duration) -> Result<()> {
        eventually(patience, async || {
            let count = self.count(sql)?;
            ensure!(count == wanted, "{count}, not {wanted}: {sql}");
            Ok(())
        })
        .await
    }
}

/// Runs the command line to its end: its exit code, and what it printed to stdout and stderr.
pub(crate) async fn gf(args: &[&str]) -> Result<(i32, String, String)> {
    let mut process = Process::gf(args)?;
    let status = process.wait_exit(PATIENCE).await?;
    Ok((
        status.code().unwrap_or(-1),
        process.stdout(),
        process.stderr(),
    ))
}

/// Adds an executable handler to a directory.
pub(crate) fn write_handler(dir: &Path, name: &str, script: &str) -> Result<()> {
    let path = dir.join(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n"))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// What a gateway answered to a push.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Whether it says when to try again.
    pub(crate) retry_after: bool,
    pub(crate) body: Value,
    pub(crate) took: Duration,
}

/// A gateway as an HTTP client sees it.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    url: String,
}

impl Client {
    pub(crate) fn new(url: &str) -> Self {
        Self {
            http: reqwest::Client::new(),
            url: url.to_owned(),
        }
    }

    /// The answer to a POST, whatever its status.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<(u16, Value)> {
        let answer = self
            .http
            .post(format!("{}{path}", self.url))
            .json(body)
            .send()
            .await?;
        let status = answer.status().as_u16();
        Ok((
            status,
            serde_json::from_str(&answer.text().await?).unwrap_or_default(),
        ))
    }

    /// The answer to a GET, whatever its status.
    pub(crate) async fn get(&self, path: &str) -> Result<(u16, Value)> {
        let answer = self.http.get(format!("{}{path}", self.url)).send().await?;
        let status = answer.status().as_u16();
        Ok((
            status,
            serde_json::from_str(&answer.text().await?).unwrap_or_default(),
        ))
    }

    /// The answer to a push, whatever it is, with how long it took.
    pub(crate) async fn try_push(&self, task: &Value) -> Result<Answer> {
        let asked = Instant::now();
        let request = self.http.post(format!("{}/v1/tasks", self.url)).json(task);
        let answer = request.send().await?;
        let status = answer.status().as_u16();
        let retry_after = answer.headers().contains_key("retry-after");
        let body = serde_json::from_str(&answer.text().await?).unwrap_or_default();
        Ok(Answer {
            status,
            retry_after,
            body,
            took: asked.elapsed(),
        })
    }

    /// Waits until `/readyz` answers with this status and says this of a part (`store` or `broker`).
    pub(crate) async fn says_ready(
        &self,
        status: u16,
        part: &str,
        ok: bool,
        patience: Duration,
    ) -> Result<()> {
        eventually(patience, async || {
            let (answered, body) = self.get("/readyz").await?;
            ensure!(
                answered == status && body[part]["ok"] == ok,
                "{answered} {body}"
            );
            Ok(())
        })
        .await
    }

    /// Pushes a task; its id.
    pub(crate) async fn push(&self, task: Value) -> Result<String> {
        let (status, body) = self.post("/v1/tasks", &task).await?;
        ensure!(status == 202, "push: {status} {body}");
        Ok(body["id"].as_str().context("an id")?.to_owned())
    }

    /// Pushes, again and again with the same idempotency key, until it is accepted.
    pub(crate) async fn push_surely(&self, key: &str, task: &Value) -> Result<String> {
        let give_up = Instant::now() + PATIENCE * 3;
        loop {
            match self.push_with_key(key, task).await {
                Err(error) if Instant::now() > give_up => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                accepted => return accepted,
            }
        }
    }

    async fn push_with_key(&self, key: &str, task: &Value) -> Result<String> {
        let request = self
            .http
            .post(format!("{}/v1/tasks", self.url))
            .header("Idempotency-Key", key);
        let answer = request.json(task).send().await?;
        let status = answer.status();
        let body: Value = answer.json().await?;
        ensure!(status == 202, "push: {status} {body}");
        Ok(body["id"].as_str().context("an id")?.to_owned())
    }

    /// Pushes `count` tasks in batches of up to 500.
    pub(crate) async fn push_batch(
        &self,
        count: usize,
        task: impl Fn(usize) -> Value,
    ) -> Result<Vec<String>> {
        let tasks: Vec<Value> = (0..count).map(task).collect();
        let mut ids = Vec::with_capacity(count);
        for chunk in tasks.chunks(500) {
            let (status, body) = self
                .post("/v1/tasks/batch", &json!({ "tasks": chunk }))
                .await?;
            ensure!(status == 202, "batch: {status} {body}");
            let accepted = body["ids"].as_array().context("ids")?;
            ids.extend(
                accepted
                    .iter()
                    .filter_map(|id| id.as_str().map(str::to_owned)),
            );
        }
        ensure!(ids.len() == count, "{} ids for {count} tasks", ids.len());
        Ok(ids)
    }

    /// The task as it is.
    pub(crate) async fn task(&self, id: &str) -> Result<Value> {
        let (status, body) = self.get(&format!("/v1/tasks/{id}")).await?;
        ensure!(status == 200, "get: {status} {body}");
        Ok(body)
    }

    /// The task once it has finished.
    pub(crate) async fn finished(&self, id: &str) -> Result<Value> {
        eventually(PATIENCE, async || {
            let (status, body) = self.get(&format!("/v1/tasks/{id}?wait=5s")).await?;
            ensure!(
                status == 200 && body["finished_at"].is_string(),
                "{status} {body}"
            );
            Ok(body)
        })
        .await
    }

    /// Waits until the task is in `state`.
    pub(crate) async fn in_state(&self, id: &str, state: &str) -> Result<Value> {
        eventually(PATIENCE, async || {
            let task = self.task(id).await?;
            ensure!(task["state"] == state, "{task}");
            Ok(task)
        })
        .await
    }
}

/// The lines of a file that handlers append to: what was executed, outside both stores.
pub(crate) fn ledger(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}
