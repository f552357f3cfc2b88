//! A gateway as an HTTP client sees it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use goflow_test_servers::eventually;
use serde_json::{Value, json};

use crate::cluster::PATIENCE;

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

    /// Asks for something to be done to a task; the task.
    pub(crate) async fn order(&self, id: &str, what: &str) -> Result<Value> {
        let (status, body) = self
            .post(&format!("/v1/tasks/{id}/{what}"), &json!({}))
            .await?;
        ensure!(status == 200, "{what}: {status} {body}");
        Ok(body)
    }

    /// The live workers.
    pub(crate) async fn workers(&self) -> Result<Vec<Value>> {
        let (_, body) = self.get("/v1/workers").await?;
        Ok(body["workers"].as_array().context("workers")?.clone())
    }

    /// What is said of a queue.
    pub(crate) async fn queue(&self, name: &str) -> Result<Value> {
        let (_, body) = self.get("/v1/queues").await?;
        let queues = body["queues"].as_array().context("queues")?;
        let found = queues.iter().find(|queue| queue["name"] == name);
        Ok(found.with_context(|| format!("{name} in {body}"))?.clone())
    }
}
