//! `gf dev`.

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::support::{self, gf};

/// Starts it; the process, and where it listens.
async fn start(args: &[&str]) -> (Child, String) {
    let mut dev = gf(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(dev.stdout.take().unwrap()).lines();
    let line = timeout(Duration::from_secs(20), lines.next_line()).await;
    let line = line.unwrap().unwrap().unwrap();
    let url = line.strip_prefix("listening on ").unwrap().to_owned();
    (dev, url)
}

#[tokio::test]
async fn everything_runs_in_one_process() {
    let (mut dev, url) = start(&["dev", "--listen", "127.0.0.1:0"]).await;
    let ended = support::run(&["--server", &url, "push", "echo", "{\"N\":10}", "--wait"]).await;
    assert_eq!((ended.code, ended.out.as_str()), (Some(0), "{\"N\":10}\n"));

    let pid = dev.id().unwrap().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .await
            .unwrap()
            .success()
    );
    assert_eq!(
        timeout(Duration::from_secs(20), dev.wait())
            .await
            .unwrap()
            .unwrap()
            .code(),
        Some(0)
    );
}

#[tokio::test]
async fn only_so_many_finished_tasks_are_kept() {
    let args = ["dev", "--listen", "127.0.0.1:0", "--keep-finished", "1"];
    let (mut dev, url) = start(&args).await;
    let mut ids = Vec::new();
    for payload in ["1", "2"] {
        let push = [
            "--server", &url, "--output", "json", "push", "echo", payload,
        ];
        ids.push(support::run(&push).await.out.trim().to_owned());
        let wait = ["--server", &url, "wait", &ids[ids.len() - 1]];
        assert_eq!(support::run(&wait).await.code, Some(0));
    }
    let get = async |id: &str| support::run(&["--server", &url, "get", id]).await;
    assert_eq!(get(&ids[1]).await.code, Some(0));
    let gone = get(&ids[0]).await;
    assert_eq!((gone.code, gone.out.as_str()), (Some(1), ""), "{gone:?}");
    dev.kill().await.unwrap();
}

#[tokio::test]
async fn one_task_and_out() {
    let handlers = tempfile::tempdir().unwrap();
    let script = handlers.path().join("double.sh");
    std::fs::write(&script, "#!/bin/sh\nread -r n\necho $((n * 2))\n").unwrap();
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    let path = handlers.path().to_str().unwrap();
    let ended = support::run(&["dev", "--handlers-path", path, "--once", "double", "21"]).await;
    assert_eq!(
        (ended.code, ended.out.as_str(), ended.err.as_str()),
        (Some(0), "42\n", "")
    );

    let ended = support::run(&["dev", "--once", "echo", "not json"]).await;
    assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""), "{ended:?}");
    let ended = support::run(&["dev", "--once", "nobody", "1", "--timeout", "500ms"]).await;
    assert_eq!((ended.code, ended.out.as_str()), (Some(3), ""), "{ended:?}");
}
