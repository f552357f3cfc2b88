//! The time from a push to its result, readable elsewhere.
//!
//! The load is open: tasks are sent at their times, whatever became of those before. The time of each counts from when
//! it **should** have been sent, so that a stall is charged to all whom it delays, and not to one.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use goflow::client::{client, v1};
use goflow::engine::Record;
use goflow::{State, TaskId};
use serde::Serialize;
use time::OffsetDateTime;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::args::Plan;
use crate::figure::load_average;
use crate::payload::Payload;
use crate::product::{Deployment, Gateways, engine, request};
use crate::rig::Rig;
use crate::worker;

const PATIENCE: Duration = Duration::from_secs(20);

/// Tasks that are sent before any is measured: connections are made and plans prepared.
const WARM_UP: u32 = 200;

/// How long tasks took, in milliseconds.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Latency {
    /// What was measured.
    pub(crate) case: &'static str,
    /// Tasks a second.
    pub(crate) rate: u32,
    /// How many were measured, each checked.
    pub(crate) tasks: usize,
    /// Half took no longer.
    pub(crate) p50_ms: f64,
    /// 99 in a hundred took no longer.
    pub(crate) p99_ms: f64,
    /// 999 in a thousand took no longer.
    pub(crate) p999_ms: f64,
    /// None took longer.
    pub(crate) max_ms: f64,
    /// The medians of the parts, where they are known.
    pub(crate) parts: Option<Parts>,
    /// Processes that wanted to run in the last minute.
    pub(crate) load_average: f64,
}

/// The parts of a task's way, in milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Parts {
    /// Until the push was answered: its row is committed.
    pub(crate) pushed_ms: f64,
    /// From there until the handler was called.
    pub(crate) started_ms: f64,
    /// From its return until the result was read: its outcome is committed.
    pub(crate) read_ms: f64,
}

/// The way of one task.
struct Way {
    took: Duration,
    parts: Option<[Duration; 3]>,
}

/// What takes a share of these no longer, in milliseconds; they are sorted.
fn share_ms(sorted: &[Duration], share: f64) -> f64 {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    let found = sorted.get(rank.saturating_sub(1)).or(sorted.last());
    found.map_or(f64::NAN, Duration::as_secs_f64) * 1e3
}

impl Latency {
    fn new(case: &'static str, rate: u32, ways: &[Way]) -> Result<Self> {
        let mut took: Vec<_> = ways.iter().map(|way| way.took).collect();
        anyhow::ensure!(!took.is_empty(), "nothing was measured");
        took.sort_unstable();
        let median = |part: usize| {
            let mut took: Vec<_> = ways
                .iter()
                .filter_map(|way| Some(way.parts?[part]))
                .collect();
            took.sort_unstable();
            share_ms(&took, 0.5)
        };
        let known = ways.iter().any(|way| way.parts.is_some());
        Ok(Self {
            case,
            rate,
            tasks: took.len(),
            p50_ms: share_ms(&took, 0.5),
            p99_ms: share_ms(&took, 0.99),
            p999_ms: share_ms(&took, 0.999),
            max_ms: share_ms(&took, 1.0),
            parts: known.then(|| Parts {
                pushed_ms: median(0),
                started_ms: median(1),
                read_ms: median(2),
            }),
            load_average: load_average(),
        })
    }
}

/// Pushes to one engine, waits at another, both here; the worker is a process of its own.
///
/// # Errors
/// What a server says; a wrong result.
pub(crate) async fn engines(
    rig: &Rig,
    plan: &Plan,
    rate: u32,
    duration: Duration,
) -> Result<Latency> {
    let mut deployment = Deployment::start(rig, plan, Record::Full).await?;
    deployment.work().await?;
    let other = engine(rig, &deployment.database, Record::Full).await?;
    let (here, there, payload) = (deployment.flow.clone(), other.clone(), plan.payload());
    let ways = open_load(rate, duration, move |number| {
        let (here, there) = (here.clone(), there.clone());
        async move {
            let began = OffsetDateTime::now_utc();
            let id = here.push(payload.task(number)?).await?;
            let pushed = OffsetDateTime::now_utc();
            let record = there.wait_record(id, PATIENCE).await?;
            let read = OffsetDateTime::now_utc();
            let (started, finished) = record
                .started_at
                .zip(record.finished_at)
                .context("a task without its times")?;
            let bytes = record
                .result
                .map(|content| content.bytes)
                .unwrap_or_default();
            check(payload, number, record.state == State::Succeeded, &bytes)?;
            // A task may start before its pusher hears of it.
            let parts = [pushed - began, started - pushed, read - finished];
            Ok(Some(parts.map(|part| part.try_into().unwrap_or_default())))
        }
    })
    .await?;
    other.close().await?;
    deployment.close().await?;
    Latency::new("push to one engine, wait at another", rate, &ways)
}

/// Pushes to one gateway, waits at another, by RPC.
///
/// # Errors
/// As [`engines`].
pub(crate) async fn gateways(
    rig: &Rig,
    plan: &Plan,
    rate: u32,
    duration: Duration,
) -> Result<Latency> {
    let gateways = Gateways::start(rig, 2).await?;
    let mut worker = worker::Process::start(rig.nats_url(), plan.slots).await?;
    worker.go().await?;
    let here = client::connect(gateways.processes[0].url()).await?;
    let there = client::connect(gateways.processes[1].url()).await?;
    let plan = *plan;
    let ways = open_load(rate, duration, move |number| {
        let (mut here, mut there) = (here.clone(), there.clone());
        async move {
            let id = here
                .push_task(request(&plan, number))
                .await?
                .into_inner()
                .id;
            id.parse::<TaskId>().context("the id of a task")?;
            let wait = v1::WaitResultRequest { id, timeout: None };
            let result = there.wait_result(wait).await?.into_inner();
            let succeeded = result.state() == v1::State::Succeeded;
            let bytes = result
                .result
                .map(|content| content.data)
                .unwrap_or_default();
            check(plan.payload(), number, succeeded, &bytes)?;
            Ok(None)
        }
    })
    .await?;
    worker.stop().await?;
    Latency::new("push to one gateway, wait at another", rate, &ways)
}

fn check(payload: Payload, number: usize, succeeded: bool, result: &[u8]) -> Result<()> {
    if !succeeded || payload.number(result) != Some(number) {
        bail!("a wrong result of task {number}");
    }
    Ok(())
}

/// Sends tasks at a rate, and gives how long each took from the time at which it was to be sent. `task` gives the parts
/// of its way if it knows them.
async fn open_load<F>(rate: u32, duration: Duration, task: impl Fn(usize) -> F) -> Result<Vec<Way>>
where
    F: Future<Output = Result<Option<[Duration; 3]>>> + Send + 'static,
{
    let total = WARM_UP as usize + (f64::from(rate) * duration.as_secs_f64()) as usize;
    let mut times = pacemaker(rate, total);
    let mut sent = JoinSet::new();
    let mut ways = Vec::with_capacity(total);
    loop {
        tokio::select! {
            biased;
            Some(ended) = sent.join_next(), if !sent.is_empty() => ways.extend(ended??),
            time = times.recv() => {
                let Some((number, intended)) = time else { break };
                let done = task(number);
                sent.spawn(async move {
                    let parts = done.await?;
                    let took = intended.elapsed();
                    let measured = number >= WARM_UP as usize;
                    anyhow::Ok(measured.then_some(Way { took, parts }))
                });
            }
        }
    }
    while let Some(ended) = sent.join_next().await {
        ways.extend(ended??);
    }
    Ok(ways)
}

/// Says when it is time for each task: from a thread, which wakes more precisely than the timer of a runtime.
fn pacemaker(rate: u32, total: usize) -> mpsc::UnboundedReceiver<(usize, Instant)> {
    let (sender, times) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        let begun = Instant::now();
        for number in 0..total {
            let intended = begun + Duration::from_secs(1).mul_f64(number as f64 / f64::from(rate));
            std::thread::sleep(intended.saturating_duration_since(Instant::now()));
            if sender.send((number, intended)).is_err() {
                return;
            }
        }
    });
    times
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_off() {
        let took = (1..=1_000).map(Duration::from_millis);
        let way = |took| Way {
            took,
            parts: Some([took, took * 2, took * 3]),
        };
        let ways: Vec<_> = took.map(way).collect();
        let latency = Latency::new("", 1, &ways).unwrap();
        let read = (
            latency.p50_ms,
            latency.p99_ms,
            latency.p999_ms,
            latency.max_ms,
        );
        assert_eq!(read, (500.0, 990.0, 999.0, 1_000.0));
        let parts = latency.parts.unwrap();
        let read = (parts.pushed_ms, parts.started_ms, parts.read_ms);
        assert_eq!(read, (500.0, 1_000.0, 1_500.0));
    }

    /// One task that takes long delays nobody else's time, and everybody's is counted from when it was due.
    #[tokio::test]
    async fn a_stall_is_charged_to_all_whom_it_delays() {
        let ways = open_load(1_000, Duration::from_millis(100), |number| async move {
            if number == WARM_UP as usize {
                std::thread::sleep(Duration::from_millis(50));
            }
            Ok(None)
        })
        .await
        .unwrap();
        assert_eq!(ways.len(), 100);
        let late = ways
            .iter()
            .filter(|way| way.took > Duration::from_millis(10));
        assert!(late.count() >= 30);
    }
}
