//! The guard: a process that outlives its worker for a moment to end what the worker started.
//!
//! A worker that is killed cannot end its handlers, and a handler that goes on would run beside its own rerun. So a
//! worker with executable handlers starts its own program once more, as a guard that holds the end of a pipe. When
//! the worker is gone, however it went, the pipe is closed; the guard then kills every process whose environment
//! carries the worker's token in `GF_GUARD`, which handlers hand down to all their children, whatever group or
//! session these have moved to, and removes their directories.
//!
//! A descendant that was started with an emptied environment escapes. The guard needs `/proc`: on systems other
//! than Linux there is none, and handlers of a worker that was killed go on.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use tracing::{debug, error, warn};
use uuid::Uuid;

mod hunt;

/// The variable by which a guard knows what its worker started.
pub(crate) const VARIABLE: &str = "GF_GUARD";

/// Where there is no such directory, a guard could do nothing.
const PROC: &str = "/proc/self";
const COMMAND: &str = "__guard";
const RESTART_PAUSE: Duration = Duration::from_millis(500);
const THREAD_NAME: &str = "guard-watch";

/// Serves as a guard and ends the process, if that is what it was started for. To be called first thing in `main`
/// of every program that uses [`stock_handlers`](crate::stock_handlers), before there is an async runtime.
pub fn main_if_asked() {
    let mut args = env::args_os().skip(1);
    if args.next().as_deref() != Some(OsStr::new(COMMAND)) {
        return;
    }
    let token = args.next().and_then(|token| token.into_string().ok());
    match token {
        Some(token) => hunt::serve(&token),
        None => process::exit(2),
    }
}

/// The guard of this process, started with the first handler and again whenever it dies.
#[derive(Debug)]
pub struct Guard {
    program: PathBuf,
    token: String,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Holds the pipe, too.
    child: Option<Child>,
    watched: bool,
    closed: bool,
}

impl Guard {
    /// A guard that is this very program, which has to call [`main_if_asked`].
    pub fn of_this_program() -> Self {
        // The program that runs, even after its file was replaced by another version.
        Self::new("/proc/self/exe".into())
    }

    /// A guard that is another program, which has to call [`main_if_asked`].
    pub fn new(program: PathBuf) -> Self {
        let token = Uuid::new_v4().simple().to_string();
        Self {
            program,
            token,
            state: Arc::default(),
        }
    }

    /// The guard's process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        lock(&self.state).child.as_ref().map(Child::id)
    }

    /// How the names of the directories for temporary files begin that the guard removes.
    pub(crate) fn prefix(&self) -> String {
        prefix(&self.token)
    }

    /// Sees to it that the guard runs, and gives the value of [`VARIABLE`] for what is to be started.
    pub(crate) fn watch(&self) -> io::Result<String> {
        if Path::new(PROC).exists() {
            let mut state = lock(&self.state);
            if state.child.is_none() {
                state.child = Some(spawn(&self.program, &self.token)?);
            }
            if !state.watched {
                let (program, token, state) =
                    (self.program.clone(), self.token.clone(), self.state.clone());
                thread::Builder::new()
                    .name(THREAD_NAME.into())
                    .spawn(move || keep(&program, &token, &state))?;
            }
            state.watched = true;
        }
        // A worker inside a handler of another worker hands the outer token down.
        Ok(match env::var(VARIABLE) {
            Ok(outer) => format!("{outer},{}", self.token),
            Err(_) => self.token.clone(),
        })
    }
}

impl Drop for Guard {
    /// Closes the pipe: the guard makes sure that nothing is left, and ends.
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        state.closed = true;
        if let Some(child) = &mut state.child {
            child.stdin = None;
        }
    }
}

fn prefix(token: &str) -> String {
    format!("gf-handler-{token}-")
}

fn spawn(program: &Path, token: &str) -> io::Result<Child> {
    use std::os::unix::process::CommandExt;
    let child = Command::new(program)
        .arg0("gf-guard")
        .args([COMMAND, token])
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Out of reach of what a terminal or a supervisor sends to the worker's group.
        .process_group(0)
        .spawn()?;
    debug!(pid = child.id(), "guard started");
    Ok(child)
}

/// Starts the guard again whenever it has died, until it is closed.
fn keep(program: &Path, token: &str, state: &Mutex<State>) {
    loop {
        let pid = lock(state)
            .child
            .as_ref()
            .and_then(|child| Pid::from_raw(i32::try_from(child.id()).ok()?));
        if let Some(pid) = pid {
            // Not reaped here: until it is taken out of the state its id has to stay its own.
            while let Err(rustix::io::Errno::INTR) = waitid(
                WaitId::Pid(pid),
                WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
            ) {}
        }
        let mut locked = lock(state);
        if let Some(mut child) = locked.child.take() {
            let status = child.wait();
            if !locked.closed {
                warn!(?status, "the guard has died, starting another");
            }
        }
        drop(locked);
        thread::sleep(RESTART_PAUSE);
        let mut locked = lock(state);
        if locked.closed {
            return;
        }
        if locked.child.is_none() {
            match spawn(program, token) {
                Ok(child) => locked.child = Some(child),
                Err(error) => error!(%error, "the guard cannot be started"),
            }
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
