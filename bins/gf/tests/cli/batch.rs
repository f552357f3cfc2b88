//! `gf push --batch`.

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use crate::support::{Gateway, gf};

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn numbers(count: usize) -> String {
    (1..=count).map(|number| format!("{number}\n")).collect()
}

#[tokio::test]
async fn every_line_becomes_a_task() {
    let gateway = Gateway::start(2).await;
    let file = file(&numbers(2_345));
    let path = file.path().to_str().unwrap();
    let pushed = gateway
        .gf(&["push", "echo", "--batch", path, "--tag", "a=b"])
        .await;
    assert_eq!((pushed.code, pushed.err.as_str()), (Some(0), ""));
    let ids: Vec<_> = pushed.out.lines().collect();
    assert_eq!(ids.len(), 2_345);
    for line in [1, 1_000, 1_001, 2_345] {
        let result = gateway.gf(&["wait", ids[line - 1]]).await;
        assert_eq!(result.out, format!("{line}\n"), "{result:?}");
    }
    let shown = gateway
        .gf(&["--output", "json", "get", ids[2_344]])
        .await
        .out;
    assert_eq!(
        serde_json::from_str::<Value>(&shown).unwrap()["tags"]["a"],
        "b"
    );
    gateway.stop().await;
}

#[tokio::test]
async fn the_same_file_can_be_pushed_again_with_a_unique_key() {
    let gateway = Gateway::start(1).await;
    let push = async |text: &str| {
        let file = file(text);
        let path = file.path().to_str().unwrap();
        let unique = ["--unique", "job", "--unique-period", "1h"];
        let pushed = ["--output", "json", "push", "echo", "--batch", path];
        let pushed = gateway.gf(&[&pushed[..], &unique].concat()).await;
        assert_eq!(pushed.code, Some(0), "{pushed:?}");
        let lines = pushed.out.lines();
        lines
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .collect::<Vec<_>>()
    };
    let first = push("1\n\n3\n").await;
    assert_eq!(
        (&first[0]["line"], &first[1]["line"]),
        (&1.into(), &3.into())
    );
    gateway
        .gf(&["wait", first[0]["id"].as_str().unwrap()])
        .await;
    let second = push("1\n\n3\n4\n").await;
    assert_eq!(second[..2], first[..]);
    assert_eq!(second.len(), 3);
    gateway.stop().await;
}

#[tokio::test]
async fn what_was_accepted_is_said_when_something_is_wrong() {
    let gateway = Gateway::start(0).await;
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    for (text, code, says) in [
        (
            numbers(1_500) + "oops\n",
            2,
            "gf: 1000 tasks were accepted, up to line 1000, then: line 1501: the payload is not JSON",
        ),
        (
            "1\n{\"a\":\n".to_owned(),
            2,
            "gf: no task was accepted: line 2: the payload is not JSON",
        ),
        (
            numbers(1_002) + &deep,
            2,
            "gf: 1000 tasks were accepted, up to line 1000, then: line 1003: tasks[2]",
        ),
    ] {
        let file = file(&text);
        let path = file.path().to_str().unwrap();
        let pushed = gateway.gf(&["push", "nobody", "--batch", path]).await;
        assert_eq!(pushed.code, Some(code), "{pushed:?}");
        assert!(pushed.err.starts_with(says), "{says}: {}", pushed.err);
        let accepted = if says.contains("1000") { 1_000 } else { 0 };
        assert_eq!(pushed.out.lines().count(), accepted);
    }
    let missing = gateway.gf(&["push", "t", "--batch", "/nonexistent"]).await;
    assert_eq!((missing.code, missing.out.as_str()), (Some(2), ""));
    for flags in [
        &["1", "--batch", "f"][..],
        &["--batch", "f", "--wait"],
        &["--batch", "f", "--idempotency-key", "k"],
    ] {
        let refused = gateway.gf(&[&["push", "t"], flags].concat()).await;
        assert_eq!(refused.code, Some(2), "{refused:?}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn an_interrupt_says_how_far_it_came() {
    let gateway = Gateway::start(0).await;
    let mut push = gf(&["--server", &gateway.url, "push", "t", "--batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Whoever writes has not come to an end.
    let mut input = push.stdin.take().unwrap();
    input.write_all(numbers(1_200).as_bytes()).await.unwrap();
    let mut lines = BufReader::new(push.stdout.take().unwrap()).lines();
    for _ in 0..1_000 {
        let line = timeout(Duration::from_secs(20), lines.next_line()).await;
        assert_eq!(line.unwrap().unwrap().unwrap().len(), 36);
    }
    let pid = push.id().unwrap().to_string();
    let signalled = Command::new("kill").args(["-INT", &pid]).status().await;
    assert!(signalled.unwrap().success());
    let ended = timeout(Duration::from_secs(20), push.wait_with_output()).await;
    let ended = ended.expect("it did not end").unwrap();
    let says = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(
        (ended.status.code(), says.as_str()),
        (
            Some(130),
            "gf: interrupted: 1000 tasks were accepted, up to line 1000\n"
        )
    );
    gateway.stop().await;
}
