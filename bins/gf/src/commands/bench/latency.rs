//! How long it takes from a push to its result.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::task::JoinSet;

use super::load::Load;

/// Milliseconds from when a task was to be pushed to when its result was there, at the caller. Tasks are pushed by the
/// clock, whatever became of those before: a slow answer makes those after it late, and that is counted.
#[derive(Debug)]
pub(super) struct Latency {
    pub(super) tasks: usize,
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
}

pub(super) async fn measure(load: &Arc<Load>) -> Result<Latency> {
    let gap = Duration::from_secs(1) / load.bench.rate;
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for number in 0.. {
        let due = begun + gap * number;
        if due >= begun + load.bench.measured_for && number > 0 {
            break;
        }
        tokio::time::sleep_until(due.into()).await;
        let load = load.clone();
        tasks.spawn(async move {
            let id = load.push(number).await?;
            let task = load.client.wait(&id, load.bench.timeout).await?;
            load.check(&task, number)?;
            Ok::<_, anyhow::Error>(due.elapsed())
        });
    }
    let mut times = Vec::with_capacity(tasks.len());
    while let Some(time) = tasks.join_next().await {
        times.push(time??);
    }
    times.sort_unstable();
    Ok(Latency {
        tasks: times.len(),
        p50: percentile(&times, 0.5),
        p99: percentile(&times, 0.99),
        p999: percentile(&times, 0.999),
    })
}

/// The time that this share of all times does not exceed, in milliseconds; of none, nothing.
fn percentile(sorted: &[Duration], share: f64) -> f64 {
    let at = (sorted.len() as f64 * share).ceil() as usize;
    sorted
        .get(at.saturating_sub(1))
        .map_or(0.0, |time| time.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let times: Vec<_> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(percentile(&times, 0.5), 50.0);
        assert_eq!(percentile(&times, 0.99), 99.0);
        assert_eq!(percentile(&times, 0.999), 100.0);
        assert_eq!(percentile(&times[..1], 0.5), 1.0);
        assert_eq!(percentile(&[], 0.5), 0.0);
    }
}
