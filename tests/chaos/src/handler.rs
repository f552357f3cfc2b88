//! What the workers of a run do with a task: what its payload says, and two lines in the ledger.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use goflow_core::limits::MAX_CONTENT_BYTES;
use goflow_core::{Content, Ctx, Error, HandlerError, Handlers, Raw, TaskId};

use crate::ledger::{Entry, How, Ledger, Run};
use crate::work::{Act, IN_PROCESS, Job, Outcome, SNOOZE};

/// The variable with the process id of a stock worker, which it hands to its executables. Their parent would not do:
/// the parent of one whose worker is killed as it starts is another.
pub const WORKER: &str = "CHAOS_WORKER";

/// Memory that a task may ask for.
const MEMORY: usize = 64 * 1024 * 1024;

/// Where the handlers of a run write.
#[derive(Debug, Clone)]
pub struct Place {
    ledger: Arc<Ledger>,
    /// Files that say what was done once and is not done again.
    marks: PathBuf,
}

impl Place {
    /// Opens the ledger. `marks` is a directory that is there.
    ///
    /// # Errors
    /// When the ledger cannot be opened.
    pub fn open(ledger: &Path, marks: &Path) -> Result<Self> {
        let opened = Ledger::open(ledger);
        Ok(Self {
            ledger: Arc::new(opened.with_context(|| format!("open {}", ledger.display()))?),
            marks: marks.to_owned(),
        })
    }

    /// Whether this is the first run of a task that comes by here.
    fn first(&self, n: u32) -> bool {
        File::create_new(self.marks.join(n.to_string())).is_ok()
    }
}

/// A run that is under way; dropping it writes that it was stopped.
struct Started {
    place: Place,
    entry: Entry,
    ended: bool,
}

impl Started {
    fn new(place: &Place, job: &Job, task: TaskId, attempt: u32, run: Run) -> io::Result<Self> {
        let entry = Entry {
            at: 0,
            task,
            seed: job.seed,
            n: job.n,
            attempt,
            run,
            end: None,
        };
        place.ledger.write(&entry)?;
        Ok(Self {
            place: place.clone(),
            entry,
            ended: false,
        })
    }

    fn end(&mut self, how: How) -> io::Result<()> {
        self.ended = true;
        self.place.ledger.write(&Entry {
            end: Some(how),
            ..self.entry
        })
    }

    fn fails(&mut self, job: &Job) -> HandlerError {
        let message = format!(
            "planned failure of task {}, attempt {}",
            job.n, self.entry.attempt
        );
        match self.end(How::Failed) {
            Ok(()) => HandlerError::retry(message),
            Err(error) => HandlerError::retry(error),
        }
    }

    fn outcome(&self, job: &Job) -> Outcome {
        Outcome {
            n: job.n,
            proof: job.proof(),
            run: self.entry.run.to_string(),
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if !self.ended {
            // What is not written shows as a run without an end.
            drop(self.end(How::Stopped));
        }
    }
}

/// Adds the handler of the harness's own worker.
///
/// # Errors
/// None that a caller could cause.
pub fn register(handlers: &mut Handlers, place: &Place) -> Result<(), Error> {
    let place = place.clone();
    let numbers = Arc::new(AtomicU32::new(0));
    handlers.register(IN_PROCESS, move |ctx: Ctx, job: Job| {
        let run = Run {
            worker: std::process::id(),
            number: numbers.fetch_add(1, Ordering::Relaxed),
        };
        let place = place.clone();
        async move { in_process(&place, &ctx, job, run).await }
    })
}

async fn in_process(place: &Place, ctx: &Ctx, job: Job, run: Run) -> Result<Raw, HandlerError> {
    let attempt = ctx.attempt();
    let mut started = Started::new(place, &job, ctx.task_id(), attempt, run)?;
    tokio::time::sleep(Duration::from_millis(job.ms)).await;
    let content = match job.act {
        Act::FailUntil(last) if attempt <= last => return Err(started.fails(&job)),
        Act::Permanent => {
            drop(started.fails(&job));
            return Err(HandlerError::permanent(format!(
                "planned failure of task {}",
                job.n
            )));
        }
        Act::Panic if attempt == 1 => {
            started.end(How::Failed)?;
            panic!("planned panic of task {}", job.n);
        }
        // No word in the ledger: this is how a crash looks.
        Act::Abort if place.first(job.n) => std::process::abort(),
        Act::Hang if attempt == 1 => {
            ctx.cancelled().await;
            return Err(HandlerError::retry("told to stop"));
        }
        Act::Snooze if place.first(job.n) => {
            started.end(How::Snoozed)?;
            return Err(HandlerError::snooze(SNOOZE));
        }
        Act::Memory => {
            // Written to, or it would be no memory at all.
            let taken = vec![1_u8; MEMORY];
            tokio::time::sleep(Duration::from_millis(50)).await;
            drop(taken);
            Content::json(&started.outcome(&job))?
        }
        Act::Huge => Content::binary(vec![0; MAX_CONTENT_BYTES + 1]),
        _ => Content::json(&started.outcome(&job))?,
    };
    started.end(How::Returned)?;
    Ok(Raw(content))
}

/// Runs one task as an executable handler of a stock worker, and gives what to write to stdout.
///
/// # Errors
/// The planned failure; an environment that no stock worker makes.
pub fn executable(place: &Place, payload: &[u8]) -> Result<Vec<u8>> {
    let variable = |name| std::env::var(name).with_context(|| format!("no {name}"));
    let task: TaskId = variable("GF_TASK_ID")?.parse().context("GF_TASK_ID")?;
    let attempt: u32 = variable("GF_ATTEMPT")?.parse().context("GF_ATTEMPT")?;
    let job: Job = serde_json::from_slice(payload).context("the payload")?;
    let run = Run {
        worker: variable(WORKER)?.parse().context(WORKER)?,
        number: std::process::id(),
    };
    let mut started = Started::new(place, &job, task, attempt, run)?;
    std::thread::sleep(Duration::from_millis(job.ms));
    match job.act {
        Act::FailUntil(last) if attempt <= last => {
            started.end(How::Failed)?;
            anyhow::bail!("planned failure of task {}, attempt {attempt}", job.n);
        }
        Act::Permanent => {
            started.end(How::Failed)?;
            eprintln!("planned failure of task {}", job.n);
            std::process::exit(65);
        }
        Act::Panic if attempt == 1 => {
            started.end(How::Failed)?;
            std::process::abort();
        }
        Act::Hang if attempt == 1 => loop {
            std::thread::sleep(Duration::from_secs(1));
        },
        Act::Huge => {
            started.end(How::Returned)?;
            Ok(vec![b'x'; MAX_CONTENT_BYTES + 1])
        }
        _ => {
            let outcome = serde_json::to_vec(&started.outcome(&job))?;
            started.end(How::Returned)?;
            Ok(outcome)
        }
    }
}
