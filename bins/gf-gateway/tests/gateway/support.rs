//! A gateway of the test's own.

use std::net::SocketAddr;
use std::time::Duration;

use gf_gateway::Options;
use gf_process::WorkerOptions;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    http: reqwest::Client,
    shutdown: CancellationToken,
    running: JoinHandle<anyhow::Result<()>>,
}

pub(crate) fn options(num_workers: Option<u32>) -> Options {
    let worker = WorkerOptions {
        num_workers,
        grace: Duration::from_secs(5),
        ..WorkerOptions::default()
    };
    Options {
        listen: "127.0.0.1:0".to_owned(),
        worker,
        ..Options::default()
    }
}

impl Gateway {
    pub(crate) async fn start() -> Self {
        Self::with(options(None)).await
    }

    /// Without workers: what is pushed stays where it is.
    pub(crate) async fn idle() -> Self {
        Self::with(options(Some(0))).await
    }

    pub(crate) async fn with(options: Options) -> Self {
        let shutdown = CancellationToken::new();
        let (ready, listens) = oneshot::channel();
        let gateway = gf_gateway::run(
            options,
            |address| {
                let _ = ready.send(address);
            },
            shutdown.clone(),
        );
        let running = tokio::spawn(gateway);
        let address = listens.await.expect("the gateway did not become ready");
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(30))
            .build()
            .unwrap();
        Self {
            address,
            http,
            shutdown,
            running,
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, self.url(path))
    }

    /// Status and text.
    pub(crate) async fn text(&self, request: reqwest::RequestBuilder) -> (StatusCode, String) {
        let response = request.send().await.unwrap();
        (response.status(), response.text().await.unwrap())
    }

    /// Status and JSON.
    pub(crate) async fn json(&self, request: reqwest::RequestBuilder) -> (StatusCode, Value) {
        let (status, text) = self.text(request).await;
        (
            status,
            serde_json::from_str(&text)
                .unwrap_or_else(|error| panic!("{status} {text:?}: {error}")),
        )
    }

    pub(crate) async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.json(self.request(Method::GET, path)).await
    }

    pub(crate) async fn post(
        &self,
        path: &str,
        body: impl Into<reqwest::Body>,
    ) -> (StatusCode, Value) {
        self.json(self.request(Method::POST, path).body(body)).await
    }

    /// Pushes; the id.
    pub(crate) async fn push(&self, body: &str) -> String {
        let (status, answer) = self.post("/v1/tasks", body.to_owned()).await;
        assert_eq!(status, 202, "{answer}");
        answer["id"].as_str().unwrap().to_owned()
    }

    /// Pushes and waits for the end.
    pub(crate) async fn done(&self, body: &str) -> Value {
        let id = self.push(body).await;
        let (status, task) = self.get(&format!("/v1/tasks/{id}?wait=20s")).await;
        assert_eq!(status, 200, "{task}");
        task
    }

    /// What comes back on a connection of its own for these bytes, until it is closed.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // The gateway may have heard enough before all is said.
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer));
        // A reset is one way to close, too.
        let _ = read.await.expect("the connection was not closed");
        String::from_utf8_lossy(&answer).into_owned()
    }

    pub(crate) fn begin_shutdown(&self) {
        self.shutdown.cancel();
    }

    /// Ends it in good order.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        drop(self.http);
        let ended = tokio::time::timeout(Duration::from_secs(20), self.running).await;
        ended.expect("the gateway did not end").unwrap().unwrap();
    }
}

/// The problem's code.
pub(crate) fn code(problem: &Value) -> &str {
    problem["code"]
        .as_str()
        .unwrap_or_else(|| panic!("no problem: {problem}"))
}
