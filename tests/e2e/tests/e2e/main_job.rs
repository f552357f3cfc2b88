//! The main job: push anywhere, run somewhere, read the result from Postgres; one of each killed on the way.

use anyhow::{Context, Result, ensure};
use goflow_proto::client;
use goflow_proto::v1::{Content, PushTaskRequest, WaitResultRequest};
use serde_json::json;

use crate::client::Client;
use crate::cluster::{Cluster, PATIENCE};

const BATCH: usize = 4_000;
const ORIGINAL: usize = 100;

#[tokio::test]
async fn everything_pushed_is_finished_once_though_one_of_each_is_killed() -> Result<()> {
    let cluster = Cluster::start().await?;
    cluster.original_handlers()?;
    let mut first = cluster.gateway(&[])?;
    let second = cluster.gateway(&[])?;
    let mut doomed = cluster.worker(&["--num-workers", "8"])?;
    let _worker = cluster.worker(&["--num-workers", "8"])?;

    let here = Client::new(first.url());
    let there = Client::new(second.url());
    let echo = |n: usize| json!({"type": "echo", "payload": {"n": n}});
    here.push_batch(BATCH, echo).await?;
    doomed.kill()?;
    there.push_batch(BATCH, |n| echo(BATCH + n)).await?;
    first.kill()?;

    for n in 0..ORIGINAL {
        there
            .push(json!({"type": "doubler", "payload": {"N": n}}))
            .await?;
        there
            .push(json!({"type": "repeater", "payload": {"again": n}}))
            .await?;
        let fast = json!({"fixed": "100ms"});
        there
            .push(json!({"type": "errorer", "payload": {"N": n}, "backoff": fast}))
            .await?;
    }

    let echoed = 2 * BATCH as i64;
    let original = ORIGINAL as i64;
    cluster
        .counted(
            "select count(*) from goflow_tasks where state in ('succeeded', 'failed')",
            echoed + 3 * original,
            PATIENCE * 2,
        )
        .await?;
    for (wanted, sql) in [
        (
            echoed + 2 * original,
            "select count(*) from goflow_tasks where state = 'succeeded'",
        ),
        (
            echoed,
            "select count(distinct result->>'n') from goflow_tasks where type = 'echo' and result = payload",
        ),
        (
            original,
            "select count(distinct payload->>'N') from goflow_tasks
             where type = 'doubler' and result = to_jsonb(2 * (payload->>'N')::int)",
        ),
        (
            original,
            "select count(*) from goflow_tasks where type = 'repeater' and result = payload",
        ),
        (
            original,
            r#"select count(*) from goflow_tasks where type = 'errorer' and state = 'failed' and attempt = 3
               and jsonb_array_length(attempts) = 3 and error = 'error for payload: {"N":' || (payload->>'N') || '}'"#,
        ),
    ] {
        let count = cluster.count(sql)?;
        ensure!(count == wanted, "{count}, not {wanted}: {sql}");
    }
    Ok(())
}

#[tokio::test]
async fn a_task_is_pushed_through_one_gateway_and_awaited_on_another() -> Result<()> {
    let cluster = Cluster::start().await?;
    cluster.original_handlers()?;
    let first = cluster.gateway(&[])?;
    let second = cluster.gateway(&[])?;
    let _worker = cluster.worker(&[])?;

    let id = Client::new(first.url())
        .push(json!({"type": "doubler", "payload": {"N": 10}}))
        .await?;
    let task = Client::new(second.url()).finished(&id).await?;
    ensure!(
        task["state"] == "succeeded" && task["result"] == 20,
        "{task}"
    );
    ensure!(
        task["attempt"] == 1 && task["attempts"] == json!([]),
        "{task}"
    );

    let mut here = client::connect(first.url()).await?;
    let mut there = client::connect(second.url()).await?;
    let push = PushTaskRequest {
        r#type: "doubler".into(),
        payload: Some(Content {
            data: br#"{"N": 21}"#.to_vec().into(),
            content_type: "application/json".into(),
        }),
        ..Default::default()
    };
    let id = here.push_task(push).await?.into_inner().id;
    let timeout = Some(prost_types::Duration {
        seconds: 30,
        nanos: 0,
    });
    let result = there
        .wait_result(WaitResultRequest { id, timeout })
        .await?
        .into_inner();
    let content = result.result.context("a result")?;
    ensure!(content.data == "42", "{content:?}");
    Ok(())
}
