//! The whole way of a task, with workers in processes of their own.

use std::time::Instant;

use anyhow::Result;
use goflow::engine::Record;

use super::{Deployment, push};
use crate::args::Plan;
use crate::figure::Run;
use crate::rig::Rig;
use crate::usage::Usage;

/// Pushing in a window and working at once, until the server has taken every ack.
///
/// # Errors
/// What a server says; a wrong or missing result.
pub async fn steady(rig: &Rig, plan: &Plan, record: Record) -> Result<Run> {
    let mut deployment = Deployment::start(rig, plan, record).await?;
    deployment.work().await?;
    let (usage, begun) = (Usage::since_now(deployment.processes()), Instant::now());
    push::windowed(&deployment.flow, plan).await?;
    deployment.watched.drained(plan.tasks).await?;
    let run = Run::new(plan.tasks, begun.elapsed(), &usage);
    deployment.check_and_close().await?;
    Ok(run)
}

/// Working off what was pushed before, from the moment the workers are let go until the server has taken every ack.
///
/// # Errors
/// As [`steady`].
pub async fn drain(rig: &Rig, plan: &Plan) -> Result<Run> {
    let mut deployment = Deployment::start(rig, plan, Record::Full).await?;
    push::batched(&deployment.flow, plan).await?;
    deployment.watched.filled(plan.tasks).await?;
    deployment.start_workers().await?;
    let (usage, begun) = (Usage::since_now(deployment.processes()), Instant::now());
    deployment.go().await?;
    deployment.watched.drained(plan.tasks).await?;
    let run = Run::new(plan.tasks, begun.elapsed(), &usage);
    deployment.check_and_close().await?;
    Ok(run)
}
