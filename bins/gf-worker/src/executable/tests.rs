use std::future::ready;
use std::os::unix::process::ExitStatusExt;

use goflow_core::content::{BINARY, JSON, TEXT};
use tokio::io::{AsyncBufReadExt, BufReader};

use super::*;

#[test]
fn output_becomes_content() {
    for (printed, bytes, content_type) in [
        (&b" {\"a\": 1}\n"[..], &b"{\"a\": 1}"[..], JSON),
        (b"hello\n", b"hello", TEXT),
        (b"two\nlines\n\n", b"two\nlines\n", TEXT),
        (b"", b"null", JSON),
        (b"\n", b"null", JSON),
        (b"\xff\n", b"\xff\n", BINARY),
    ] {
        assert_eq!(result(printed.to_vec()), Content::new(bytes, content_type));
    }
}

/// A shell that has set its trap.
async fn shell(trap: &str) -> (Child, Group) {
    let mut child = Command::new("sh")
        .args([
            "-c",
            &format!("trap '{trap}' TERM; echo ready; while :; do sleep 0.01; done"),
        ])
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    let group = Group::of(&child);
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .await
        .unwrap();
    (child, group)
}

#[tokio::test]
async fn a_program_that_has_to_end_is_asked_first() {
    let (mut child, group) = shell("exit 7").await;
    let exit = wait(ready(()), &mut child, &group).await.unwrap();
    assert_eq!((exit.status.code(), exit.early), (Some(7), EndedEarly::Yes));
}

#[tokio::test]
async fn a_program_that_does_not_listen_is_killed() {
    let (mut child, group) = shell("").await;
    // With nothing else to do, the clock leaps over the patience.
    tokio::time::pause();
    let exit = wait(ready(()), &mut child, &group).await.unwrap();
    assert_eq!(
        (exit.status.signal(), exit.early),
        (Some(9), EndedEarly::Yes)
    );
}
