//! What programs say while they run, in a pool.

use std::path::Path;
use std::time::{Duration, Instant};

use goflow_core::{Backoff, GoFlow, State, Task, TaskId, TaskResult};
use goflow_test_servers::eventually;

use super::{find, handlers, script};

const PATIENCE: Duration = Duration::from_secs(30);

/// A pool whose handler is this script.
async fn pool(text: &str) -> (GoFlow, tempfile::TempDir) {
    let dir = script("handler", text);
    let handler = find(&handlers(dir.path()), "handler");
    let flow = GoFlow::local().handler("handler", handler).build().unwrap();
    flow.start().await.unwrap();
    (flow, dir)
}

fn task() -> Task {
    let task = Task::json("handler", &()).unwrap().max_attempts(2);
    task.backoff(Backoff::Fixed(Duration::from_millis(10)))
}

async fn run(text: &str, task: Task) -> TaskResult {
    let (flow, _dir) = pool(text).await;
    let id = flow.push(task).await.unwrap();
    let result = flow.wait(id, PATIENCE).await.unwrap();
    flow.close().await.unwrap();
    result
}

fn text(result: &TaskResult) -> &str {
    assert_eq!(result.state, State::Succeeded, "{result:?}");
    let content = result.result.as_ref().unwrap();
    std::str::from_utf8(&content.bytes).unwrap()
}

async fn has_progress(flow: &GoFlow, id: TaskId, progress: &str) {
    eventually(PATIENCE, async || {
        flow.get(id).await.unwrap().progress.as_deref() == Some(progress)
    })
    .await
    .unwrap();
}

fn allow(dir: &Path, name: &str) {
    std::fs::write(dir.join(name), "").unwrap();
}

#[tokio::test]
async fn progress_is_shown_while_it_runs() {
    let (flow, dir) = pool(
        "cd \"$(dirname \"$0\")\"\n\
         echo '{\"progress\":0.5}' > \"$GF_CONTROL\"\n\
         while [ ! -e first ]; do sleep 0.05; done\n\
         sh -c 'echo \"{\\\"progress\\\":{\\\"page\\\":7}}\" > \"$GF_CONTROL\"'\n\
         while [ ! -e second ]; do sleep 0.05; done",
    )
    .await;
    let id = flow.push(task()).await.unwrap();
    has_progress(&flow, id, "0.5").await;
    allow(dir.path(), "first");
    has_progress(&flow, id, "{\"page\":7}").await;
    allow(dir.path(), "second");
    let result = flow.wait(id, PATIENCE).await.unwrap();
    assert_eq!(result.state, State::Succeeded);
    flow.close().await.unwrap();
}

#[tokio::test]
async fn a_program_that_says_something_is_not_hung() {
    let limit = Duration::from_secs(1);
    let task = || task().max_attempts(1).heartbeat_timeout(limit);
    let talking = "for i in 1 2 3 4 5 6; do sleep 0.3; echo \"$1\" > \"$GF_CONTROL\"; done; echo 1";
    for says in ["{\"heartbeat\":true}", "{\"progress\":1}", "{}"] {
        let result = run(&talking.replace("$1", &says.replace('"', "\\\"")), task()).await;
        assert_eq!(text(&result), "1", "{says}");
    }
    for says in ["nonsense", "{\"progres\":1}", ""] {
        let result = run(&talking.replace("$1", &says.replace('"', "\\\"")), task()).await;
        assert_eq!(result.state, State::Failed, "{says}: {result:?}");
        let error = result.error.unwrap();
        assert!(error.contains("hung: no heartbeat for 1s"), "{error}");
    }
}

/// Each is written at the very end of an attempt, and once without an end of line.
#[tokio::test]
async fn the_last_checkpoint_is_handed_to_the_next_attempt() {
    for (line, saved) in [
        ("echo '{\"checkpoint\":\"page 7\"}'", "page 7"),
        (
            "echo '{\"checkpoint\":{\"page\":7}, \"progress\":1}'",
            "{\"page\":7}",
        ),
        (
            "echo '{\"checkpoint\":1}'; printf '{\"checkpoint\": 2}'",
            "2",
        ),
        ("echo '{\"checkpoint\":\"\"}'", ""),
    ] {
        let result = run(
            &format!(
                "if [ \"$GF_ATTEMPT\" = 2 ]; then printf 'from '; cat \"$GF_CHECKPOINT\"; exit 0; fi\n\
                 [ -z \"${{GF_CHECKPOINT-}}\" ] || exit 65\n\
                 {{ {line}; }} > \"$GF_CONTROL\"\nexit 1"
            ),
            task(),
        )
        .await;
        assert_eq!(text(&result), format!("from {saved}"), "{line}");
    }
}

#[tokio::test]
async fn the_largest_checkpoint_fits_and_a_larger_one_changes_nothing() {
    let result = run(
        "if [ \"$GF_ATTEMPT\" = 2 ]; then wc -c < \"$GF_CHECKPOINT\"; exit 0; fi\n\
         x() { head -c \"$1\" /dev/zero | tr '\\0' x; }\n\
         { printf '{\"checkpoint\":\"'; x 65536; echo '\"}'; } > \"$GF_CONTROL\"\n\
         { printf '{\"checkpoint\":\"'; x 65537; echo '\"}'; } > \"$GF_CONTROL\"\n\
         exit 1",
        task(),
    )
    .await;
    assert_eq!(text(&result).trim(), "65536");
}

#[tokio::test]
async fn nonsense_is_passed_over_and_holds_nobody_up() {
    let begun = Instant::now();
    let result = run(
        "if [ \"$GF_ATTEMPT\" = 2 ]; then cat \"$GF_CHECKPOINT\"; exit 0; fi\n\
         { head -c 20000000 /dev/zero | tr '\\0' x; echo; yes | head -n 100000\n\
           echo '{\"checkpoint\":\"still read\"}'; } > \"$GF_CONTROL\"\n\
         exit 1",
        task(),
    )
    .await;
    assert_eq!(text(&result), "still read");
    assert!(begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn nothing_is_left_behind_and_nobody_else_can_write() {
    let result = run(
        "stat -c '%a %F' \"$GF_CONTROL\" \"$(dirname \"$GF_CONTROL\")\"; echo \"$GF_CONTROL\"",
        task(),
    )
    .await;
    let lines: Vec<_> = text(&result).lines().collect();
    assert_eq!(lines[..2], ["600 fifo", "700 directory"]);
    assert!(!Path::new(lines[2]).parent().unwrap().exists());
}
