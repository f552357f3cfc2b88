//! The worker process: this program once more, with a pool of workers and a handler that returns its payload.

use std::process::Stdio;

use anyhow::{Context, Result, bail};
use goflow::{HandlerError, Raw, nats};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;

use crate::args;
use crate::payload::{TASK_TYPE, WARM_UP_TYPE};

const READY: &str = "ready";

async fn echo(payload: Raw) -> Result<Raw, HandlerError> {
    Ok(payload)
}

/// Runs tasks from the moment a line arrives on stdin until stdin ends.
///
/// # Errors
/// What the broker says.
pub async fn run(args: &args::Worker) -> Result<()> {
    let worker = goflow::Worker::builder()
        .broker(nats::connect(nats::Options::new(&args.broker)).await?)
        .handler(TASK_TYPE, echo)
        .handler(WARM_UP_TYPE, echo)
        .num_workers(args.slots)
        .build()?;
    println!("{READY}");
    // Not of the runtime: a read that never ends would keep it from ending.
    let (sender, mut lines) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            drop(sender.send(line));
        }
    });
    if lines.recv().await.is_none() {
        return Ok(());
    }
    worker.start().await?;
    while lines.recv().await.is_some() {}
    worker.close().await?;
    Ok(())
}

/// A worker process, ended when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Process {
    /// Starts one, connected and ready, that takes nothing yet.
    ///
    /// # Errors
    /// When it does not get ready.
    pub async fn start(broker: &str, slots: usize) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["worker", "--broker", broker, "--slots", &slots.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("start a worker process")?;
        let stdout = child.stdout.take().context("the worker has no stdout")?;
        let first = BufReader::new(stdout).lines().next_line().await?;
        if first.as_deref() != Some(READY) {
            bail!("the worker process did not get ready: {first:?}");
        }
        let stdin = child.stdin.take();
        Ok(Self { child, stdin })
    }

    /// Has it take tasks.
    ///
    /// # Errors
    /// When it has ended.
    pub async fn go(&mut self) -> Result<()> {
        let stdin = self.stdin.as_mut().context("the worker is stopped")?;
        stdin.write_all(b"go\n").await?;
        Ok(stdin.flush().await?)
    }

    /// Its process id; none when it has ended.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Ends it in good order.
    ///
    /// # Errors
    /// When it fails at that.
    pub async fn stop(mut self) -> Result<()> {
        drop(self.stdin.take());
        let status = self.child.wait().await?;
        if !status.success() {
            bail!("the worker process ended with {status}");
        }
        Ok(())
    }
}
