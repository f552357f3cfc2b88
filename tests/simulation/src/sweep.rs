//! Runs many seeds, on all cores.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use goflow_core::faults::Bug;

use crate::plan::Plan;
use crate::report::Report;
use crate::run::run;

/// What came of a sweep.
#[derive(Debug, Default)]
pub struct Swept {
    /// Seeds that ran.
    pub seeds: u64,
    /// Tasks in them.
    pub tasks: u64,
    /// The first that broke an invariant, by its seed.
    pub broken: Option<Report>,
    /// What was wrong with the simulation itself.
    pub error: Option<anyhow::Error>,
}

/// Runs seeds from `first` on, `count` of them at most, until one breaks an invariant.
pub fn sweep(first: u64, count: u64, bugs: &[Bug]) -> Swept {
    let next = AtomicU64::new(first);
    let swept = Mutex::new(Swept::default());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed - first >= count {
                return;
            }
            let plan = Plan::of(seed);
            let result = run(&plan, bugs);
            let mut swept = swept.lock().unwrap_or_else(PoisonError::into_inner);
            swept.seeds += 1;
            swept.tasks += plan.tasks.len() as u64;
            let broken = match result {
                Ok(report) => report.violation.is_some().then_some(report),
                Err(error) => {
                    swept
                        .error
                        .get_or_insert(error.context(format!("seed {seed}")));
                    next.store(first + count, Ordering::Relaxed);
                    return;
                }
            };
            let Some(broken) = broken else { continue };
            next.store(first + count, Ordering::Relaxed);
            if swept
                .broken
                .as_ref()
                .is_none_or(|other| broken.plan.seed < other.plan.seed)
            {
                swept.broken = Some(broken);
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, |n| n.get());
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    swept.into_inner().unwrap_or_else(PoisonError::into_inner)
}
