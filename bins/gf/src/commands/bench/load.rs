//! What is pushed, and whether the right thing came of it.

use anyhow::{Context, Result, bail};
use goflow_core::State;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::args::Bench;
use crate::client::{Client, parse};
use crate::failure::Failure;
use crate::task::Task;

/// Tasks of one shape, numbered.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) client: Client,
    pub(super) bench: Bench,
    padding: String,
}

#[derive(Deserialize)]
struct Accepted {
    ids: Vec<String>,
}

#[derive(Deserialize)]
struct AcceptedOne {
    id: String,
}

impl Load {
    pub(super) fn new(client: Client, bench: Bench) -> Self {
        let padding = "x".repeat(bench.payload as usize);
        Self {
            client,
            bench,
            padding,
        }
    }

    fn task(&self, number: u32) -> Value {
        json!({
            "type": self.bench.task_type, "queue": self.bench.queue,
            "payload": {"number": number, "padding": self.padding},
        })
    }

    /// Pushes a task; its id.
    pub(super) async fn push(&self, number: u32) -> Result<String> {
        let request = self.client.request(Method::POST, "v1/tasks")?;
        let text = self.client.send(request.json(&self.task(number))).await?;
        Ok(parse::<AcceptedOne>(&text)?.id)
    }

    /// Pushes tasks together; their ids.
    pub(super) async fn push_batch(&self, numbers: std::ops::Range<u32>) -> Result<Vec<String>> {
        let tasks: Vec<Value> = numbers.map(|number| self.task(number)).collect();
        let count = tasks.len();
        let request = self.client.request(Method::POST, "v1/tasks/batch")?;
        let text = self
            .client
            .send(request.json(&json!({ "tasks": tasks })))
            .await?;
        let ids = parse::<Accepted>(&text)?.ids;
        if ids.len() != count {
            bail!("the gateway gave {} ids for {count} tasks", ids.len());
        }
        Ok(ids)
    }

    /// Refuses a task that did not end as it should.
    pub(super) fn check(&self, task: &Task, number: u32) -> Result<()> {
        let id = &task.id;
        if task.state != State::Succeeded {
            let why = task.error.as_deref().unwrap_or("no error was recorded");
            return Err(Failure::Refused {
                code: "bench".to_owned(),
                detail: format!("task {id} ended as {}: {why}", task.state),
            }
            .into());
        }
        let result = task.result.as_ref().context("a task without a result")?;
        let result: Value = serde_json::from_str(result.get()).unwrap_or_default();
        if result != self.task(number)["payload"] {
            bail!(
                "task {id} returned something else than its payload: {:?} has to be a type whose handler returns what \
                 it gets",
                self.bench.task_type
            );
        }
        Ok(())
    }
}
