//! Connections that do not come about: soon, and with one line that says why.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use goflow_conformance::broker::PATIENCE;
use goflow_nats::{Options, connect};
use goflow_test_servers::{Nats, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use uuid::Uuid;

/// The error of a connection attempt, as people see it: with its cause.
async fn refusal(servers: &str) -> String {
    let began = Instant::now();
    let options = Options {
        servers: vec![servers.to_owned()],
        ..Options::default()
    };
    let error = connect(options).await.expect_err("no connection");
    assert!(
        began.elapsed() < Duration::from_secs(6),
        "it took {:?}",
        began.elapsed()
    );
    let cause = std::error::Error::source(&error)
        .map(|cause| format!(": {cause}"))
        .unwrap_or_default();
    let text = format!("{error}{cause}");
    assert!(!text.contains('\n'), "one line: {text}");
    text
}

#[tokio::test]
async fn nobody_there_is_one_line() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let text = refusal(&format!("nats://me:secret@{address}")).await;
    assert!(
        text.contains(&format!(
            "cannot reach NATS at nats://{address}: connection refused"
        )),
        "{text}"
    );
    assert!(!text.contains("secret"), "{text}");
}

#[tokio::test]
async fn a_silent_server_is_one_line() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let text = refusal(&listener.local_addr().unwrap().to_string()).await;
    assert!(
        text.contains("cannot reach NATS at") && text.contains("timed out"),
        "{text}"
    );
}

#[tokio::test]
async fn an_old_server_is_one_line() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let info = r#"INFO {"server_id":"A","version":"2.9.10","proto":1,"headers":true,"max_payload":1048576}"#;
        stream
            .write_all(format!("{info}\r\n").as_bytes())
            .await
            .unwrap();
        let mut buffer = vec![0; 4096];
        while let Ok(1..) = stream.read(&mut buffer).await {
            let _ = stream.write_all(b"PONG\r\n").await;
        }
    });
    let text = refusal(&url).await;
    assert!(text.contains("2.9.10") && text.contains("2.14.5"), "{text}");
    server.abort();
}

/// A server with arguments of our own; ends with the test.
struct Special(Child);

impl Special {
    /// Gives its address, too.
    async fn start(arguments: &[&str]) -> (Self, String) {
        // The same program as the other tests use, wherever it is.
        let nats = Nats::start().expect("a NATS server");
        let program = std::fs::read_link(format!("/proc/{}/exe", nats.pid())).expect("its program");
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = free.local_addr().expect("an address");
        drop(free);
        let mut command = Command::new(program);
        command
            .args(["-a", "127.0.0.1", "-p", &address.port().to_string()])
            .args(arguments);
        let server = Self(
            command
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("a server that starts"),
        );
        eventually(PATIENCE, async || TcpStream::connect(&address).await)
            .await
            .expect("a server that starts");
        (server, address.to_string())
    }
}

impl Drop for Special {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn no_jetstream_is_one_line() {
    let (_server, address) = Special::start(&[]).await;
    let text = refusal(&format!("nats://{address}")).await;
    assert!(
        text.contains("no JetStream") && text.contains("-js"),
        "{text}"
    );
}

#[tokio::test]
async fn credentials_may_be_in_the_url() {
    let store = std::env::temp_dir().join(format!("goflow-auth-{}", Uuid::new_v4()));
    let arguments = [
        "--user",
        "me",
        "--pass",
        "secret",
        "-js",
        "-sd",
        store.to_str().unwrap(),
    ];
    let (server, address) = Special::start(&arguments).await;
    for wrong in ["", "me:wrong@"] {
        let text = refusal(&format!("nats://{wrong}{address}")).await;
        assert!(
            text.contains("does not let us in") && !text.contains("wrong"),
            "{text}"
        );
    }
    let in_url = Options {
        servers: vec![format!("nats://me:secret@{address}")],
        ..Options::default()
    };
    let user = Some(("me".to_owned(), "secret".to_owned()));
    let apart = Options {
        servers: vec![address],
        user,
        ..Options::default()
    };
    for options in [in_url, apart] {
        connect(options)
            .await
            .unwrap()
            .control
            .ping()
            .await
            .unwrap();
    }
    drop(server);
    std::fs::remove_dir_all(store).unwrap();
}
