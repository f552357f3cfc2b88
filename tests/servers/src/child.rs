//! A child process that ends with the value that stands for it.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child as StdChild, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

const POLL: Duration = Duration::from_millis(5);
/// How much of a log is shown when something went wrong.
const SHOWN: usize = 64 * 1024;

/// Set to have all logs shown, whatever became of the test.
const SHOW_LOGS: &str = "GF_TEST_SHOW_LOGS";

/// A running or ended child with its log. Deliberately in the test's own process group: when a test runner kills
/// a test that hangs, it kills the whole group.
#[derive(Debug)]
pub(crate) struct Child {
    name: String,
    child: StdChild,
    status: Option<ExitStatus>,
    stdout: PathBuf,
    stderr: PathBuf,
    /// How much an earlier process had written to stdout already.
    written_before: usize,
}

impl Child {
    /// Starts `command` with its output appended to files in `logs`.
    pub(crate) fn spawn(name: &str, command: &mut Command, logs: &Path) -> Result<Self> {
        let (stdout, stderr) = (logs.join("stdout.log"), logs.join("stderr.log"));
        let written_before = fs::metadata(&stdout).map_or(0, |meta| meta.len() as usize);
        let child = command
            .stdin(Stdio::null())
            .stdout(append(&stdout)?)
            .stderr(append(&stderr)?)
            .spawn()
            .with_context(|| format!("start {name}: {}", command.get_program().display()))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            status: None,
            stdout,
            stderr,
            written_before,
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal; none to a process that has ended already, whose id may be another's by now.
    pub(crate) fn signal(&mut self, signal: Signal) -> Result<()> {
        if self.exited()?.is_some() {
            return Ok(());
        }
        kill_process(Pid::from_child(&self.child), signal)
            .with_context(|| format!("send {signal:?} to {}", self.name))
    }

    pub(crate) fn exited(&mut self) -> Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status = self
                .child
                .try_wait()
                .with_context(|| format!("wait for {}", self.name))?;
        }
        Ok(self.status)
    }

    /// Sends `signal` and waits for the end; SIGKILL after `patience`, which is then an error.
    pub(crate) fn end(&mut self, signal: Signal, patience: Duration) -> Result<()> {
        self.signal(signal)?;
        let deadline = Instant::now() + patience;
        while self.exited()?.is_none() {
            if Instant::now() > deadline {
                self.kill()?;
                bail!(
                    "{} did not end within {patience:?} of {signal:?}\n{}",
                    self.name,
                    self.logs()
                );
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// SIGKILL, and waits for the end.
    pub(crate) fn kill(&mut self) -> Result<()> {
        if self.exited()?.is_none() {
            self.child
                .kill()
                .with_context(|| format!("kill {}", self.name))?;
            self.status = Some(
                self.child
                    .wait()
                    .with_context(|| format!("wait for {}", self.name))?,
            );
        }
        Ok(())
    }

    /// Waits until `ready` gives a value; an error with the log when the process ends before, or after `patience`.
    pub(crate) fn wait_ready<T>(
        &mut self,
        patience: Duration,
        mut ready: impl FnMut(&Self) -> Option<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(value) = ready(self) {
                return Ok(value);
            }
            if let Some(status) = self.exited()? {
                bail!(
                    "{} ended at its start: {status}\n{}",
                    self.name,
                    self.logs()
                );
            }
            if Instant::now() > deadline {
                bail!(
                    "{} was not ready within {patience:?}\n{}",
                    self.name,
                    self.logs()
                );
            }
            std::thread::sleep(POLL);
        }
    }

    pub(crate) fn stdout(&self) -> String {
        fs::read(&self.stdout)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// What this very process has written.
    pub(crate) fn stdout_since_start(&self) -> String {
        self.stdout()
            .get(self.written_before..)
            .unwrap_or_default()
            .to_owned()
    }

    pub(crate) fn stderr(&self) -> String {
        fs::read(&self.stderr)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// The ends of both logs, to be shown.
    pub(crate) fn logs(&self) -> String {
        let (stdout, stderr) = (self.stdout(), self.stderr());
        format!(
            "--- {0} stdout\n{1}\n--- {0} stderr\n{2}\n---",
            self.name,
            tail(&stdout),
            tail(&stderr)
        )
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("{error:#}");
        }
        if std::thread::panicking() || std::env::var_os(SHOW_LOGS).is_some() {
            eprintln!("{}", self.logs());
        }
    }
}

fn append(path: &Path) -> Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("open {}", path.display()))
}

fn tail(text: &str) -> &str {
    let text = text.trim_end();
    &text[text.ceil_char_boundary(text.len().saturating_sub(SHOWN))..]
}
