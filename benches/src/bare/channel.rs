//! Local mode's own limit: a channel to each of a few workers, and an answer for each task.

use std::collections::VecDeque;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::args::Plan;
use crate::figure::Run;
use crate::usage::Usage;

/// Tasks that have no answer yet.
pub const WINDOW: usize = 256;

/// Workers.
pub const WORKERS: usize = 4;

/// Tasks that wait for a worker.
const CAPACITY: usize = 1_024;

type Job = (Bytes, oneshot::Sender<Bytes>);

/// Sends tasks to workers in turn and waits for each answer.
///
/// # Errors
/// A wrong answer.
pub async fn run(plan: &Plan) -> Result<Run> {
    let mut workers = JoinSet::new();
    let senders: Vec<mpsc::Sender<Job>> = (0..WORKERS)
        .map(|_| {
            let (sender, mut jobs) = mpsc::channel::<Job>(CAPACITY);
            workers.spawn(async move {
                while let Some((payload, reply)) = jobs.recv().await {
                    drop(reply.send(payload));
                }
            });
            sender
        })
        .collect();
    let (usage, begun) = (Usage::since_now([]), Instant::now());
    let mut waiting: VecDeque<(usize, oneshot::Receiver<Bytes>)> = VecDeque::with_capacity(WINDOW);
    for number in 0..plan.tasks {
        if waiting.len() == WINDOW
            && let Some((number, answer)) = waiting.pop_front()
        {
            check(plan, number, answer).await?;
        }
        let (reply, answer) = oneshot::channel();
        let job = (plan.payload().numbered(number), reply);
        senders[number % WORKERS].send(job).await?;
        waiting.push_back((number, answer));
    }
    for (number, answer) in waiting {
        check(plan, number, answer).await?;
    }
    Ok(Run::new(plan.tasks, begun.elapsed(), &usage))
}

async fn check(plan: &Plan, number: usize, answer: oneshot::Receiver<Bytes>) -> Result<()> {
    let answer = answer.await.context("a worker did not answer")?;
    if plan.payload().number(&answer) != Some(number) {
        bail!("a wrong answer for task {number}");
    }
    Ok(())
}
