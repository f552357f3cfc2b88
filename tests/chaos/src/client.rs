//! The gateways as a client sees them. Whatever happens is an answer.

use std::time::Duration;

use goflow_core::TaskId;
use reqwest::{RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::history::{Answer, Seen};

/// The longest a request may take, waits aside.
const PATIENCE: Duration = Duration::from_secs(8);

/// How long one wait for a task's end takes at most.
const WAIT: Duration = Duration::from_secs(5);

/// All gateways.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    gateways: Vec<String>,
}

impl Client {
    /// A client of the gateways at these URLs.
    pub fn new(gateways: Vec<String>) -> Self {
        Self {
            http: reqwest::Client::new(),
            gateways,
        }
    }

    /// How many gateways there are.
    pub fn gateways(&self) -> usize {
        self.gateways.len()
    }

    /// Pushes a task.
    pub async fn push(&self, gateway: usize, body: &Value, key: Option<&str>) -> Answer {
        let mut request = self.http.post(self.url(gateway, "/v1/tasks")).json(body);
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        match ask(request.timeout(PATIENCE)).await {
            Ok(body) => match id(&body["id"]) {
                Some(id) => Answer::Accepted(id),
                None => Answer::Unknown(format!("no id in {body}")),
            },
            Err(answer) => answer,
        }
    }

    /// Pushes several tasks at once: an answer each.
    pub async fn push_batch(&self, gateway: usize, bodies: &[Value]) -> Vec<Answer> {
        let request = self.http.post(self.url(gateway, "/v1/tasks/batch"));
        let request = request.json(&json!({ "tasks": bodies })).timeout(PATIENCE);
        let all = |answer: Answer| vec![answer; bodies.len()];
        let body = match ask(request).await {
            Ok(body) => body,
            Err(answer) => return all(answer),
        };
        let ids: Option<Vec<_>> = body["ids"]
            .as_array()
            .and_then(|ids| ids.iter().map(id).collect());
        match ids {
            Some(ids) if ids.len() == bodies.len() => {
                ids.into_iter().map(Answer::Accepted).collect()
            }
            _ => all(Answer::Unknown(format!(
                "not {} ids in {body}",
                bodies.len()
            ))),
        }
    }

    /// The task as it is; with `wait`, once it has ended or some seconds have passed.
    pub async fn read(&self, gateway: usize, task: TaskId, wait: bool) -> Answer {
        let mut path = format!("/v1/tasks/{task}");
        let mut patience = PATIENCE;
        if wait {
            path = format!("{path}?wait={}", WAIT.as_secs_f64());
            patience += WAIT;
        }
        seen(self.http.get(self.url(gateway, &path)).timeout(patience)).await
    }

    /// Cancels it.
    pub async fn cancel(&self, gateway: usize, task: TaskId) -> Answer {
        let path = format!("/v1/tasks/{task}/cancel");
        seen(self.http.post(self.url(gateway, &path)).timeout(PATIENCE)).await
    }

    /// Has it tried once more.
    pub async fn retry(&self, gateway: usize, task: TaskId) -> Answer {
        let path = format!("/v1/tasks/{task}/retry");
        seen(self.http.post(self.url(gateway, &path)).timeout(PATIENCE)).await
    }

    /// Whether a gateway says that it is ready.
    pub async fn is_ready(&self, gateway: usize) -> bool {
        let request = self.http.get(self.url(gateway, "/readyz"));
        let answer = request.timeout(Duration::from_secs(2)).send().await;
        answer.is_ok_and(|answer| answer.status() == StatusCode::OK)
    }

    fn url(&self, gateway: usize, path: &str) -> String {
        let gateway = self.gateways.get(gateway).map_or("", String::as_str);
        format!("{gateway}{path}")
    }
}

async fn seen(request: RequestBuilder) -> Answer {
    match ask(request).await {
        Ok(body) => match Seen::parse(&body) {
            Ok(seen) => Answer::Task(Box::new(seen)),
            Err(error) => Answer::Unknown(format!("{error:#} in {body}")),
        },
        Err(answer) => answer,
    }
}

async fn ask(request: RequestBuilder) -> Result<Value, Answer> {
    let unknown = |error: reqwest::Error| {
        // Nobody was reached, so nothing was done.
        if error.is_connect() {
            return Answer::No(0, "not connected".to_owned());
        }
        Answer::Unknown(format!("{:#}", anyhow::Error::from(error)))
    };
    let answer = request.send().await.map_err(unknown)?;
    let status = answer.status();
    let text = answer.text().await.map_err(unknown)?;
    let body: Value = serde_json::from_str(&text).unwrap_or_default();
    let code = || body["code"].as_str().unwrap_or_default().to_owned();
    if status.is_success() {
        Ok(body)
    } else if status.is_client_error() && status != StatusCode::REQUEST_TIMEOUT {
        Err(Answer::No(status.as_u16(), code()))
    } else {
        Err(Answer::Unknown(format!("{status} {}", code())))
    }
}

fn id(value: &Value) -> Option<TaskId> {
    value.as_str()?.parse().ok()
}
