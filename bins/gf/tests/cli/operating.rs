//! What operators do.

use std::time::Duration;

use serde_json::Value;

use crate::support::Gateway;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

#[tokio::test]
async fn pushes_take_every_option() {
    let gateway = Gateway::start(0).await;
    let options = [
        "echo",
        "1",
        "--priority",
        "3",
        "--deadline",
        "10m",
        "--unique",
        "u",
        "--unique-period",
        "1h",
        "--retention",
        "30d",
        "--heartbeat-timeout",
        "1m",
        "--delay",
        "1h",
    ];
    let id = gateway.push(&options).await;
    let shown = gateway.gf(&["get", &id]).await.out;
    for part in [
        "priority    3",
        "unique key  u",
        "deadline    10m",
        "state       scheduled",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert_eq!(gateway.push(&["echo", "2", "--unique", "u"]).await, id);
    let refused = gateway
        .gf(&["push", "echo", "2", "--unique", "u", "--unique-reject"])
        .await;
    assert_eq!(
        (refused.code, refused.err.contains(&id)),
        (Some(1), true),
        "{refused:?}"
    );
    gateway.stop().await;
}

#[tokio::test]
async fn many_tasks_are_changed_only_when_that_is_said() {
    let gateway = Gateway::start(0).await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    for _ in 0..3 {
        let tasks = vec![serde_json::json!({"type": "many", "queue": "q"}); 400];
        let pushed = http
            .post(format!("{}/v1/tasks/batch", gateway.url))
            .json(&serde_json::json!({ "tasks": tasks }))
            .send();
        assert_eq!(pushed.await.unwrap().status(), 202);
    }
    gateway.push(&["other"]).await;

    let refused = gateway.gf(&["cancel", "--type", "many"]).await;
    assert_eq!(
        (refused.code, refused.out.as_str(), refused.err.as_str()),
        (
            Some(2),
            "",
            "gf: cancel 500 tasks or more: say --yes to do so\n"
        )
    );
    let refused = gateway
        .gf(&["cancel", "--type", "many", "--limit", "2"])
        .await;
    assert_eq!(refused.err, "gf: cancel 2 tasks: say --yes to do so\n");
    let nothing = gateway.gf(&["retry", "--type", "many"]).await;
    assert_eq!(
        (nothing.code, nothing.out.as_str()),
        (Some(0), "no task matches\n")
    );

    let some = gateway
        .gf(&["cancel", "--type", "many", "--limit", "7", "--yes"])
        .await;
    assert_eq!(
        (some.code, some.out.as_str()),
        (Some(0), "7 cancelled, and there are more\n"),
        "{some:?}"
    );
    let all = gateway
        .gf(&["cancel", "--queue", "q", "--state", "queued", "--yes"])
        .await;
    assert_eq!(
        (all.code, all.out.as_str(), all.err.as_str()),
        (Some(0), "1193 cancelled\n", "1000 cancelled so far\n")
    );
    let again = gateway
        .gf(&[
            "retry",
            "--state",
            "cancelled,failed",
            "--since",
            "1h",
            "--yes",
            "--output",
            "json",
        ])
        .await;
    assert_eq!(
        json(&again.out),
        serde_json::json!({"changed": 1200, "skipped": 0, "more": false})
    );
    gateway.stop().await;
}

#[tokio::test]
async fn what_ended_is_seen_and_run_again() {
    let gateway = Gateway::start(2).await;
    let failing = ["push", "sleep", "\"soon\"", "--wait"];
    assert_eq!(gateway.gf(&failing).await.code, Some(1));
    assert_eq!(gateway.gf(&failing).await.code, Some(1));
    let dead = gateway.gf(&["dead"]).await.out;
    let lines: Vec<&str> = dead.lines().collect();
    assert!(
        lines.len() == 2 && lines[0].starts_with("COUNT  TYPE   STATE"),
        "{dead}"
    );
    assert!(lines[1].starts_with("2      sleep  failed"), "{dead}");
    let group = json(
        &gateway
            .gf(&["dead", "--since", "1h", "--output", "json"])
            .await
            .out,
    );
    assert_eq!(
        (&group["count"], &group["type"]),
        (&2.into(), &"sleep".into())
    );
    let newest = group["newest"].as_str().unwrap();

    let again = gateway.gf(&["run-again", newest]).await;
    assert_eq!(again.code, Some(0), "{again:?}");
    let id = again.out.trim_end();
    assert_eq!(gateway.gf(&["wait", id]).await.code, Some(1));
    let shown = gateway.gf(&["get", id]).await.out;
    assert!(shown.contains(&format!("retry of    {newest}")), "{shown}");
    let waiting = gateway.push(&["echo", "1", "--delay", "1h"]).await;
    assert_eq!(gateway.gf(&["run-again", &waiting]).await.code, Some(1));
    gateway.stop().await;
}

#[tokio::test]
async fn a_queue_is_paused_resumed_and_purged() {
    let gateway = Gateway::start(1).await;
    let paused = gateway.gf(&["queue", "pause", "default"]).await;
    assert_eq!(
        (paused.code, paused.out.as_str()),
        (Some(0), "default paused\n"),
        "{paused:?}"
    );
    let id = gateway.push(&["echo", "1"]).await;
    let table = gateway.gf(&["queues"]).await.out;
    assert!(table.contains("paused"), "{table}");
    let doctor = gateway.gf(&["doctor"]).await.out;
    assert!(
        doctor.contains("default is paused, and 1 tasks wait: gf queue resume default"),
        "{doctor}"
    );
    let refused = gateway.gf(&["queue", "purge", "default"]).await;
    assert_eq!(
        (refused.code, refused.err.as_str()),
        (
            Some(2),
            "gf: cancel all 1 unfinished tasks of default: say --yes to do so\n"
        )
    );
    let purged = gateway.gf(&["queue", "purge", "default", "--yes"]).await;
    assert_eq!(
        (purged.code, purged.out.as_str()),
        (Some(0), "1 cancelled\n"),
        "{purged:?}"
    );
    assert!(gateway.gf(&["get", &id]).await.out.contains("cancelled"));
    let resumed = gateway
        .gf(&["queue", "resume", "default", "--output", "json"])
        .await;
    assert_eq!(json(&resumed.out)["paused"], false);
    assert_eq!(
        gateway.gf(&["push", "echo", "1", "--wait"]).await.code,
        Some(0)
    );
    gateway.stop().await;
}

/// The table of workers, once it says this.
async fn workers(gateway: &Gateway, says: &str) -> String {
    for _ in 0..100 {
        let table = gateway.gf(&["workers"]).await.out;
        if table.contains(says) {
            return table;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("gf workers never said {says:?}")
}

#[tokio::test]
async fn a_worker_is_told_what_to_do() {
    let gateway = Gateway::start(1).await;
    workers(&gateway, "live").await;
    let seen = json(&gateway.gf(&["workers", "--output", "json"]).await.out);
    let id = seen["id"].as_str().unwrap();
    let task = gateway.push(&["sleep", "{\"ms\":2000}"]).await;
    let table = workers(&gateway, &format!("\n{task}  default  1")).await;
    assert!(table.contains("\n\nTASK  "), "{table}");

    let quiet = gateway.gf(&["worker", "quiet", id]).await;
    assert_eq!(
        (quiet.code, quiet.out),
        (Some(0), format!("{id} was told to be quiet\n")),
        "{}",
        quiet.err
    );
    workers(&gateway, "  quiet").await;
    assert_eq!(gateway.gf(&["worker", "resume", id]).await.code, Some(0));
    workers(&gateway, "  live").await;
    let stop = gateway
        .gf(&["worker", "stop", id, "--output", "json"])
        .await;
    assert_eq!(json(&stop.out)["command"], "stop");
    for _ in 0..100 {
        if gateway
            .gf(&["workers", "--output", "json"])
            .await
            .out
            .is_empty()
        {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(gateway.gf(&["worker", "quiet", id]).await.code, Some(1));
    gateway.stop().await;
}
