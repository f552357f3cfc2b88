//! Pushing, with nobody at work.

use std::time::Instant;

use anyhow::Result;
use futures_util::{StreamExt, TryStreamExt, stream};
use goflow::GoFlow;
use goflow::engine::Record;
use tokio::task::JoinSet;

use super::Deployment;
use crate::args::Plan;
use crate::figure::Run;
use crate::rig::Rig;
use crate::usage::Usage;

/// Pushes all tasks one by one, so many at once that there is always a window of them under way.
pub(crate) async fn windowed(flow: &GoFlow, plan: &Plan) -> Result<()> {
    let push = |number| async move {
        flow.push(plan.payload().task(number)?).await?;
        anyhow::Ok(())
    };
    let pushes = stream::iter((0..plan.tasks).map(push));
    pushes.buffer_unordered(plan.window).try_collect().await
}

/// Pushes all tasks in batches.
pub(crate) async fn batched(flow: &GoFlow, plan: &Plan) -> Result<()> {
    let push = |first: usize| async move {
        let numbers = first..plan.tasks.min(first + plan.batch);
        let tasks = numbers.map(|number| plan.payload().task(number));
        flow.push_many(tasks.collect::<Result<_>>()?).await?;
        anyhow::Ok(())
    };
    let pushes = stream::iter((0..plan.tasks).step_by(plan.batch).map(push));
    pushes.buffer_unordered(plan.batches).try_collect().await
}

/// Bulk pushes, until the last is committed.
///
/// # Errors
/// What a server says; rows that are missing.
pub async fn bulk(rig: &Rig, plan: &Plan) -> Result<Run> {
    let deployment = Deployment::start(rig, plan, Record::Full).await?;
    let (usage, begun) = (Usage::since_now(deployment.processes()), Instant::now());
    batched(&deployment.flow, plan).await?;
    let run = Run::new(plan.tasks, begun.elapsed(), &usage);
    deployment.check_waiting_and_close().await?;
    Ok(run)
}

/// Callers that push one by one, until the last has its answer.
///
/// # Errors
/// As [`bulk`].
pub async fn callers(rig: &Rig, plan: &Plan) -> Result<Run> {
    let deployment = Deployment::start(rig, plan, Record::Full).await?;
    let (usage, begun) = (Usage::since_now(deployment.processes()), Instant::now());
    let mut callers = JoinSet::new();
    for caller in 0..plan.callers {
        let (flow, plan) = (deployment.flow.clone(), *plan);
        callers.spawn(async move {
            for number in (caller..plan.tasks).step_by(plan.callers) {
                flow.push(plan.payload().task(number)?).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(caller) = callers.join_next().await {
        caller??;
    }
    let run = Run::new(plan.tasks, begun.elapsed(), &usage);
    deployment.check_waiting_and_close().await?;
    Ok(run)
}
