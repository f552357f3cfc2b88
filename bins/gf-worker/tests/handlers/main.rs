//! The handlers of the stock worker, called as a pool calls them, and the program itself.

#![expect(
    clippy::unwrap_used,
    reason = "what goes wrong here fails the test, as it should"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gf_worker::executable;
use gf_worker::guard::Guard;
use goflow_core::{
    Backoff, Content, Ctx, Handler, HandlerError, Handlers, Namespace, Priority, QueueName, Route,
    Start, StoreId, TaskId, TaskMessage, TaskSpec, TaskType,
};

mod commands;
mod examples;
mod executables;
mod guarding;
mod program;
mod reports;
mod stock;

/// The guard of these tests: a test binary cannot be one.
fn guard() -> Arc<Guard> {
    Arc::new(Guard::new(env!("CARGO_BIN_EXE_gf-worker").into()))
}

/// A directory with one executable of this shell script.
fn script(name: &str, script: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write_script(dir.path(), name, script);
    dir
}

fn write_script(dir: &Path, name: &str, script: &str) {
    let path = dir.join(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn handlers(dir: &Path) -> Handlers {
    let mut handlers = Handlers::default();
    executable::register(&mut handlers, dir, &guard()).unwrap();
    handlers
}

fn find(handlers: &Handlers, task_type: &str) -> Arc<dyn Handler> {
    handlers.get(&TaskType::new(task_type).unwrap()).unwrap()
}

/// Runs a script as a handler.
async fn run(text: &str, payload: &str) -> Result<Content, HandlerError> {
    let dir = script("handler.sh", text);
    find(&handlers(dir.path()), "handler")
        .call(ctx(None), Content::sniff(payload.to_owned()))
        .await
}

fn ctx(timeout: Option<Duration>) -> Ctx {
    Ctx::detached(message(timeout))
}

fn message(timeout: Option<Duration>) -> TaskMessage {
    TaskMessage {
        spec: Arc::new(TaskSpec {
            id: TaskId::new(),
            namespace: Namespace::default(),
            queue: QueueName::default(),
            task_type: TaskType::new("handler").unwrap(),
            payload: Content::sniff(""),
            headers: Default::default(),
            tags: Default::default(),
            max_attempts: 3,
            backoff: Backoff::default(),
            timeout,
            start: Start::Now,
            priority: Priority::default(),
            deadline: None,
            unique: None,
            retention: None,
            heartbeat_timeout: None,
            retry_of: None,
        }),
        attempt: 2,
        dispatch: 2,
        route: Route::of_store(StoreId(TaskId::new().as_uuid()), true),
        recorded: true,
    }
}

fn is_running(pid: u32) -> bool {
    // A zombie has ended; whether it was waited for is somebody else's business.
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// The process ids a script has written, once there are so many.
async fn pids(file: &Path, count: usize) -> Vec<u32> {
    goflow_test_servers::eventually(Duration::from_secs(10), async || {
        let text = fs::read_to_string(file).unwrap_or_default();
        let pids: Vec<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
        (pids.len() == count).then_some(pids)
    })
    .await
    .unwrap()
}

async fn all_gone(pids: &[u32]) {
    goflow_test_servers::eventually(Duration::from_secs(10), async || {
        !pids.iter().any(|pid| is_running(*pid))
    })
    .await
    .unwrap();
}
