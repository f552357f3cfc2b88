//! Local mode: everything in this process, results in memory.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use goflow::{GoFlow, HandlerError, Raw, State, TaskId};

use crate::args::Plan;
use crate::bare::channel::{WINDOW, WORKERS};
use crate::figure::Run;
use crate::payload::TASK_TYPE;
use crate::usage::Usage;

const PATIENCE: Duration = Duration::from_secs(30);

async fn echo(payload: Raw) -> Result<Raw, HandlerError> {
    Ok(payload)
}

/// Pushes tasks and waits for each result.
///
/// # Errors
/// A wrong result.
pub async fn run(plan: &Plan) -> Result<Run> {
    let flow = GoFlow::local()
        .num_workers(WORKERS)
        .handler(TASK_TYPE, echo)
        .build()?;
    flow.start().await?;
    let (usage, begun) = (Usage::since_now([]), Instant::now());
    let mut waiting: VecDeque<(usize, TaskId)> = VecDeque::with_capacity(WINDOW);
    for number in 0..plan.tasks {
        if waiting.len() == WINDOW
            && let Some((number, id)) = waiting.pop_front()
        {
            check(&flow, plan, number, id).await?;
        }
        let id = flow.push(plan.payload().task(number)?).await?;
        waiting.push_back((number, id));
    }
    for (number, id) in waiting {
        check(&flow, plan, number, id).await?;
    }
    let run = Run::new(plan.tasks, begun.elapsed(), &usage);
    flow.close().await?;
    Ok(run)
}

async fn check(flow: &GoFlow, plan: &Plan, number: usize, id: TaskId) -> Result<()> {
    let result = flow.wait(id, PATIENCE).await?;
    let right = result
        .result
        .as_ref()
        .and_then(|content| plan.payload().number(&content.bytes));
    if result.state != State::Succeeded || right != Some(number) {
        bail!("a wrong result of task {number}: {result:?}");
    }
    Ok(())
}
