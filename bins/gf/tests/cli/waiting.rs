//! Pushing and waiting, and the exit codes of it.

use std::io::Write;
use std::process::Stdio;

use tokio::io::AsyncWriteExt;

use crate::support::{self, Gateway};

#[tokio::test]
async fn a_success_prints_its_result_and_nothing_else() {
    let gateway = Gateway::start(2).await;
    let ended = gateway
        .gf(&["push", "echo", "{\"N\":10, \"x\": 1.00}", "--wait"])
        .await;
    assert_eq!(
        (ended.code, ended.out.as_str(), ended.err.as_str()),
        (Some(0), "{\"N\":10,\"x\":1.00}\n", "")
    );
    let ended = gateway.gf(&["push", "echo", "--wait"]).await;
    assert_eq!((ended.code, ended.out.as_str()), (Some(0), "null\n"));
    let ended = gateway
        .gf(&[
            "push",
            "echo",
            "hi",
            "--content-type",
            "text/plain",
            "--wait",
        ])
        .await;
    assert_eq!((ended.code, ended.out.as_str()), (Some(0), "\"hi\"\n"));
    let id = gateway.push(&["sleep", "{\"ms\":300}"]).await;
    assert_eq!(
        gateway.gf(&["wait", &id, "--timeout", "20s"]).await.code,
        Some(0)
    );
    gateway.stop().await;
}

#[tokio::test]
async fn any_other_end_is_1() {
    let gateway = Gateway::start(2).await;
    let ended = gateway
        .gf(&["push", "sleep", "\"soon\"", "--max-attempts", "1", "--wait"])
        .await;
    assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""), "{ended:?}");
    assert!(
        ended.err.starts_with("gf: task ") && ended.err.contains(" failed: "),
        "{ended:?}"
    );
    let id = gateway.push(&["echo", "1", "--delay", "1h"]).await;
    assert_eq!(
        gateway.gf(&["cancel", &id]).await.out,
        format!("{id} cancelled\n")
    );
    let ended = gateway.gf(&["wait", &id]).await;
    assert_eq!(
        (ended.code, ended.err.contains("was cancelled")),
        (Some(1), true),
        "{ended:?}"
    );
    gateway.stop().await;
}

#[tokio::test]
async fn a_wait_that_is_over_is_3() {
    let gateway = Gateway::start(0).await;
    let ended = gateway
        .gf(&["push", "echo", "1", "--wait", "--timeout", "300ms"])
        .await;
    assert_eq!((ended.code, ended.out.as_str()), (Some(3), ""), "{ended:?}");
    let id = gateway.push(&["echo"]).await;
    assert_eq!(
        gateway.gf(&["wait", &id, "--timeout", "0s"]).await.code,
        Some(3)
    );
    gateway.stop().await;
}

#[tokio::test]
async fn nobody_there_is_4() {
    for args in [
        &["push", "echo", "1"][..],
        &["push", "echo", "1", "--wait"],
        &["wait", "01890000-0000-7000-8000-000000000001"],
        &["get", "01890000-0000-7000-8000-000000000001"],
        &["list"],
        &["queues"],
        &["workers"],
        &["cancel", "01890000-0000-7000-8000-000000000001"],
        &["retry", "--type", "t", "--yes"],
        &["run-again", "01890000-0000-7000-8000-000000000001"],
        &["dead"],
        &["queue", "pause", "q"],
        &["queue", "purge", "q", "--yes"],
        &["worker", "stop", "01890000-0000-7000-8000-000000000001"],
    ] {
        // Port 1 of loopback refuses at once.
        let ended = support::run(&[&["--server", "http://127.0.0.1:1"][..], args].concat()).await;
        assert_eq!(
            (ended.code, ended.out.as_str(), ended.err.lines().count()),
            (Some(4), "", 1),
            "{args:?}: {ended:?}"
        );
    }
}

#[tokio::test]
async fn a_mistake_in_the_call_is_2() {
    let gateway = Gateway::start(0).await;
    for args in [
        &["push", "echo", "hello"][..],
        &["push", "a.b", "1"],
        &["push", "echo", "1", "--queue", ">"],
        &["push", "echo", "1", "--run-at", "tomorrow"],
        &["push", "echo", "@/nonexistent"],
        &["push"],
        &["wait", "nonsense"],
        &["list", "--state", "done"],
        &["list", "--since", "yesterday"],
        &["push", "echo", "1", "--deadline", "soon"],
        &["push", "echo", "1", "--unique", ""],
        &["cancel", "--since", "yesterday", "--yes"],
        &["cancel", "--state", "succeeded", "--yes"],
        &["retry", "--type", "a.b", "--yes"],
        &["run-again", "nonsense"],
        &["dead", "--since", "yesterday"],
        &["queue", "pause", "a.b"],
        &["queue", "purge", "a.b", "--yes"],
        &["worker", "stop", "nonsense"],
        &["migrate"],
        &["--server", "https://a", "queues"],
    ] {
        let ended = gateway.gf(args).await;
        assert_eq!(
            (ended.code, ended.out.as_str()),
            (Some(2), ""),
            "{args:?}: {ended:?}"
        );
    }
    let ended = gateway
        .gf(&["wait", "01890000-0000-7000-8000-000000000001"])
        .await;
    assert_eq!(ended.code, Some(1), "unknown: {ended:?}");
    gateway.stop().await;
}

#[tokio::test]
async fn payloads_come_from_files_and_stdin() {
    let gateway = Gateway::start(2).await;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"{\n  \"from\": \"file\"\n}\n").unwrap();
    let argument = format!("@{}", file.path().display());
    assert_eq!(
        gateway.gf(&["push", "echo", &argument, "--wait"]).await.out,
        "{\"from\":\"file\"}\n"
    );

    let mut child = support::gf(&["--server", &gateway.url, "push", "echo", "-", "--wait"]);
    let mut child = child
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"[1,2]").await.unwrap();
    drop(stdin);
    assert_eq!(child.wait_with_output().await.unwrap().stdout, b"[1,2]\n");
    gateway.stop().await;
}

#[tokio::test]
async fn an_idempotency_key_gives_one_id() {
    let gateway = Gateway::start(0).await;
    let first = gateway.push(&["echo", "1", "--idempotency-key", "k"]).await;
    assert_eq!(
        gateway.push(&["echo", "1", "--idempotency-key", "k"]).await,
        first
    );
    assert_eq!(
        gateway
            .gf(&["push", "echo", "2", "--idempotency-key", "k"])
            .await
            .code,
        Some(2)
    );
    gateway.stop().await;
}
