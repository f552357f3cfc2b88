//! Bulk pushes through a gateway process.

use std::time::Instant;

use anyhow::{Context, Result, bail};
use futures_util::{StreamExt, TryStreamExt, stream};
use goflow::client;
use goflow::client::v1::{Content, PushTaskRequest, PushTasksRequest};
use serde_json::json;

use super::Gateways;
use super::deployment::check_rows;
use crate::args::Plan;
use crate::figure::Run;
use crate::payload::TASK_TYPE;
use crate::rig::Rig;
use crate::usage::Usage;

/// A task as the RPC takes it.
pub(crate) fn request(plan: &Plan, number: usize) -> PushTaskRequest {
    PushTaskRequest {
        r#type: TASK_TYPE.to_owned(),
        payload: Some(Content {
            data: plan.payload().numbered(number),
            content_type: goflow::content::BINARY.to_owned(),
        }),
        ..Default::default()
    }
}

/// Bulk pushes by RPC, until the last is committed.
///
/// # Errors
/// What a server says; rows that are missing.
pub async fn rpc(rig: &Rig, plan: &Plan) -> Result<Run> {
    pushes(rig, plan, async |url: String| push_by_rpc(&url, plan).await).await
}

/// Pushes all tasks in batches to the gateway at `url`.
pub(crate) async fn push_by_rpc(url: &str, plan: &Plan) -> Result<()> {
    let client = client::client::connect(url).await?;
    let push = |first: usize| {
        let mut client = client.clone();
        async move {
            let numbers = first..plan.tasks.min(first + plan.batch);
            let tasks = numbers.map(|number| request(plan, number)).collect();
            client.push_tasks(PushTasksRequest { tasks }).await?;
            anyhow::Ok(())
        }
    };
    let pushes = stream::iter((0..plan.tasks).step_by(plan.batch).map(push));
    pushes.buffer_unordered(plan.batches).try_collect().await
}

/// Bulk pushes by HTTP, until the last is committed. The payloads are texts.
///
/// # Errors
/// As [`rpc`].
pub async fn http(rig: &Rig, plan: &Plan) -> Result<Run> {
    pushes(rig, plan, async |url: String| {
        let client = reqwest::Client::new();
        let url = format!("{url}/v1/tasks/batch");
        let push = |first: usize| {
            let post = client.post(&url);
            async move {
                let numbers = first..plan.tasks.min(first + plan.batch);
                let tasks: Vec<_> = numbers.map(|number| json_task(plan, number)).collect();
                let answer = post.json(&json!({ "tasks": tasks })).send().await?;
                if !answer.status().is_success() {
                    bail!("{}: {}", answer.status(), answer.text().await?);
                }
                // The connection is used again once the answer is read.
                answer.bytes().await.context("read the ids")?;
                anyhow::Ok(())
            }
        };
        let pushes = stream::iter((0..plan.tasks).step_by(plan.batch).map(push));
        pushes.buffer_unordered(plan.batches).try_collect().await
    })
    .await
}

/// A task as HTTP takes it.
fn json_task(plan: &Plan, number: usize) -> serde_json::Value {
    let payload = plan.payload().numbered(number);
    json!({ "type": TASK_TYPE, "payload": String::from_utf8_lossy(&payload), "content_type": goflow::content::TEXT })
}

async fn pushes(
    rig: &Rig,
    plan: &Plan,
    push: impl AsyncFnOnce(String) -> Result<()>,
) -> Result<Run> {
    let gateways = Gateways::start(rig, 1).await?;
    let gateway = &gateways.processes[0];
    let processes = rig
        .servers()
        .into_iter()
        .chain([("gateway", gateway.pid())]);
    let (usage, begun) = (Usage::since_now(processes), Instant::now());
    push(gateway.url().to_owned()).await?;
    let run = Run::new(plan.tasks, begun.elapsed(), &usage);
    gateways.watched.filled(plan.tasks).await?;
    check_rows(&gateways.database, plan)?;
    drop(gateways.processes);
    Ok(run)
}
