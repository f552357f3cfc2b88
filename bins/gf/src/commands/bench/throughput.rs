//! How many tasks a second are taken, and how many are worked off.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use goflow_core::record::MAX_PAGE;
use reqwest::Method;
use time::OffsetDateTime;
use tokio::task::JoinSet;

use super::load::Load;
use crate::client::parse;
use crate::failure::Failure;
use crate::task::{Page, Task};

/// Between two looks at tasks that are not finished.
const PAUSE: Duration = Duration::from_millis(200);

/// Tasks a second.
#[derive(Debug)]
pub(super) struct Throughput {
    /// Acknowledged to whoever pushed.
    pub(super) pushed: f64,
    /// From the creation of the first to the end of the last, by the clocks of the deployment.
    pub(super) finished: f64,
}

/// Pushes all tasks, `batch` at once, from all callers; waits for their end and checks every result.
pub(super) async fn measure(load: &Arc<Load>, batch: u32) -> Result<Throughput> {
    let begun = Instant::now();
    let ids = push_all(load, batch).await?;
    let pushed = f64::from(load.bench.tasks) / begun.elapsed().as_secs_f64();
    let seconds = finish_all(load, ids).await?;
    Ok(Throughput {
        pushed,
        finished: f64::from(load.bench.tasks) / seconds,
    })
}

/// The number of each task by its id.
async fn push_all(load: &Arc<Load>, batch: u32) -> Result<HashMap<String, u32>> {
    let next = Arc::new(AtomicU32::new(0));
    let mut callers = JoinSet::new();
    for _ in 0..load.bench.callers {
        let (load, next) = (load.clone(), next.clone());
        callers.spawn(async move {
            let mut ids = Vec::new();
            loop {
                let first = next.fetch_add(batch, Ordering::Relaxed);
                if first >= load.bench.tasks {
                    return Ok::<_, anyhow::Error>(ids);
                }
                let numbers = first..load.bench.tasks.min(first + batch);
                let pushed = match batch {
                    1 => vec![load.push(first).await?],
                    _ => load.push_batch(numbers.clone()).await?,
                };
                ids.extend(pushed.into_iter().zip(numbers));
            }
        });
    }
    let mut all = HashMap::new();
    while let Some(ids) = callers.join_next().await {
        all.extend(ids??);
    }
    Ok(all)
}

/// Waits until all have ended, and checks them; how many seconds there were from the first to the last.
async fn finish_all(load: &Load, mut open: HashMap<String, u32>) -> Result<f64> {
    let give_up = Instant::now() + load.bench.timeout;
    let total = open.len();
    let (mut first, mut last): (Option<OffsetDateTime>, Option<OffsetDateTime>) = (None, None);
    loop {
        let mut query = vec![
            ("type", load.bench.task_type.clone()),
            ("limit", MAX_PAGE.to_string()),
        ];
        // Newest first: what was pushed before this run comes when all of these have been seen.
        let mut seen = 0;
        while seen < total {
            let request = load.client.request(Method::GET, "v1/tasks")?.query(&query);
            let page: Page = parse(&load.client.send(request).await?)?;
            seen += page.tasks.len();
            for task in &page.tasks {
                let task: Task = parse(task.get())?;
                if !task.state.is_terminal() {
                    continue;
                }
                let Some(number) = open.remove(&task.id) else {
                    continue;
                };
                load.check(&task, number)?;
                first = Some(first.map_or(task.created_at, |first| first.min(task.created_at)));
                last = last.max(task.finished_at);
            }
            match page.next_cursor {
                Some(cursor) => {
                    query.retain(|(name, _)| *name != "cursor");
                    query.push(("cursor", cursor));
                }
                None => break,
            }
        }
        if open.is_empty() {
            break;
        }
        if Instant::now() >= give_up {
            return Err(Failure::TimedOut(format!(
                "{} of {total} tasks were not finished after {}; does a worker serve {:?} in queue {:?}?",
                open.len(),
                humantime::format_duration(load.bench.timeout),
                load.bench.task_type,
                load.bench.queue
            ))
            .into());
        }
        tokio::time::sleep(PAUSE).await;
    }
    match (first, last) {
        (Some(first), Some(last)) if last > first => Ok((last - first).as_seconds_f64()),
        _ => bail!("the clocks of gateway and worker differ too much to measure anything"),
    }
}
