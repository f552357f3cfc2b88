//! What a client is told when something goes wrong: the one place where errors become HTTP and gRPC answers.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use gf_process::one_line;
use goflow_core::{Error, TaskId, broker, store};
use serde::Serialize;
use serde_json::value::RawValue;
use tonic::metadata::MetadataValue;

/// The stable code of an error. Clients decide by it; the detail beside it is for people and may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    BrokerUnavailable,
    CrossOrigin,
    Duplicate,
    Internal,
    Invalid,
    InvalidBody,
    InvalidId,
    InvalidName,
    InvalidQuery,
    KeyReused,
    MethodNotAllowed,
    NeedsFullRecord,
    NoWorker,
    NotFound,
    NotReady,
    NotRecordedYet,
    NotSupported,
    Overloaded,
    QueueFull,
    SlowBody,
    StoreUnavailable,
    TooLarge,
    UnknownRoute,
    WaitTimeout,
    WrongHost,
    WrongState,
}

impl Code {
    /// The code as clients see it, with its HTTP and its gRPC status.
    fn row(self) -> (&'static str, StatusCode, tonic::Code) {
        use tonic::Code as G;
        match self {
            Self::BrokerUnavailable => (
                "broker_unavailable",
                StatusCode::SERVICE_UNAVAILABLE,
                G::Unavailable,
            ),
            Self::CrossOrigin => ("cross_origin", StatusCode::FORBIDDEN, G::PermissionDenied),
            Self::Duplicate => ("duplicate", StatusCode::CONFLICT, G::AlreadyExists),
            Self::Internal => ("internal", StatusCode::INTERNAL_SERVER_ERROR, G::Internal),
            Self::Invalid => ("invalid", StatusCode::BAD_REQUEST, G::InvalidArgument),
            Self::InvalidBody => ("invalid_body", StatusCode::BAD_REQUEST, G::InvalidArgument),
            Self::InvalidId => ("invalid_id", StatusCode::BAD_REQUEST, G::InvalidArgument),
            Self::InvalidName => ("invalid_name", StatusCode::BAD_REQUEST, G::InvalidArgument),
            Self::InvalidQuery => ("invalid_query", StatusCode::BAD_REQUEST, G::InvalidArgument),
            Self::KeyReused => (
                "key_reused",
                StatusCode::UNPROCESSABLE_ENTITY,
                G::AlreadyExists,
            ),
            Self::MethodNotAllowed => (
                "method_not_allowed",
                StatusCode::METHOD_NOT_ALLOWED,
                G::Unimplemented,
            ),
            Self::NeedsFullRecord => (
                "needs_full_record",
                StatusCode::CONFLICT,
                G::FailedPrecondition,
            ),
            Self::NoWorker => ("no_worker", StatusCode::NOT_FOUND, G::NotFound),
            Self::NotFound => ("not_found", StatusCode::NOT_FOUND, G::NotFound),
            Self::NotReady => ("not_ready", StatusCode::SERVICE_UNAVAILABLE, G::Unavailable),
            Self::NotRecordedYet => ("not_recorded_yet", StatusCode::NOT_FOUND, G::NotFound),
            Self::NotSupported => ("not_supported", StatusCode::BAD_REQUEST, G::InvalidArgument),
            Self::Overloaded => (
                "overloaded",
                StatusCode::SERVICE_UNAVAILABLE,
                G::Unavailable,
            ),
            Self::QueueFull => (
                "queue_full",
                StatusCode::TOO_MANY_REQUESTS,
                G::ResourceExhausted,
            ),
            Self::SlowBody => (
                "slow_body",
                StatusCode::REQUEST_TIMEOUT,
                G::DeadlineExceeded,
            ),
            Self::StoreUnavailable => (
                "store_unavailable",
                StatusCode::SERVICE_UNAVAILABLE,
                G::Unavailable,
            ),
            Self::TooLarge => (
                "too_large",
                StatusCode::PAYLOAD_TOO_LARGE,
                G::InvalidArgument,
            ),
            Self::UnknownRoute => ("unknown_route", StatusCode::NOT_FOUND, G::Unimplemented),
            Self::WaitTimeout => (
                "wait_timeout",
                StatusCode::GATEWAY_TIMEOUT,
                G::DeadlineExceeded,
            ),
            Self::WrongHost => (
                "wrong_host",
                StatusCode::MISDIRECTED_REQUEST,
                G::PermissionDenied,
            ),
            Self::WrongState => ("wrong_state", StatusCode::CONFLICT, G::FailedPrecondition),
        }
    }
}

/// An error on its way to a client.
#[derive(Debug)]
pub(crate) struct Problem {
    code: Code,
    detail: String,
    task: Option<Box<RawValue>>,
    /// The task that has the unique key.
    existing: Option<TaskId>,
}

impl Problem {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            // A detail may quote what the client sent, of any length, and gRPC sends it as a header.
            detail: one_line(&detail.into()),
            task: None,
            existing: None,
        }
    }

    pub(crate) fn code(&self) -> Code {
        self.code
    }

    /// The same, said of a part of the request.
    pub(crate) fn within(mut self, part: impl std::fmt::Display) -> Self {
        self.detail = one_line(&format!("{part}: {}", self.detail));
        self
    }

    /// The same, with the task whose state is in the way.
    pub(crate) fn with_task(mut self, task: Box<RawValue>) -> Self {
        self.task = Some(task);
        self
    }
}

impl From<goflow_core::InvalidName> for Problem {
    fn from(error: goflow_core::InvalidName) -> Self {
        Self::new(Code::InvalidName, error.to_string())
    }
}

impl From<Error> for Problem {
    /// Says of the caller's mistakes what they are, and of everything else only its kind: what a driver
    /// says goes to the log.
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::Name(_) => Code::InvalidName,
            Error::Invalid(_) => Code::Invalid,
            Error::Payload(_) => Code::InvalidBody,
            Error::TooLarge { .. } => Code::TooLarge,
            Error::QueueFull { .. } => Code::QueueFull,
            Error::KeyReused => Code::KeyReused,
            Error::Duplicate(existing) => {
                let mut problem = Self::new(Code::Duplicate, error.to_string());
                problem.existing = Some(*existing);
                return problem;
            }
            Error::NoWorker(_) => Code::NoWorker,
            Error::NotFound(_) => Code::NotFound,
            Error::NotRecordedYet(_) => Code::NotRecordedYet,
            Error::NeedsFullRecord(_) => Code::NeedsFullRecord,
            Error::Forbidden { .. } | Error::NoResult { .. } => Code::WrongState,
            Error::WaitTimeout(_) => Code::WaitTimeout,
            Error::Broker(broker::Error::Full { .. }) => {
                return Self::new(Code::QueueFull, "the queue is full: push again later");
            }
            Error::NotStarted => {
                return Self::new(Code::NotReady, "the gateway is starting or about to end");
            }
            Error::Broker(broker::Error::Unavailable { .. } | broker::Error::NoChannel { .. }) => {
                log(&error);
                return Self::new(
                    Code::BrokerUnavailable,
                    "the broker does not answer: try again",
                );
            }
            Error::Store(store::Error::Unavailable { .. } | store::Error::Claimed) => {
                log(&error);
                return Self::new(
                    Code::StoreUnavailable,
                    "the store does not answer: try again",
                );
            }
            _ => {
                log(&error);
                return Self::new(
                    Code::Internal,
                    "something went wrong in the gateway; its log says what",
                );
            }
        };
        Self::new(code, error.to_string())
    }
}

fn log(error: &Error) {
    let source = std::error::Error::source(error).map(ToString::to_string);
    tracing::warn!(error = %error, source = source.as_deref(), "request failed");
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    code: &'a str,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    existing: Option<String>,
}

impl Problem {
    /// The body of the answer, as RFC 9457 has it.
    pub(crate) fn body(&self) -> Vec<u8> {
        let (code, status, _) = self.code.row();
        let body = Body {
            r#type: format!("urn:goflow:problem:{code}"),
            title: status.canonical_reason().unwrap_or(code),
            status: status.as_u16(),
            code,
            detail: &self.detail,
            task: self.task.as_deref(),
            existing: self.existing.map(|id| id.to_string()),
        };
        serde_json::to_vec(&body).unwrap_or_default()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (_, status, _) = self.code.row();
        let mut response = (status, self.body()).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if matches!(
            status,
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS
        ) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if matches!(self.code, Code::SlowBody) {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl From<Problem> for tonic::Status {
    fn from(problem: Problem) -> Self {
        let (code, _, status) = problem.code.row();
        let mut status = Self::new(status, problem.detail);
        status.metadata_mut().insert(
            goflow_proto::CODE_METADATA,
            MetadataValue::from_static(code),
        );
        let existing = problem.existing.and_then(|id| id.to_string().parse().ok());
        if let Some(id) = existing {
            status
                .metadata_mut()
                .insert(goflow_proto::EXISTING_METADATA, id);
        }
        status
    }
}

/// Answers a gRPC call that never reaches its service.
pub(crate) fn grpc_response(problem: Problem) -> Response {
    let (parts, ()) = tonic::Status::from(problem).into_http::<()>().into_parts();
    Response::from_parts(parts, axum::body::Body::empty())
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn what_a_driver_says_stays_inside() {
        let secret = io::Error::other("password=hunter2");
        let problem = Problem::from(Error::Store(store::Error::unavailable("accept", secret)));
        let text = String::from_utf8(problem.body()).unwrap();
        assert!(
            !text.contains("hunter2") && text.contains("\"code\":\"store_unavailable\""),
            "{text}"
        );
        let response = problem.into_response();
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    }

    #[test]
    fn a_duplicate_names_the_task_that_is_there() {
        let id = TaskId::new();
        let problem = Problem::from(Error::Duplicate(id));
        let body: serde_json::Value = serde_json::from_slice(&problem.body()).unwrap();
        assert_eq!(
            (&body["code"], &body["status"], &body["existing"]),
            (&"duplicate".into(), &409.into(), &id.to_string().into())
        );
        let status = tonic::Status::from(problem);
        assert_eq!(status.code(), tonic::Code::AlreadyExists);
        assert_eq!(
            status
                .metadata()
                .get(goflow_proto::EXISTING_METADATA)
                .unwrap(),
            id.to_string().as_str()
        );
    }

    #[test]
    fn both_surfaces_tell_the_same_code() {
        let id = TaskId::new();
        let status = tonic::Status::from(Problem::from(Error::NotFound(id)));
        assert_eq!(status.code(), tonic::Code::NotFound);
        assert_eq!(
            status.metadata().get(goflow_proto::CODE_METADATA).unwrap(),
            "not_found"
        );
        assert_eq!(
            Problem::from(Error::NotFound(id)).into_response().status(),
            404
        );
    }
}
