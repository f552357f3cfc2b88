//! One target, for a while, in this process.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::panic;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use goflow_fuzz::mutate::Mutator;
use goflow_fuzz::{Target, corpus};
use rustix::process::{Resource, Rlimit, setrlimit};
use serde::{Deserialize, Serialize};

use crate::coverage::Seen;
use crate::shrink::shrink;
use crate::supervise::{HUNG, current, keep};

/// The longest that an input may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The memory that a process may have, in bytes: far more than the largest input needs.
const MEMORY: u64 = 4 * 1024 * 1024 * 1024;

/// Between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(10);

/// Inputs that are committed when the corpus grows have so many bytes at most.
const MAX_COMMITTED: usize = 512;

/// How many inputs a run adds to the corpus at most.
const MOST_COMMITTED: usize = 20;

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Tally {
    pub(crate) runs: u64,
    pub(crate) seconds: f64,
    /// Branches taken; none in a build without counters.
    pub(crate) branches: usize,
    /// Inputs that took new ones, the committed ones included.
    pub(crate) inputs: usize,
    /// What broke, and where.
    pub(crate) failure: Option<String>,
}

/// What the last panic said, and where.
static SAID: Mutex<String> = Mutex::new(String::new());

/// Whether a target breaks a promise at this input: what it says.
pub(crate) fn breaks(target: &Target, input: &[u8]) -> Option<String> {
    let run = panic::catch_unwind(|| (target.run)(input));
    run.is_err()
        .then(|| SAID.lock().unwrap_or_else(PoisonError::into_inner).clone())
}

/// Fuzzes until the time is over or a promise is broken.
pub(crate) fn fuzz(target: &Target, time: Duration, seed: u64, grow: bool) -> Result<ExitCode> {
    panic::set_hook(Box::new(|info| {
        *SAID.lock().unwrap_or_else(PoisonError::into_inner) = info.to_string().replace('\n', " ");
    }));
    let limit = Rlimit {
        current: Some(MEMORY),
        maximum: Some(MEMORY),
    };
    setrlimit(Resource::As, limit).context("limit the memory")?;
    let mut run = Run::new(target)?;
    let mut mutator = Mutator::new(seed, target.words);
    let mut inputs = Vec::new();
    let mut failed = None;
    for input in corpus::of(target.name)? {
        run.input(&input)?;
        failed = failed.or_else(|| run.failure.take().map(|said| (input.clone(), said)));
        inputs.push(input);
    }
    let mut told = Instant::now();
    while failed.is_none() && run.begun.elapsed() < time {
        let input = mutator.next(&inputs);
        let new = run.input(&input)?;
        if let Some(said) = run.failure.take() {
            failed = Some((input, said));
        } else if new {
            inputs.push(input);
        }
        if told.elapsed() >= PROGRESS {
            told = Instant::now();
            eprintln!("{}", run.progress(inputs.len()));
        }
    }
    let mut tally = run.tally(inputs.len());
    if grow && failed.is_none() {
        run.grow(inputs)?;
    }
    let code = match failed {
        None => ExitCode::SUCCESS,
        Some((input, said)) => {
            run.write(&shrink(target, input, &said))?;
            tally.failure = Some(said);
            ExitCode::FAILURE
        }
    };
    serde_json::to_writer(std::io::stdout(), &tally)?;
    Ok(code)
}

/// A run of one target.
struct Run<'a> {
    target: &'a Target,
    seen: Seen,
    /// The input at hand, for whoever finds this process dead.
    current: File,
    clock: Arc<Clock>,
    begun: Instant,
    runs: u64,
    failure: Option<String>,
}

impl<'a> Run<'a> {
    fn new(target: &'a Target) -> Result<Self> {
        let path = current(target);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
        }
        let current = File::create(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(Self {
            target,
            seen: Seen::nothing(),
            current,
            clock: Clock::watched(),
            begun: Instant::now(),
            runs: 0,
            failure: None,
        })
    }

    /// Runs an input; whether it took a branch that none took before.
    fn input(&mut self, input: &[u8]) -> Result<bool> {
        self.write(input)?;
        self.runs += 1;
        self.clock.begin();
        self.seen.begin();
        self.failure = breaks(self.target, input);
        let new = self.seen.is_new();
        self.clock.end();
        Ok(new)
    }

    /// Adds to the corpus what takes the most branches that its inputs do not.
    fn grow(&mut self, mut inputs: Vec<Vec<u8>>) -> Result<()> {
        let mut covered = BTreeSet::new();
        for input in corpus::of(self.target.name)? {
            self.input(&input)?;
            covered.extend(self.seen.taken());
        }
        inputs.retain(|input| input.len() <= MAX_COMMITTED);
        let mut found = Vec::new();
        for input in inputs {
            self.input(&input)?;
            found.push((BTreeSet::from_iter(self.seen.taken()), input));
        }
        for _ in 0..MOST_COMMITTED {
            for (taken, _) in &mut found {
                taken.retain(|branch| !covered.contains(branch));
            }
            let best = found.iter().max_by_key(|(taken, _)| taken.len());
            let Some((taken, input)) = best.filter(|(taken, _)| !taken.is_empty()) else {
                break;
            };
            keep(&corpus::root().join(self.target.name), input)?;
            covered.extend(taken);
        }
        Ok(())
    }

    fn write(&self, input: &[u8]) -> Result<()> {
        let written = self.current.write_all_at(input, 0);
        let cut = written.and_then(|()| self.current.set_len(input.len() as u64));
        cut.context("note the input at hand")
    }

    fn tally(&self, inputs: usize) -> Tally {
        Tally {
            runs: self.runs,
            seconds: self.begun.elapsed().as_secs_f64(),
            branches: self.seen.branches(),
            inputs,
            failure: None,
        }
    }

    fn progress(&self, inputs: usize) -> String {
        let tally = self.tally(inputs);
        let ground = match self.seen.is_blind() {
            true => "no counters in this build".to_owned(),
            false => format!("{} branches, {inputs} inputs", tally.branches),
        };
        let (name, seconds, runs) = (self.target.name, tally.seconds, tally.runs);
        let rate = runs as f64 / seconds;
        format!("{name:<14}{seconds:>5.0} s  {runs:>10} runs  {rate:>7.0}/s  {ground}")
    }
}

/// Ends the process when an input takes too long.
#[derive(Debug)]
struct Clock {
    birth: Instant,
    /// When the input at hand began, in milliseconds from birth, and one more; 0 between two.
    begun: AtomicU64,
}

impl Clock {
    fn watched() -> Arc<Self> {
        let clock = Arc::new(Self {
            birth: Instant::now(),
            begun: AtomicU64::new(0),
        });
        let watched = Arc::clone(&clock);
        thread::spawn(move || {
            loop {
                thread::sleep(PATIENCE / 20);
                let begun = watched.begun.load(Ordering::Relaxed);
                if begun != 0 && watched.now() > begun + PATIENCE.as_millis() as u64 {
                    let _ = std::io::stdout().flush();
                    std::process::exit(HUNG);
                }
            }
        });
        clock
    }

    fn now(&self) -> u64 {
        self.birth.elapsed().as_millis() as u64 + 1
    }

    fn begin(&self) {
        self.begun.store(self.now(), Ordering::Relaxed);
    }

    fn end(&self) {
        self.begun.store(0, Ordering::Relaxed);
    }
}
