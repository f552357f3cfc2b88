//! The program itself.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gf-gateway"));
    command
        .args(args)
        .kill_on_drop(true)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

#[tokio::test]
async fn it_says_where_it_listens_and_ends_when_told() {
    let mut gateway = program(&["--listen", "127.0.0.1:0"]).spawn().unwrap();
    let mut out = BufReader::new(gateway.stdout.take().unwrap());
    let mut line = String::new();
    timeout(Duration::from_secs(20), out.read_line(&mut line))
        .await
        .unwrap()
        .unwrap();
    let url = line.strip_prefix("listening on ").unwrap().trim_end();
    assert!(
        reqwest::get(format!("{url}/readyz"))
            .await
            .unwrap()
            .status()
            .is_success()
    );

    let pid = gateway.id().unwrap().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .await
            .unwrap()
            .success()
    );
    let status = timeout(Duration::from_secs(20), gateway.wait())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(status.code(), Some(0));
    let mut rest = String::new();
    out.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "", "stdout holds one line");
}

#[tokio::test]
async fn it_does_not_open_itself_to_the_world_unasked() {
    let ended = timeout(
        Duration::from_secs(20),
        program(&["--listen", "0.0.0.0:0"]).output(),
    )
    .await
    .unwrap()
    .unwrap();
    let line = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(2), "{line}");
    assert!(
        line.starts_with("gf-gateway: ")
            && line.contains("--insecure-no-auth")
            && line.lines().count() == 1,
        "{line}"
    );
}

#[tokio::test]
async fn mistakes_in_the_call_end_with_2_and_absent_servers_with_1() {
    for (args, code) in [
        (&["--record", "none"][..], 2),
        (&["--grace", "30"], 2),
        (&["--store", "redis://a"], 2),
        (
            &["--listen", "127.0.0.1:0", "--broker", "nats://127.0.0.1:1"],
            1,
        ),
        (
            &["--listen", "127.0.0.1:0", "--handlers-path", "/nonexistent"],
            1,
        ),
    ] {
        let ended = timeout(Duration::from_secs(30), program(args).output())
            .await
            .unwrap()
            .unwrap();
        let text = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(code), "{args:?}: {text}");
    }
}
