//! Callers that push one by one, each waiting for its commit: what arrives during a commit goes into the next.

use std::time::Instant;

use anyhow::{Context, Result, bail};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::pipeline::{Course, Pipeline};
use super::produce;
use super::tables::{Row, Tables};
use crate::args::Plan;
use crate::figure::Run;
use crate::rig::Rig;
use crate::usage::Usage;

type Request = (Row, oneshot::Sender<()>);

/// The first two steps, until the last caller has its answer.
///
/// # Errors
/// What a server says; rows that are missing.
pub async fn push(rig: &Rig, plan: &Plan) -> Result<Run> {
    let mut pipeline = Pipeline::new(rig, plan, Course::Full).await?;
    let watched = pipeline.watched().await?;
    let (committed, to_publish) = mpsc::channel(plan.tasks);
    let publisher = rig.jetstream().await?;
    pipeline
        .loops
        .spawn(produce::publish(publisher, to_publish));
    let (requests, to_commit) = mpsc::channel(plan.callers.max(1));
    let tables = pipeline.tables().await?;
    pipeline.loops.spawn(commit(tables, to_commit, committed));

    let (usage, begun) = (Usage::since_now(rig.servers()), Instant::now());
    let mut callers = JoinSet::new();
    for caller in 0..plan.callers {
        let (requests, plan) = (requests.clone(), *plan);
        callers.spawn(async move {
            for number in (caller..plan.tasks).step_by(plan.callers) {
                let (reply, answer) = oneshot::channel();
                let row = (Uuid::now_v7(), plan.payload().numbered(number));
                requests.send((row, reply)).await?;
                answer.await.context("no answer to a push")?;
            }
            anyhow::Ok(())
        });
    }
    drop(requests);
    let answered = async {
        while let Some(caller) = callers.join_next().await {
            caller??;
        }
        Ok(())
    };
    pipeline.wait(answered).await?;
    let run = Run::new(plan.tasks, begun.elapsed(), &usage);
    pipeline.wait(watched.filled(plan.tasks)).await?;
    let rows = pipeline.database.execute("select count(*) from live")?;
    if rows != plan.tasks.to_string() {
        bail!("{rows} rows instead of {}", plan.tasks);
    }
    Ok(run)
}

async fn commit(
    mut tables: Tables,
    mut requests: mpsc::Receiver<Request>,
    committed: mpsc::Sender<Vec<Row>>,
) -> Result<()> {
    let mut group = Vec::new();
    while requests.recv_many(&mut group, produce::ROWS).await > 0 {
        let (rows, replies): (Vec<Row>, Vec<_>) = group.drain(..).unzip();
        tables.push(&rows).await?;
        for reply in replies {
            // A caller that is gone has seen another one fail.
            _ = reply.send(());
        }
        committed.send(rows).await?;
    }
    Ok(())
}
