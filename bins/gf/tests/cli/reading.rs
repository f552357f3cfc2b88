//! Looking at tasks, queues, workers and the state of things.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{self, Gateway};

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn tasks_are_shown_to_people_and_programs() {
    let gateway = Gateway::start(0).await;
    let id = gateway
        .push(&[
            "echo",
            "{\n\"a\": \"b c\"}",
            "--tag",
            "k=v",
            "--queue",
            "q",
            "--delay",
            "1h",
        ])
        .await;
    let shown = gateway.gf(&["get", &id]).await;
    assert_eq!(shown.code, Some(0));
    for part in [
        &format!("id          {id}"),
        "state       scheduled",
        "queue       q",
        "due         2",
    ] {
        assert!(shown.out.contains(part), "{part}: {}", shown.out);
    }
    let json = gateway.gf(&["get", &id, "--output", "json"]).await;
    let [task] = &lines(&json.out)[..] else {
        panic!("not one line: {json:?}")
    };
    assert_eq!(
        (&task["tags"]["k"], &task["payload"]["a"]),
        (&"v".into(), &"b c".into())
    );
    assert_eq!(
        gateway
            .gf(&["get", "01890000-0000-7000-8000-000000000001"])
            .await
            .code,
        Some(1)
    );
    gateway.stop().await;
}

#[tokio::test]
async fn lists_go_over_pages() {
    let gateway = Gateway::start(0).await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let tasks = vec![serde_json::json!({"type": "many"}); 600];
    let body = serde_json::json!({ "tasks": tasks });
    let pushed = http
        .post(format!("{}/v1/tasks/batch", gateway.url))
        .json(&body)
        .send()
        .await
        .unwrap();
    assert_eq!(pushed.status(), 202);

    assert_eq!(
        lines(&gateway.gf(&["list", "--all", "--output", "json"]).await.out).len(),
        600
    );
    assert_eq!(
        lines(
            &gateway
                .gf(&["list", "--limit", "501", "--output", "json"])
                .await
                .out
        )
        .len(),
        501
    );
    assert_eq!(
        lines(
            &gateway
                .gf(&["list", "--output", "json", "--since", "1h"])
                .await
                .out
        )
        .len(),
        50
    );
    let table = gateway
        .gf(&[
            "list", "--type", "many", "--state", "queued", "--limit", "2",
        ])
        .await
        .out;
    assert!(
        table.starts_with("ID  ") && table.lines().count() == 3 && !table.contains('\u{1b}'),
        "{table}"
    );

    // A reader that has seen enough is no reason to panic.
    let script = format!(
        "{} --server {} list --all --output json | head -n 1",
        env!("CARGO_BIN_EXE_gf"),
        gateway.url
    );
    let output = tokio::process::Command::new("sh")
        .args(["-c", &script])
        .output()
        .await
        .unwrap();
    assert_eq!(
        (
            lines(&String::from_utf8(output.stdout).unwrap()).len(),
            output.stderr.len()
        ),
        (1, 0)
    );
    gateway.stop().await;
}

#[tokio::test]
async fn changes_are_made_one_by_one() {
    let gateway = Gateway::start(0).await;
    let one = gateway.push(&["echo", "1"]).await;
    let two = gateway.push(&["echo", "2"]).await;
    assert_eq!(gateway.gf(&["cancel", &one]).await.code, Some(0));
    let both = gateway.gf(&["cancel", &one, &two]).await;
    assert_eq!(
        (both.code, both.out),
        (Some(1), format!("{two} cancelled\n")),
        "{}",
        both.err
    );
    let retried = gateway.gf(&["retry", &one, "--output", "json"]).await;
    assert_eq!(
        (retried.code, &lines(&retried.out)[0]["attempt"]),
        (Some(0), &2.into())
    );
    gateway.stop().await;
}

#[tokio::test]
async fn queues_workers_and_the_doctor() {
    let gateway = Gateway::start(3).await;
    assert_eq!(
        gateway.gf(&["push", "echo", "1", "--wait"]).await.code,
        Some(0)
    );
    let queues = lines(&gateway.gf(&["queues", "--output", "json"]).await.out);
    assert_eq!(queues[0]["name"], "default");
    assert!(
        gateway
            .gf(&["queues"])
            .await
            .out
            .starts_with("NAME     QUEUED")
    );
    let workers = lines(&gateway.gf(&["workers", "--output", "json"]).await.out);
    assert_eq!(workers[0]["slots"], 3);
    assert!(gateway.gf(&["workers"]).await.out.contains("echo"));

    let healthy = gateway.gf(&["doctor"]).await;
    assert_eq!(healthy.code, Some(0), "{healthy:?}");
    assert!(
        healthy.out.lines().all(|line| line.starts_with("ok    ")),
        "{}",
        healthy.out
    );
    let broken = gateway
        .gf(&[
            "doctor",
            "--broker",
            "nats://127.0.0.1:1",
            "--store",
            "postgres://a@127.0.0.1:1/b",
        ])
        .await;
    assert_eq!(broken.code, Some(1), "{broken:?}");
    assert_eq!(
        broken
            .out
            .lines()
            .filter(|line| line.starts_with("fail  "))
            .count(),
        2,
        "{}",
        broken.out
    );
    gateway.stop().await;

    let alone = support::run(&["--server", "http://127.0.0.1:1", "doctor"]).await;
    assert_eq!(
        (alone.code, alone.out.starts_with("fail  gateway")),
        (Some(1), true),
        "{alone:?}"
    );
}

#[tokio::test]
async fn tasks_nobody_serves_are_a_warning() {
    let gateway = Gateway::start(1).await;
    gateway.push(&["nobody", "1"]).await;
    let begun = Instant::now();
    loop {
        let doctor = gateway.gf(&["doctor"]).await;
        assert_eq!(doctor.code, Some(0), "{doctor:?}");
        if doctor.out.contains("warn  queues") && doctor.out.contains("type nobody") {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(15), "{}", doctor.out);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    gateway.stop().await;
}
