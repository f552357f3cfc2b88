//! What becomes of handlers whose worker is killed.

use std::env;
use std::process::{Command, Stdio};
use std::time::Duration;

use goflow_core::Content;
use goflow_test_servers::eventually;
use rustix::process::{Pid, Signal, kill_process};

use super::{all_gone, ctx, executable, find, guard, is_running, pids, script};

const HANDLERS: &str = "TEST_HANDLERS";

/// A child, a grandchild in the group, and one that has left it for a session of its own.
const FAMILY: &str = r#"
pids="$(dirname "$0")/pids"
sh -c 'echo $$ >>"$0"; sleep 1000' "$pids" &
setsid sh -c 'echo $$ >>"$0"; exec sleep 1000' "$pids" &
echo $$ >>"$pids"
wait
"#;

/// Not a test of its own, but the worker that the test below kills: it does something only when that test asks.
#[tokio::test]
async fn worker_to_be_killed() {
    let Some(dir) = env::var_os(HANDLERS) else {
        return;
    };
    let handler = find(&super::handlers(dir.as_ref()), "handler");
    handler.call(ctx(None), Content::sniff("")).await.unwrap();
}

#[tokio::test]
async fn handlers_end_with_a_worker_that_is_killed() {
    let dir = script("handler", FAMILY);
    let temporary = tempfile::tempdir().unwrap();
    let entries = || temporary.path().read_dir().unwrap().count();
    let mut worker = Command::new(env::current_exe().unwrap())
        .args(["--exact", "guarding::worker_to_be_killed"])
        .env(HANDLERS, dir.path())
        .env("TMPDIR", temporary.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pids = pids(&dir.path().join("pids"), 3).await;
    assert!(pids.iter().all(|pid| is_running(*pid)));
    assert_eq!(entries(), 1, "the directory of the handler's pipe");
    worker.kill().unwrap();
    worker.wait().unwrap();
    all_gone(&pids).await;
    let removed = async || (entries() == 0).then_some(());
    eventually(Duration::from_secs(10), removed).await.unwrap();
}

#[tokio::test]
async fn a_guard_that_dies_is_replaced_and_one_that_is_dropped_ends() {
    let guard = guard();
    let mut handlers = goflow_core::Handlers::default();
    let dir = script("handler", FAMILY);
    executable::register(&mut handlers, dir.path(), &guard).unwrap();
    assert_eq!(guard.pid(), None, "it starts with the first handler");

    let handler = find(&handlers, "handler");
    let running = tokio::spawn(async move { handler.call(ctx(None), Content::sniff("")).await });
    let family = pids(&dir.path().join("pids"), 3).await;
    let first = guard.pid().unwrap();
    // It goes on when asked to end, for its worker may not have ended yet.
    let signal = |signal| kill_process(Pid::from_raw(first as i32).unwrap(), signal).unwrap();
    signal(Signal::TERM);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(is_running(first));
    signal(Signal::KILL);
    let second = eventually(Duration::from_secs(10), async || {
        guard.pid().filter(|pid| *pid != first)
    })
    .await
    .unwrap();

    running.abort();
    drop((handlers, guard));
    all_gone(&family).await;
    all_gone(&[second]).await;
}
