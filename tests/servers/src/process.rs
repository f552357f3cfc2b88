//! A goflow binary as a process of its own.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::child::Child;
use crate::install;

const PATIENCE: Duration = Duration::from_secs(30);
const LISTENING: &str = "listening on ";

/// A goflow process. Its output goes to files, which are shown when the test panics.
///
/// It runs in an empty directory (so paths in its arguments have to be absolute) and without the test's own
/// `GF_…` variables, except `GF_LOG`.
#[derive(Debug)]
pub struct Process {
    // Before the directory: fields are dropped in this order.
    child: Child,
    name: &'static str,
    path: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    dir: TempDir,
    url: String,
}

impl Process {
    /// Starts `gf-gateway` and waits until it listens; on a free port unless `args` say `--listen`.
    ///
    /// # Errors
    /// When it is not built or does not start; the error shows its output.
    pub fn gateway<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Result<Self> {
        Self::gateway_with(args, &[])
    }

    /// The same, with these variables in its environment too.
    ///
    /// # Errors
    /// As [`gateway`](Self::gateway).
    pub fn gateway_with<A: AsRef<OsStr>>(
        args: impl IntoIterator<Item = A>,
        env: &[(&str, &OsStr)],
    ) -> Result<Self> {
        let path = install::binary("gf-gateway")?;
        let mut process = Self::spawn("gf-gateway", path, with_free_port(args), env)?;
        process.url = process.wait_listening()?;
        Ok(process)
    }

    /// Starts `gf-gateway` and does not wait: it is not expected to listen.
    ///
    /// # Errors
    /// When it is not built.
    pub fn gateway_unready<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Result<Self> {
        let path = install::binary("gf-gateway")?;
        Self::spawn("gf-gateway", path, with_free_port(args), &[])
    }

    /// Starts `gf-worker`.
    ///
    /// # Errors
    /// When it is not built or does not start.
    pub fn worker<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Result<Self> {
        let args = args
            .into_iter()
            .map(|arg| arg.as_ref().to_owned())
            .collect();
        Self::spawn("gf-worker", install::binary("gf-worker")?, args, &[])
    }

    /// Starts `gf-worker` with these variables in its environment too.
    ///
    /// # Errors
    /// As [`worker`](Self::worker).
    pub fn worker_with<A: AsRef<OsStr>>(
        args: impl IntoIterator<Item = A>,
        env: &[(&str, &OsStr)],
    ) -> Result<Self> {
        Self::program("gf-worker", args, env)
    }

    /// Starts another binary of the workspace, with these variables in its environment.
    ///
    /// # Errors
    /// When it is not built or does not start.
    pub fn program<A: AsRef<OsStr>>(
        name: &'static str,
        args: impl IntoIterator<Item = A>,
        env: &[(&str, &OsStr)],
    ) -> Result<Self> {
        let args = args
            .into_iter()
            .map(|arg| arg.as_ref().to_owned())
            .collect();
        Self::spawn(name, install::binary(name)?, args, env)
    }

    /// Starts `gf`. For `gf dev`, [`wait_listening`](Self::wait_listening) gives its address.
    ///
    /// # Errors
    /// When it is not built or does not start.
    pub fn gf<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Result<Self> {
        let args = args
            .into_iter()
            .map(|arg| arg.as_ref().to_owned())
            .collect();
        Self::spawn("gf", install::binary("gf")?, args, &[])
    }

    /// Starts an example of the facade crate, with these variables in its environment.
    ///
    /// # Errors
    /// When it is not built or does not start.
    pub fn example(name: &'static str, env: &[(&str, &OsStr)]) -> Result<Self> {
        Self::spawn(name, install::example(name)?, Vec::new(), env)
    }

    fn spawn(
        name: &'static str,
        path: PathBuf,
        args: Vec<OsString>,
        env: &[(&str, &OsStr)],
    ) -> Result<Self> {
        let env: Vec<_> = env
            .iter()
            .map(|(key, value)| (OsString::from(key), (*value).to_owned()))
            .collect();
        let dir = tempfile::Builder::new()
            .prefix("goflow-process-")
            .tempdir()
            .context("make a directory")?;
        let child = Child::spawn(name, &mut command(&path, &args, &env, &dir), dir.path())?;
        Ok(Self {
            child,
            name,
            path,
            args,
            env,
            dir,
            url: String::new(),
        })
    }

    /// Where the gateway listens: `http://127.0.0.1:PORT`. Empty for the others.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// All it has written to stdout so far.
    pub fn stdout(&self) -> String {
        self.child.stdout()
    }

    /// All it has written to stderr so far.
    pub fn stderr(&self) -> String {
        self.child.stderr()
    }

    /// Waits for the line `listening on http://…` on stdout and gives the URL.
    ///
    /// # Errors
    /// When the process ends or takes too long; the error shows its output.
    pub fn wait_listening(&mut self) -> Result<String> {
        self.child.wait_ready(PATIENCE, |child| {
            // Whole lines only.
            let stdout = child.stdout_since_start();
            let mut lines = stdout
                .split_inclusive('\n')
                .filter_map(|line| line.strip_suffix('\n'));
            lines.find_map(|line| Some(line.strip_prefix(LISTENING)?.trim().to_owned()))
        })
    }

    /// Its exit status, if it has ended.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>> {
        self.child.exited()
    }

    /// Sets a variable of its environment, or removes it; from the next start on.
    pub fn set_env(&mut self, name: &str, value: Option<&OsStr>) {
        self.env.retain(|(known, _)| known != name);
        if let Some(value) = value {
            self.env.push((name.into(), value.to_owned()));
        }
    }

    /// SIGKILL; waits for the end.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()
    }

    /// SIGTERM; does not wait.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn terminate(&mut self) -> Result<()> {
        self.child.signal(Signal::TERM)
    }

    /// SIGINT, as Ctrl-C sends it; does not wait.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn interrupt(&mut self) -> Result<()> {
        self.child.signal(Signal::INT)
    }

    /// SIGSTOP: it stops in its tracks.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn pause(&mut self) -> Result<()> {
        self.child.signal(Signal::STOP)
    }

    /// SIGCONT, after [`pause`](Self::pause).
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn resume(&mut self) -> Result<()> {
        self.child.signal(Signal::CONT)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it still runs after `deadline`; the error shows its output.
    pub async fn wait_exit(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let end = Instant::now() + deadline;
        loop {
            if let Some(status) = self.child.exited()? {
                return Ok(status);
            }
            if Instant::now() > end {
                bail!(
                    "{} still runs after {deadline:?}\n{}",
                    self.name,
                    self.child.logs()
                );
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Ends it, if it still runs, and starts it with the same arguments; a gateway on the same port.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_again(&mut self) -> Result<()> {
        self.start_again_unready()?;
        if !self.url.is_empty() {
            self.url = self.wait_listening()?;
        }
        Ok(())
    }

    /// The same, but does not wait until a gateway listens: its servers may be away.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_again_unready(&mut self) -> Result<()> {
        self.child.kill()?;
        if let Some(address) = self.url.strip_prefix("http://") {
            let listen = self.args.iter().position(|arg| arg == "--listen");
            if let Some(value) = listen.and_then(|at| self.args.get_mut(at + 1)) {
                *value = address.into();
            }
        }
        self.child = Child::spawn(
            self.name,
            &mut command(&self.path, &self.args, &self.env, &self.dir),
            self.dir.path(),
        )?;
        Ok(())
    }
}

fn with_free_port<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Vec<OsString> {
    let mut args: Vec<OsString> = args
        .into_iter()
        .map(|arg| arg.as_ref().to_owned())
        .collect();
    if !args.iter().any(|arg| arg == "--listen") {
        args.extend(["--listen".into(), "127.0.0.1:0".into()]);
    }
    args
}

fn command(
    path: &PathBuf,
    args: &[OsString],
    env: &[(OsString, OsString)],
    dir: &TempDir,
) -> Command {
    let mut command = Command::new(path);
    command.args(args).current_dir(dir.path());
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"GF_") && name != "GF_LOG" {
            command.env_remove(name);
        }
    }
    command.envs(env.iter().map(|(key, value)| (key, value)));
    command
}
