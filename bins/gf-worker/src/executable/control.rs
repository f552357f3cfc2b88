//! What a program says while it runs: lines of JSON, which it writes into a pipe that has a name.
//!
//! A name rather than a descriptor: it opens from any language, and from the programs that a program starts,
//! whatever these close.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use bytes::Bytes;
use gf_process::one_line;
use goflow_core::Ctx;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::value::RawValue;
use tempfile::TempDir;
use tokio::net::unix::pipe;
use tokio::process::Command;
use tracing::{debug, warn};

use super::pipes::{Sink, TooMuch};

/// Longest line: a checkpoint of the largest size, each byte of it escaped, has room.
const MAX_LINE: usize = 512 * 1024;

/// The variable with the path of the pipe.
const PIPE: &str = "GF_CONTROL";

/// The variable with the path of the file that holds the last checkpoint.
const CHECKPOINT: &str = "GF_CHECKPOINT";

/// The pipe of one attempt, in a directory of its own that goes with it.
#[derive(Debug)]
pub(super) struct Control {
    pub(super) reader: pipe::Receiver,
    /// Keeps the pipe from ending between two who write.
    pub(super) writer: pipe::Sender,
    pub(super) directory: TempDir,
    pipe: PathBuf,
    checkpoint: Option<PathBuf>,
}

impl Control {
    /// Makes the pipe, and the file with the last checkpoint if there is one. `prefix` is how the name of the
    /// directory begins.
    pub(super) fn open(prefix: &str, checkpoint: Option<&Bytes>) -> io::Result<Self> {
        let (directory, pipe) = make_pipe(prefix)?;
        let reader = pipe::OpenOptions::new().open_receiver(&pipe)?;
        let writer = pipe::OpenOptions::new().open_sender(&pipe)?;
        let checkpoint = match checkpoint {
            Some(bytes) => {
                let path = directory.path().join("checkpoint");
                fs::write(&path, bytes)?;
                Some(path)
            }
            None => None,
        };
        Ok(Self {
            reader,
            writer,
            directory,
            pipe,
            checkpoint,
        })
    }

    /// Tells a program about it.
    pub(super) fn announce(&self, command: &mut Command) {
        command.env(PIPE, &self.pipe);
        match &self.checkpoint {
            Some(path) => command.env(CHECKPOINT, path),
            None => command.env_remove(CHECKPOINT),
        };
    }
}

/// Makes the pipe and its directory.
pub(super) fn make_pipe(prefix: &str) -> io::Result<(TempDir, PathBuf)> {
    let directory = tempfile::Builder::new()
        .prefix(prefix)
        .permissions(Permissions::from_mode(0o700))
        .tempdir()?;
    let pipe = directory.path().join("control");
    mkfifo(&pipe, Mode::S_IRUSR | Mode::S_IWUSR)?;
    Ok((directory, pipe))
}

/// Passes on what a program says, line by line.
#[derive(Debug)]
pub(super) struct Reports<'a> {
    ctx: &'a Ctx,
    line: Vec<u8>,
    too_long: bool,
    bad: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Report<'a> {
    #[serde(borrow)]
    progress: Option<&'a RawValue>,
    checkpoint: Option<Value>,
    #[serde(rename = "heartbeat")]
    _heartbeat: Option<IgnoredAny>,
}

impl<'a> Reports<'a> {
    pub(super) fn to(ctx: &'a Ctx) -> Self {
        Self {
            ctx,
            line: Vec::new(),
            too_long: false,
            bad: 0,
        }
    }

    /// Takes the last line, though it has no end. How many lines were ignored.
    pub(super) fn finish(mut self) -> usize {
        self.end_line();
        self.bad
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let passed_on = if std::mem::take(&mut self.too_long) {
            Err(format!("longer than {MAX_LINE} bytes"))
        } else if line.trim_ascii().is_empty() {
            Ok(())
        } else {
            self.pass_on(&line)
        };
        let Err(reason) = passed_on else { return };
        self.bad += 1;
        let task = self.ctx.task_id();
        if self.bad == 1 {
            warn!(task.id = %task, reason, "a line in {PIPE} is ignored; further ones are logged at debug");
        } else {
            debug!(task.id = %task, reason, "a line in {PIPE} is ignored");
        }
    }

    pub(super) fn pass_on(&self, line: &[u8]) -> Result<(), String> {
        let report: Report<'_> =
            serde_json::from_slice(line).map_err(|error| one_line(&error.to_string()))?;
        self.ctx.heartbeat();
        if let Some(progress) = report.progress {
            let passed_on = self.ctx.progress(progress);
            passed_on.map_err(|error| error.to_string())?;
        }
        let Some(checkpoint) = report.checkpoint else {
            return Ok(());
        };
        let text = match checkpoint {
            Value::String(text) => text,
            other => other.to_string(),
        };
        let passed_on = self.ctx.checkpoint(text);
        passed_on.map_err(|error| error.to_string())
    }
}

impl Sink for Reports<'_> {
    /// Never too much: what does not fit is no report.
    fn take(&mut self, bytes: &[u8]) -> Result<(), TooMuch> {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.line.len() + part.len() > MAX_LINE {
                self.too_long = true;
                self.line.clear();
            }
            if !self.too_long {
                self.line.extend_from_slice(part);
            }
            if part.ends_with(b"\n") {
                self.end_line();
            }
        }
        Ok(())
    }
}
