//! Memory and file descriptors of processes, as the system tells them.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde::Serialize;

use crate::clock::{self, Micros};
use crate::system::{System, lock};

/// How often processes are looked at.
const EVERY: Duration = Duration::from_secs(1);

/// What a process used at some time.
#[derive(Debug, Clone, Serialize)]
pub struct Sample {
    /// When.
    pub at: Micros,
    /// Whose process.
    pub name: Arc<str>,
    /// Its id.
    pub pid: u32,
    /// Its memory in KiB: what is resident.
    pub memory: u64,
    /// Its open file descriptors.
    pub descriptors: u64,
}

/// Looks at all processes of a system, from a thread of its own: it waits for those that are being restarted.
#[derive(Debug)]
pub struct Sampler {
    samples: Arc<Mutex<Vec<Sample>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sampler {
    /// Begins.
    pub fn start(system: Arc<System>) -> Self {
        let samples: Arc<Mutex<Vec<Sample>>> = Arc::default();
        let stop: Arc<AtomicBool> = Arc::default();
        let (taken, stopped) = (samples.clone(), stop.clone());
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let processes = system.processes();
                let seen = processes
                    .iter()
                    .filter_map(|(name, pid)| sample(name, *pid));
                lock(&taken).extend(seen);
                thread::park_timeout(EVERY);
            }
        });
        Self {
            samples,
            stop,
            thread: Some(thread),
        }
    }

    /// Ends and gives what was seen.
    pub fn finish(self) -> Vec<Sample> {
        std::mem::take(&mut lock(&self.samples))
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            if thread.join().is_err() {
                eprintln!("the sampler panicked");
            }
        }
    }
}

/// Looks at a process; none if it has ended.
fn sample(name: &Arc<str>, pid: u32) -> Option<Sample> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let memory = resident.trim().trim_end_matches(" kB").parse().ok()?;
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64;
    Some(Sample {
        at: clock::now(),
        name: name.clone(),
        pid,
        memory,
        descriptors,
    })
}

/// The median of what samples say; 0 if there are none.
pub fn median(samples: &[&Sample], of: fn(&Sample) -> u64) -> u64 {
    let mut values: Vec<_> = samples.iter().map(|sample| of(sample)).collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}

/// The least that samples say; 0 if there are none.
pub fn least(samples: &[&Sample], of: fn(&Sample) -> u64) -> u64 {
    samples.iter().map(|sample| of(sample)).min().unwrap_or(0)
}
