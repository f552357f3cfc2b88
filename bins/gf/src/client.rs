//! A client of the gateway's HTTP surface.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use reqwest::{Method, RequestBuilder, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::failure::Failure;
use crate::task::Task;

/// The longest wait the gateway grants a request.
const ROUND: Duration = Duration::from_secs(60);

/// How long the gateway may take over anything but a wait.
const PATIENCE: Duration = Duration::from_secs(30);

/// The pause before the next round of a wait that was cut short.
const PAUSE: Duration = Duration::from_millis(500);

/// A client of one gateway.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    server: Url,
}

#[derive(Deserialize)]
struct Problem {
    code: String,
    detail: String,
}

impl Client {
    /// A client of the gateway at `server`, such as `http://127.0.0.1:8080`.
    ///
    /// # Errors
    /// [`Failure::Usage`] when that is no HTTP URL.
    pub fn new(server: &str) -> Result<Self> {
        let usage = |why: String| Failure::Usage(format!("--server {server:?}: {why}"));
        let mut url: Url = server
            .parse()
            .map_err(|_| usage("not a URL; write http://HOST:PORT".to_owned()))?;
        if url.scheme() != "http" || !url.has_host() {
            return Err(usage("only http://HOST:PORT works".to_owned()).into());
        }
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        let http = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(Duration::from_secs(5))
            .build();
        Ok(Self {
            http: http.context("make an HTTP client")?,
            server: url,
        })
    }

    /// The address it asks.
    pub(crate) fn server(&self) -> &str {
        self.server.as_str().trim_end_matches('/')
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> Result<RequestBuilder> {
        let url = self
            .server
            .join(path)
            .context("make the address of the request")?;
        Ok(self.http.request(method, url).timeout(PATIENCE))
    }

    /// The text of a good answer; of a bad one, what the gateway says about it.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<String> {
        let (status, text) = self.answer(request).await?;
        if status.is_success() {
            return Ok(text);
        }
        let Ok(Problem { code, detail }) = serde_json::from_str(&text) else {
            anyhow::bail!(
                "{} answered {status}, and not as a goflow gateway does",
                self.server()
            );
        };
        Err(match status {
            StatusCode::BAD_REQUEST
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNPROCESSABLE_ENTITY => Failure::Usage(detail).into(),
            _ => Failure::Refused { code, detail }.into(),
        })
    }

    /// Status and text of any answer.
    pub(crate) async fn answer(&self, request: RequestBuilder) -> Result<(StatusCode, String)> {
        let response = request
            .send()
            .await
            .map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        let text = response
            .text()
            .await
            .map_err(|error| self.unreachable(&error))?;
        Ok((status, text))
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let mut cause: &dyn std::error::Error = error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        let hint = "start one with `gf dev`, or say where it is with --server";
        Failure::Unreachable(format!(
            "no gateway answers at {}: {cause}; {hint}",
            self.server()
        ))
    }

    pub(crate) async fn get(&self, path: &str) -> Result<String> {
        self.send(self.request(Method::GET, path)?).await
    }

    pub(crate) async fn post(&self, path: &str) -> Result<String> {
        self.send(self.request(Method::POST, path)?).await
    }

    /// Waits for a task's end, in as many rounds as it takes. A gateway that goes away meanwhile may come back.
    pub(crate) async fn wait(&self, id: &str, timeout: Duration) -> Result<Task> {
        let end = Instant::now() + timeout;
        let mut first = true;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let round = left.min(ROUND);
            let begun = Instant::now();
            let path = format!("{}?wait={}ms", task_path(id), round.as_millis());
            let request = self.request(Method::GET, &path)?.timeout(round + PATIENCE);
            let failure = match self.send(request).await {
                Ok(text) => {
                    let task: Task = parse(&text)?;
                    if task.state.is_terminal() {
                        return Ok(task);
                    }
                    None
                }
                Err(error) if is_passing(&error, first) => Some(error),
                Err(error) => return Err(error),
            };
            first = false;
            if Instant::now() >= end {
                let late = || {
                    Failure::TimedOut(format!(
                        "task {id} was not finished after {}",
                        humantime::format_duration(timeout)
                    ))
                };
                return Err(failure
                    .filter(|error| !is_unrecorded(error))
                    .unwrap_or_else(|| late().into()));
            }
            if begun.elapsed() < round / 2 {
                tokio::time::sleep(PAUSE.min(end.saturating_duration_since(Instant::now()))).await;
            }
        }
    }
}

/// Whether the next round of a wait may go better.
fn is_passing(error: &anyhow::Error, first: bool) -> bool {
    match error.downcast_ref::<Failure>() {
        Some(Failure::Unreachable(_)) => !first,
        Some(Failure::Refused { code, .. }) => {
            matches!(
                code.as_str(),
                "store_unavailable" | "not_recorded_yet" | "not_ready" | "overloaded"
            )
        }
        _ => false,
    }
}

fn is_unrecorded(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(Failure::Refused { code, .. }) if code == "not_recorded_yet")
}

/// The path of a task.
pub(crate) fn task_path(id: &str) -> String {
    format!("v1/tasks/{}", segment(id))
}

/// An id or a name in a path. One that is none stays a single segment, and the gateway says what it thinks of it.
pub(crate) fn segment(name: &str) -> String {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    name.bytes()
        .map(|byte| {
            if legal(byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

/// Reads an answer.
pub(crate) fn parse<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).context("read the gateway's answer")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_http_will_do() {
        assert_eq!(
            Client::new("http://127.0.0.1:8080").unwrap().server(),
            "http://127.0.0.1:8080"
        );
        for bad in ["127.0.0.1:8080", "https://a", "", "http://"] {
            let error = Client::new(bad).unwrap_err();
            assert!(
                matches!(error.downcast_ref(), Some(Failure::Usage(_))),
                "{bad}: {error:#}"
            );
        }
    }

    #[test]
    fn ids_stay_one_segment() {
        assert_eq!(task_path("018f-a"), "v1/tasks/018f-a");
        assert_eq!(task_path("../a?b/ä"), "v1/tasks/%2E%2E%2Fa%3Fb%2F%C3%A4");
    }

    #[tokio::test]
    async fn nobody_there_is_a_failure_of_its_own() {
        // Port 1 of loopback refuses at once.
        let client = Client::new("http://127.0.0.1:1").unwrap();
        for error in [
            client.get("livez").await.unwrap_err(),
            client.wait("a", Duration::from_secs(9)).await.unwrap_err(),
        ] {
            assert!(
                matches!(error.downcast_ref(), Some(Failure::Unreachable(_))),
                "{error:#}"
            );
        }
    }
}
