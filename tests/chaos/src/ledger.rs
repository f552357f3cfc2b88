//! The ledger: what was run, written by the handlers themselves, outside of both stores.
//!
//! Every handler appends a line when it starts and one when it ends, each in one write to a file opened for
//! appending, so that lines of many processes never mix and a killed process loses none that it wrote.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use goflow_core::TaskId;

use crate::clock::{self, Micros};

/// How a run of a handler ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It returned its result.
    Returned,
    /// It failed as planned.
    Failed,
    /// It snoozed.
    Snoozed,
    /// It was told to stop, or dropped: cancelled, timed out, or its worker had to go.
    Stopped,
}

/// Names one run of a handler: who ran it, and a number that is never used again there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Run {
    /// The process id of the worker.
    pub worker: u32,
    /// Tells runs in it apart.
    pub number: u32,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.worker, self.number)
    }
}

impl FromStr for Run {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (worker, number) = text.split_once('-').context("a run is PID-NUMBER")?;
        Ok(Self {
            worker: worker.parse()?,
            number: number.parse()?,
        })
    }
}

/// A line of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// When.
    pub at: Micros,
    /// The task.
    pub task: TaskId,
    /// The seed in its payload.
    pub seed: u64,
    /// Its number.
    pub n: u32,
    /// Its attempt.
    pub attempt: u32,
    /// Which run.
    pub run: Run,
    /// How it ended, or that it started.
    pub end: Option<How>,
}

/// The ledger as handlers write it.
#[derive(Debug)]
pub struct Ledger(File);

impl Ledger {
    /// Opens it for appending; makes it if there is none.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self(file))
    }

    /// Appends a line, at the present time.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, entry: &Entry) -> io::Result<()> {
        let line = line(&Entry {
            at: clock::now(),
            ..*entry
        });
        (&self.0).write_all(line.as_bytes())
    }
}

/// Reads all lines that there are by now.
///
/// # Errors
/// When there is a line that no handler writes.
pub fn read(path: &Path) -> Result<Vec<Entry>> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        text => text.with_context(|| format!("read {}", path.display()))?,
    };
    text.lines()
        .enumerate()
        .map(|(at, line)| entry(line).with_context(|| format!("line {} of the ledger", at + 1)))
        .collect()
}

fn line(entry: &Entry) -> String {
    let Entry {
        at,
        task,
        seed,
        n,
        attempt,
        run,
        end,
    } = entry;
    let end = match end {
        None => "start",
        Some(How::Returned) => "returned",
        Some(How::Failed) => "failed",
        Some(How::Snoozed) => "snoozed",
        Some(How::Stopped) => "stopped",
    };
    format!("{at} {task} {seed} {n} {attempt} {run} {end}\n")
}

fn entry(line: &str) -> Result<Entry> {
    let fields: Vec<_> = line.split(' ').collect();
    let [at, task, seed, n, attempt, run, end] = fields[..] else {
        bail!("{line:?} is not seven fields");
    };
    Ok(Entry {
        at: at.parse()?,
        task: task.parse()?,
        seed: seed.parse()?,
        n: n.parse()?,
        attempt: attempt.parse()?,
        run: run.parse()?,
        end: match end {
            "start" => None,
            "returned" => Some(How::Returned),
            "failed" => Some(How::Failed),
            "snoozed" => Some(How::Snoozed),
            "stopped" => Some(How::Stopped),
            other => bail!("{other:?} is no end"),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger");
        assert!(read(&path).unwrap().is_empty());
        let start = Entry {
            at: 0,
            task: TaskId::new(),
            seed: u64::MAX,
            n: 7,
            attempt: 2,
            run: Run {
                worker: 9,
                number: 3,
            },
            end: None,
        };
        let end = Entry {
            end: Some(How::Snoozed),
            ..start
        };
        let ledger = Ledger::open(&path).unwrap();
        ledger.write(&start).unwrap();
        Ledger::open(&path).unwrap().write(&end).unwrap();
        let read = read(&path).unwrap();
        assert_eq!(read.len(), 2);
        assert!(read[0].at > 0 && read[0].at <= read[1].at);
        assert_eq!(Entry { at: 0, ..read[0] }, start);
        assert_eq!(Entry { at: 0, ..read[1] }, end);
        assert!(entry("1 2 3").is_err());
    }
}
